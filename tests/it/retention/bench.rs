//! A policy with a history of small sealed backups, in a store that can be in the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lifeboat::catalog::{Opened, SqliteCatalog};
use lifeboat::domain::artifact::{Manifest, WalRange};
use lifeboat::domain::config::{Config, Keys, Limits, ScratchConfig, StoreConfig, StorePlace};
use lifeboat::domain::ids::{BackupId, PlaceName, RunId};
use lifeboat::domain::lsn::Lsn;
use lifeboat::domain::observed::Observed;
use lifeboat::domain::policy::{Policy, Retention, WalPlan};
use lifeboat::domain::run::{ArtifactRecord, Event};
use lifeboat::domain::transcript::Verdict;
use lifeboat::domain::units::Span;
use lifeboat::domain::wal::{Contents, Segment, WalName};
use lifeboat::engine::House;
use lifeboat::engine::prune::{self, Asked, Pruned, Stores};
use lifeboat::seal::{self, Placed, WalFile, WalSealer};
use lifeboat::store::{ObjectInfo, Protection, Store, StoreError};

use crate::support::artifacts::{Yard, manifest, policy};
use crate::support::sample;

pub const MIB: u64 = 1 << 20;
pub const CLUSTER: &str = "7300000000000000001";

/// One a day up to a few hours ago, so that the store's own dates fit.
pub struct Bench {
    pub yard: Yard,
    pub house: House,
    pub now: Timestamp,
}

pub fn place() -> PlaceName {
    "primary".parse().unwrap()
}

pub fn days(count: i64) -> Span {
    Span::from_secs(count * 86_400)
}

impl Bench {
    /// With a physical job of this retention.
    pub fn new(retention: Retention) -> Bench {
        let yard = Yard::new();
        let folder = yard.folder.path().to_owned();
        let mut one: Policy = sample::policy();
        one.backups.truncate(1);
        one.backups[0].name = "nightly".parse().unwrap();
        one.backups[0].retention = Some(retention);
        one.backups[0].store = place();
        one.drills.clear();
        one.encryption.recipients = vec![yard.recipient.clone()];
        let store = StoreConfig {
            place: StorePlace::File { path: folder.join("store") },
            media: "disk".parse().unwrap(),
            site: None,
        };
        let config = Config {
            file: folder.clone(),
            catalog: folder.clone().into(),
            policies: folder.clone(),
            drills: folder.clone(),
            reports: folder.clone(),
            stores: BTreeMap::from([(place(), store)]),
            keys: Keys {
                identities: vec![yard.identity.clone()],
                escrow: vec![],
                signing: Some(folder.join("signing.pem")),
                trusted_signers: vec![yard.public_key.clone()],
            },
            scratch: ScratchConfig {
                dir: folder.clone(),
                user: "postgres".to_owned(),
                preload: vec![],
                servers: BTreeMap::new(),
            },
            bin_dirs: vec![],
            limits: Limits { parallel: 2, connect_timeout: Span::from_secs(5) },
            watch: Default::default(),
            schedule: Default::default(),
            serve: Default::default(),
        };
        let Opened { catalog, queue, outbox } = SqliteCatalog::open(&folder.join("lifeboat.db")).unwrap().into();
        let house = House {
            config,
            policies: vec![one].into(),
            drills: vec![],
            warnings: vec![],
            catalog,
            outbox,
            queue,
            stand_ins: BTreeMap::new(),
            only: None,
            buckets: Default::default(),
            fence: None,
        };
        Bench { yard, house, now: lifeboat::clock::now() }
    }

    pub fn policy(&self) -> &Policy {
        &self.house.policies[0]
    }

    pub fn keep_log(&mut self, keep: Span) {
        Arc::make_mut(&mut self.house.policies)[0].wal =
            Some(WalPlan { stream: false, lag: None, heartbeat: None, spool: None, keep: Some(keep) });
    }

    /// The backup of so many days ago.
    pub fn id(&self, ago: i64) -> BackupId {
        BackupId::new(self.moment(ago), u32::try_from(ago).unwrap())
    }

