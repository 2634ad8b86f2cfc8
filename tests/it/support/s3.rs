//! Real S3 servers, where `deploy/s3-servers.sh` has put them: SeaweedFS, which knows versions and object lock, and moto.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use lifeboat::domain::bucket::Bucket;

/// Credentials that may do everything.
pub const KEY: &str = "AKIDTEST";
/// Their secret.
pub const SECRET: &str = "SECRETTESTSECRET";

/// How SeaweedFS is started, here and in `docker-compose.yml`.
pub const WEED_FLAGS: [&str; 9] = [
    "-ip=127.0.0.1",
    "-master.telemetry=false",
    "-filer",
    "-s3",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-volume.max=500",
    "-master.volumeSizeLimitMB=128",
    "-master.volumePreallocate=false",
];

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SeaweedFS.
    Weed,
    /// The same, over TLS with an authority of its own.
    WeedTls,
    /// moto.
    Moto,
}

/// A running server; it dies with this value.
pub struct S3Server {
    child: Child,
    dir: tempfile::TempDir,
    kind: Kind,
    port: u16,
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // Asked to end, SeaweedFS takes half a minute.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> PathBuf {
    let named = std::env::var_os("LIFEBOAT_S3_SERVERS").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/s3-servers"))
}

/// A port that is free, and so is the one ten thousand above it, where SeaweedFS listens too.
pub fn free_port() -> u16 {
    let bind = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).ok();
    for _ in 0..200 {
        let port = 11_000 + u16::try_from(getrandom::u32().unwrap() % 20_000).unwrap();
        if let (Some(_low), Some(_high)) = (bind(port), bind(port + 10_000)) {
            return port;
        }
    }
    panic!("no free port");
}

