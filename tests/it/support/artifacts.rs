//! Keys, a store, and small sealed backups for tests.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat::domain::artifact::{Basis, MANIFEST_FORMAT, Manifest, MemberKind, RecoveryPoint, Stream, StreamKind};
use lifeboat::domain::check::Stop;
use lifeboat::domain::ids::{BackupId, PolicyName};
use lifeboat::domain::inventory::{Fingerprint, Server};
use lifeboat::domain::lsn::Lsn;
use lifeboat::domain::policy::Method;
use lifeboat::domain::units::Span;
use lifeboat::seal::{self, Member, Opener, SealOptions, Sealer, Signer, TrustedSigners};
use lifeboat::store::{FileStore, Store};

/// A folder with a store and keys of each kind.
pub struct Yard {
    pub folder: tempfile::TempDir,
    pub store: Arc<dyn Store>,
    pub identity: PathBuf,
    pub recipient: String,
    pub opener: Opener,
    pub signer: Signer,
    pub public_key: PathBuf,
    pub trusted: TrustedSigners,
}

/// Writes a file of this mode.
pub fn write_mode(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub fn policy() -> PolicyName {
    "orders".parse().unwrap()
}

pub fn backup(number: u32) -> BackupId {
    BackupId::new("2026-01-31T03:00:00Z".parse().unwrap(), number)
}

impl Yard {
    pub fn new() -> Yard {
        let folder = tempfile::Builder::new().prefix("lb-seal-").tempdir().unwrap();
        let (text, recipient) = seal::generate_identity();
        let identity = folder.path().join("identity.txt");
        write_mode(&identity, &text, 0o600);
        let (private, public) = seal::generate_signing_key().unwrap();
        let (signing, public_key) = (folder.path().join("signing.pem"), folder.path().join("signing.pub.pem"));
        write_mode(&signing, &private, 0o600);
        write_mode(&public_key, &public, 0o644);
        Yard {
            store: Arc::new(FileStore::open(&folder.path().join("store")).unwrap()),
            opener: Opener::read(std::slice::from_ref(&identity)).unwrap(),
            signer: Signer::read(&signing).unwrap(),
            trusted: TrustedSigners::read(std::slice::from_ref(&public_key)).unwrap(),
            folder,
            identity,
            recipient,
            public_key,
        }
    }

    /// Where an object lies.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("store").join(key)
    }

    pub fn options(&self, part_bytes: usize, threads: usize) -> SealOptions {
        SealOptions { recipients: vec![self.recipient.clone()], level: 3, part_bytes, threads }
    }

    pub fn sealer(&self, prefix: &str, part_bytes: usize) -> Sealer {
        Sealer::new(self.store.clone(), prefix.to_owned(), self.options(part_bytes, 2)).unwrap()
    }

    /// Seals bytes as the stream `base`, without members.
    pub async fn seal_bytes(&self, prefix: &str, part_bytes: usize, bytes: Vec<u8>) -> Stream {
        let mut writer = self.sealer(prefix, part_bytes).stream("base", StreamKind::Tar);
        blocking(move || {
            writer.write(&bytes).unwrap();
            writer.finish().unwrap()
        })
        .await
    }

    /// A small whole backup: a stream of four parts with two members, globals, manifest and signature.
    pub async fn whole_backup(&self, number: u32) -> Manifest {
        let id = backup(number);
        let sealer = self.sealer(&format!("{}/{id}", policy()), 10_000);
        let streams = blocking(move || {
            let mut base = sealer.stream("base", StreamKind::Tar);
            for (path, size) in [("base/1", 22_000_u64), ("empty", 0), ("PG_VERSION", 3)] {
                base.write(&[b'h'; 512]).unwrap();
                base.member(Member { path: path.to_owned(), kind: MemberKind::File, mode: 0o600, size }).unwrap();
                base.write(&noise(u64::from(number) + size, usize::try_from(size).unwrap())).unwrap();
            }
            base.write(&[0; 12_000]).unwrap();
            let mut globals = sealer.stream("globals", StreamKind::Globals);
            globals.write(b"create role shop;\n").unwrap();
            vec![base.finish().unwrap(), globals.finish().unwrap()]
        })
        .await;
        let manifest = manifest(&id, streams, vec![self.recipient.clone()]);
        seal::store_manifest(&*self.store, &manifest, &self.signer).await.unwrap();
        manifest
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The word of the first finding; an error is none.
pub fn code(stop: Stop) -> String {
    match stop {
        Stop::Found(findings) => findings[0].code.clone(),
        Stop::Broke(broke) => panic!("a finding was expected, not an error: {broke}"),
    }
}

/// Runs on a blocking thread, as writers must.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A manifest over these streams.
pub fn manifest(id: &BackupId, streams: Vec<Stream>, recipients: Vec<String>) -> Manifest {
    let at = "2026-01-31T03:00:00Z".parse().unwrap();
    let server = Server {
        system_identifier: "7300000000000000001".to_owned(),
        version_num: 150_000,
        version: "15.0".to_owned(),
        data_checksums: true,
        in_recovery: false,
        timeline: 1,
        lsn: Lsn(0x0100_0000),
        clock: at,
        wal_segment_bytes: 16 << 20,
        settings: BTreeMap::new(),
    };
    Manifest {
        format: MANIFEST_FORMAT.to_owned(),
        backup: id.clone(),
        policy: policy(),
        job: "nightly".parse().unwrap(),
        sequence: 1,
        method: Method::Physical,
        started_at: at,
        finished_at: at,
        recovery_point: RecoveryPoint { at, lsn: None, basis: Basis::EndOfBackup },
        wal: None,
        streams,
        recipients,
        pages: None,
        fingerprint: Fingerprint {
            server,
            roles: vec![],
            tablespaces: vec![],
            databases: vec![],
            unseen: vec![],
            changed_meanwhile: vec![],
            shared: None,
        },
        tools: BTreeMap::new(),
        clock_skew: Span::ZERO,
    }
}