    pub fn moment(&self, ago: i64) -> Timestamp {
        self.now.checked_sub(SignedDuration::from_hours(ago * 24 + 3)).unwrap()
    }

    /// Takes the backup of so many days ago. It needs the log's segments 10 × the day before 100 and the next one.
    pub async fn take(&self, ago: i64) -> Manifest {
        let (id, at) = (self.id(ago), self.moment(ago));
        let stream = self.yard.seal_bytes(&format!("{}/{id}", policy()), 1_000, vec![7; 2_500]).await;
        let mut one = manifest(&id, vec![stream], vec![self.yard.recipient.clone()]);
        one.sequence = u64::try_from(1_000 - ago).unwrap();
        (one.started_at, one.finished_at, one.recovery_point.at) = (at, at, at);
        one.fingerprint.server.wal_segment_bytes = MIB;
        let first = first_segment(ago);
        one.wal = Some(WalRange { timeline: 1, start: Lsn(first * MIB + 40), end: Lsn((first + 1) * MIB + 500) });
        let sha256 = seal::store_manifest(&*self.yard.store, &one, &self.yard.signer).await.unwrap();
        let event = Event::Committed(ArtifactRecord::of(&one, &sha256, &place()));
        self.house.catalog.append(at, &policy(), RunId(uuid::Uuid::now_v7()), event).await.unwrap();
        one
    }

    pub async fn take_days(&self, ago: impl Iterator<Item = i64>) {
        for ago in ago {
            self.take(ago).await;
        }
    }

    /// A drill that proved it so many days ago.
    pub async fn prove(&self, backup: i64, ago: i64) {
        let event = self.proof(backup, ago);
        self.house.catalog.append(self.moment(ago), &policy(), RunId(uuid::Uuid::now_v7()), event).await.unwrap();
    }

    /// What such a drill says.
    pub fn proof(&self, backup: i64, ago: i64) -> Event {
        let mut transcript = sample::physical();
        transcript.backup.as_mut().unwrap().id = self.id(backup);
        transcript.finished_at = self.moment(ago);
        transcript.judgement.verdict = Verdict::Proven;
        Event::Drilled(Box::new(transcript))
    }

    /// Segments of the log, whole.
    pub async fn push(&self, numbers: impl Iterator<Item = u64>) {
        let recipients = [self.yard.recipient.clone()];
        let signer = self.yard.signer.clone();
        let sealer = WalSealer::new(self.yard.store.clone(), policy(), &recipients, 3, signer).unwrap();
        for number in numbers {
            let start = Lsn(number * MIB);
            let contents = Contents {
                start,
                end: Lsn(start.0 + MIB),
                whole: true,
                first_commit: None,
                last_commit: None,
                restore_points: vec![],
            };
            let file = WalFile {
                name: WalName::Segment(Segment::holding(1, start, MIB)),
                system_identifier: Some(CLUSTER.to_owned()),
                contents: Some(contents),
                // As long as a segment is said to be: the reach counts by it.
                bytes: Bytes::from(vec![u8::try_from(number % 251).unwrap(); usize::try_from(MIB).unwrap()]),
            };
            assert!(matches!(sealer.put(&file, self.now).await.unwrap(), Placed::Stored(_)));
        }
    }

    pub fn asked(&self, grace: Span) -> Asked {
        Asked { only: None, dry_run: false, grace, orphans_after: days(7) }
    }

    pub async fn prune(&self, asked: &Asked) -> Pruned {
        self.prune_through(self.yard.store.clone(), asked, lifeboat::clock::now()).await.unwrap()
    }

    pub async fn prune_through(
        &self,
        store: Arc<dyn Store>,
        asked: &Asked,
        now: Timestamp,
    ) -> Result<Pruned, lifeboat::domain::check::Broke> {
        let stores = Stores { open: BTreeMap::from([(place(), store)]), unseen: Vec::new() };
        prune::prune_in(&self.house, self.policy(), stores, asked, now).await
    }

    /// Ids of backups that count, oldest first, by how many days ago they were taken.
    pub async fn counted(&self) -> Vec<i64> {
        let listed = seal::list_backups(&*self.yard.store, Some(&policy()), &self.yard.trusted).await.unwrap();
        listed.iter().map(|(_, id)| self.ago(id)).collect()
    }