impl S3Server {
    /// Starts one; none: it is not here, which is said.
    pub fn start(kind: Kind) -> Option<S3Server> {
        let there = match kind {
            Kind::Weed | Kind::WeedTls => folder().join("weed").is_file(),
            Kind::Moto => folder().join("moto/moto").is_dir(),
        };
        if !there {
            eprintln!("SKIPPED: {kind:?} is not here: run deploy/s3-servers.sh");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("lb-s3-").tempdir().unwrap();
        // A port may be taken between the look and the start.
        for _ in 0..5 {
            let port = free_port();
            let mut child = match kind {
                Kind::Weed | Kind::WeedTls => weed(dir.path(), port, kind == Kind::WeedTls),
                Kind::Moto => moto(port, dir.path()),
            };
            if ready(kind, port, &mut child) {
                return Some(S3Server { child, dir, kind, port });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("{kind:?} does not start: {log}");
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        let scheme = if self.kind == Kind::WeedTls { "https" } else { "http" };
        // The certificate is for a name.
        let host = if self.kind == Kind::WeedTls { "localhost" } else { "127.0.0.1" };
        let port = if self.kind == Kind::WeedTls { self.port + 1 } else { self.port };
        format!("{scheme}://{host}:{port}")
    }

    /// The port of its plain HTTP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority that signed its certificate.
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Somebody who may do everything, and is not lifeboat.
    pub fn client(&self) -> Client {
        client_at(&format!("http://127.0.0.1:{}", self.port))
    }

    /// Makes a bucket; with object lock, where that is wanted.
    pub async fn make_bucket(&self, name: &str, locking: bool) {
        let client = self.client();
        let made = client.create_bucket().bucket(name).object_lock_enabled_for_bucket(locking).send().await;
        made.unwrap_or_else(|error| panic!("{error:?}"));
        if locking {
            let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
            let done = client.put_bucket_versioning().bucket(name).versioning_configuration(on).send().await;
            done.unwrap_or_else(|error| panic!("{error:?}"));
        }
    }

    /// A file of credentials that may do everything.
    pub fn credentials(&self) -> PathBuf {
        self.credentials_of("admin", KEY)
    }

    /// A file of the credentials of one identity.
    pub fn credentials_of(&self, name: &str, key: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{name}.credentials"));
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A bucket of this server as lifeboat is told of it.
    pub fn bucket(&self, name: &str, prefix: &str) -> Bucket {
        let mut bucket = Bucket::named(name, prefix);
        bucket.endpoint = Some(self.endpoint());
        bucket.path_style = true;
        bucket.region = Some("us-east-1".to_owned());
        bucket.login.file = Some(self.credentials());
        if self.kind == Kind::WeedTls {
            bucket.ca = Some(self.authority());
        }
        bucket
    }

    /// A store of `lifeboat.toml` at this server.
    pub fn toml(&self, store: &str, bucket: &str) -> String {
        format!(
            "[stores.{store}]\nkind = \"s3\"\nbucket = \"{bucket}\"\nprefix = \"db\"\nregion = \"us-east-1\"\n\
             endpoint = \"{}\"\nlogin = {{ file = \"{}\" }}\n",
            self.endpoint(),
            self.credentials().display()
        )
    }
}

/// A client of the tests' own.
pub fn client_at(endpoint: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .force_path_style(true)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(KEY, SECRET, None, None, "tests"))
        .build();
    Client::from_conf(config)
}

fn weed(dir: &Path, port: u16, tls: bool) -> Child {
    // `writer` may not read, `reader` may not write.
    let identity = |name: &str, key: &str, actions: &str| {
        format!(
            "{{\"name\":\"{name}\",\"credentials\":[{{\"accessKey\":\"{key}\",\"secretKey\":\"{SECRET}\"}}],\"actions\":[{actions}]}}"
        )
    };
    let identities = [
        identity("admin", KEY, "\"Admin\",\"Read\",\"Write\",\"List\",\"Tagging\""),
        identity("writer", "AKIDWRITER", "\"Write\",\"List\""),
        identity("reader", "AKIDREADER", "\"Read\",\"List\""),
    ];
    let config = format!("{{\"identities\":[{}]}}", identities.join(","));
    std::fs::write(dir.join("s3.json"), config).unwrap();
    let [master, volume, filer] = [free_port(), free_port(), free_port()];
    let data = dir.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let mut command = Command::new(folder().join("weed"));
    command
        .arg("server")
        .arg(format!("-dir={}", data.display()))
        .args(WEED_FLAGS)
        .arg("-ip.bind=127.0.0.1")
        .arg(format!("-master.port={master}"))
        .arg(format!("-volume.port={volume}"))
        .arg(format!("-filer.port={filer}"))
        .arg(format!("-s3.port={port}"))
        .arg(format!("-s3.config={}", dir.join("s3.json").display()));
    if tls {
        certificates(dir);
        // Beside plain HTTP, which the tests' own client takes.
        command
            .arg(format!("-s3.port.https={}", port + 1))
            .arg(format!("-s3.cert.file={}", dir.join("server.pem").display()))
            .arg(format!("-s3.key.file={}", dir.join("server.key").display()));
    }
    command
        .env("TMPDIR", dir)
        .env("WEED_S3_SSE_KEY", "some-long-secret")
        .env("WEED_JWT_FILER_SIGNING_KEY", "abcabcabcabc")
        .env("WEED_MASTER_VOLUME_GROWTH_COPY_1", "1");
    spawn(command, dir)
}

fn moto(port: u16, dir: &Path) -> Child {
    let mut command = Command::new("python3");
    command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
    command.env("PYTHONPATH", folder().join("moto")).env("PYTHONDONTWRITEBYTECODE", "1");
    spawn(command, dir)
}

fn spawn(mut command: Command, dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    command.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Waits until the server answers; false: it ended, or does not come.
fn ready(kind: Kind, port: u16, child: &mut Child) -> bool {
    let path = if kind == Kind::Moto { "moto-api/" } else { "healthz" };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        let answer = get(port, path);
        if answer.as_deref().is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    false
}

fn get(port: u16, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// An authority, and a certificate of it for `localhost`.
pub fn certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(done.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    std::fs::write(dir.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=an authority",
        "-days",
        "30",
    ]);
    openssl(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=localhost",
    ]);
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "server.pem",
        "-days",
        "30",
        "-extfile",
        "san",
    ]);
}