    /// The same as the catalog says.
    pub async fn offered(&self) -> Vec<i64> {
        let mut known = self.house.catalog.artifacts(&policy()).await.unwrap();
        known.reverse();
        known.iter().map(|one| self.ago(&one.backup)).collect()
    }

    pub fn ago(&self, id: &BackupId) -> i64 {
        i64::from_str_radix(&id.as_str()[17..], 16).unwrap()
    }

    pub async fn keys(&self) -> Vec<String> {
        self.yard.store.list("").await.unwrap().into_iter().map(|object| object.key).collect()
    }
}

/// The first segment that the backup of so many days ago needs.
pub fn first_segment(ago: i64) -> u64 {
    u64::try_from(1_000 - ago * 5).unwrap()
}

/// A store that stops for good at the nth question, has dates of its own, and knows of locks.
#[derive(Debug)]
pub struct Odd {
    pub under: Arc<dyn Store>,
    /// Questions until it stops; below none: it never does.
    pub left: AtomicI64,
    /// Questions that were put.
    pub asked: AtomicU64,
    /// Its clock is so many seconds ahead.
    pub ahead: i64,
    /// What it says of objects whose key holds this.
    pub locked: Option<(String, Observed<Protection>)>,
}

impl Odd {
    pub fn over(under: Arc<dyn Store>) -> Odd {
        Odd { under, left: AtomicI64::new(i64::MAX), asked: AtomicU64::new(0), ahead: 0, locked: None }
    }

    fn question(&self, key: &str) -> Result<(), StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            let source = std::io::Error::other("the store is gone");
            return Err(StoreError::Io { doing: "reach", key: key.to_owned(), store: self.under.url(), source });
        }
        Ok(())
    }

    fn dated(&self, objects: Vec<ObjectInfo>) -> Vec<ObjectInfo> {
        let ahead = SignedDuration::from_secs(self.ahead);
        let dated = |one: ObjectInfo| ObjectInfo { modified: one.modified.checked_add(ahead).unwrap(), ..one };
        objects.into_iter().map(dated).collect()
    }
}

#[async_trait]
impl Store for Odd {
    fn url(&self) -> String {
        self.under.url()
    }
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.question(key)?;
        self.under.put_new(key, bytes).await
    }
    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.question(key)?;
        self.under.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.question(prefix)?;
        Ok(self.dated(self.under.list(prefix).await?))
    }
    async fn half_written(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.question(prefix)?;
        Ok(self.dated(self.under.half_written(prefix).await?))
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.question(key)?;
        self.under.delete(key).await
    }
    async fn protection(&self, key: &str) -> Result<Observed<Protection>, StoreError> {
        self.question(key)?;
        match &self.locked {
            Some((part, protection)) if key.contains(part) => Ok(protection.clone()),
            Some(_) | None => Ok(Observed::Absent),
        }
    }
}

/// A store beside which a drill ends when the first mark is put.
#[derive(Debug)]
pub struct Meanwhile {
    pub under: Arc<dyn Store>,
    pub catalog: Told,
    pub proof: std::sync::Mutex<Option<Event>>,
}

/// Who is told.
pub struct Told(pub Arc<dyn lifeboat::catalog::Catalog>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

#[async_trait]
impl Store for Meanwhile {
    fn url(&self) -> String {
        self.under.url()
    }
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let proof = if key.contains(seal::MARKS) { self.proof.lock().unwrap().take() } else { None };
        if let Some(proof) = proof {
            let run = RunId(uuid::Uuid::now_v7());
            self.catalog.0.append(lifeboat::clock::now(), &policy(), run, proof).await.unwrap();
        }
        self.under.put_new(key, bytes).await
    }
    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.under.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.under.list(prefix).await
    }
    async fn half_written(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.under.half_written(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.under.delete(key).await
    }
    async fn protection(&self, key: &str) -> Result<Observed<Protection>, StoreError> {
        self.under.protection(key).await
    }
}
