//! Where a PostgreSQL server is and how to speak to it: for our own connections, and for PostgreSQL's programs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::Client;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;

use super::redact::{harmless, is_plain_name, redact};
use super::tls;

/// Given when a session is opened, so that no limit of a role's or a database's own (`ALTER DATABASE … SET statement_timeout = 1`) hits the
/// very statement that would lift it; and what must be written in a sandbox can be (`SET default_transaction_read_only = on`).
const STARTUP: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off";
use crate::domain::policy::{PasswordSource, TlsMode};
use crate::telemetry::redact::hide;

/// A server, a role and a database, with the means to get in. Never prints a password.
#[derive(Clone)]
pub struct Endpoint {
    /// Host name, address, or the absolute path of a socket's folder.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    tls: Option<TlsMode>,
    tls_ca: Option<PathBuf>,
    password: Option<SecretString>,
    passfile: Option<PathBuf>,
    connect_timeout: Duration,
    /// Whether whoever is at the other end takes no options: known once it was tried, and to all copies of this.
    takes_no_options: Arc<AtomicBool>,
}

/// Why a server cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The URL cannot be read.
    #[error("`{url}` is not a PostgreSQL connection URL: {why}")]
    Url {
        /// As written.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The URL carries a password.
    #[error("the connection URL holds a password")]
    PasswordInUrl,
    /// The password cannot be had.
    #[error("the password could not be read from {place}: {why}")]
    Password {
        /// File or variable.
        place: String,
        /// Why.
        why: String,
    },
    /// The certificates cannot be had.
    #[error("TLS could not be set up: {0}")]
    Tls(String),
    /// No connection.
    #[error("could not connect to {target}: {why}")]
    Connect {
        /// Which server, without secrets.
        target: String,
        /// The server's or the network's own words.
        why: String,
        /// What to do.
        hint: String,
    },
}

impl EndpointError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            EndpointError::Url { .. } => {
                "write it as postgresql://role@host:5432/database, or with a socket: postgresql://role@/database?host=/run/postgresql".to_owned()
            }
            EndpointError::PasswordInUrl => {
                "take it out of the URL and name where it is: passfile = \"…\", password_file = \"…\" or password_env = \"…\"".to_owned()
            }
            EndpointError::Password { .. } => "check that it exists and that this user may read it (mode 0600)".to_owned(),
            EndpointError::Tls(_) => "check tls_ca, a file of certificates in PEM form".to_owned(),
            EndpointError::Connect { hint, .. } => hint.clone(),
        }
    }
}

impl Endpoint {
    /// Reads a URL and fetches the password from where it is said to be.
    pub fn open(
        url: &str,
        password: &PasswordSource,
        tls: Option<TlsMode>,
        tls_ca: Option<&Path>,
        connect_timeout: Duration,
    ) -> Result<Endpoint, EndpointError> {
        let mut endpoint = Endpoint::parse(url)?;
        endpoint.tls = tls.or(endpoint.tls);
        endpoint.tls_ca = tls_ca.map(Path::to_owned).or(endpoint.tls_ca);
        endpoint.connect_timeout = connect_timeout;
        match password {
            PasswordSource::Default => endpoint.passfile = None,
            PasswordSource::Passfile(path) => {
                read_private(path)?;
                endpoint.passfile = Some(path.clone());
            }
            PasswordSource::File(path) => {
                let text = read_private(path)?;
                endpoint.password = Some(SecretString::from(text.lines().next().unwrap_or_default()));
            }
            PasswordSource::Env(name) => {
                let why = |why: &str| EndpointError::Password { place: format!("${name}"), why: why.to_owned() };
                let text = std::env::var(name).map_err(|_| why("it is not set"))?;
                endpoint.password = Some(SecretString::from(text));
            }
        }
        if endpoint.password.is_none() {
            endpoint.password = endpoint.password_from_passfile();
        }
        if let Some(password) = &endpoint.password {
            hide(password.expose_secret());
        }
        Ok(endpoint)
    }

    /// Reads a URL: shape only, nothing is fetched.
    pub fn parse(url: &str) -> Result<Endpoint, EndpointError> {
        let bad = |why: &str| EndpointError::Url { url: redact(url), why: why.to_owned() };
        if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
            return Err(bad("it must begin with postgresql://"));
        }
        // tokio-postgres knows only some sslmodes, and no sslrootcert: both are read here.
        let (head, query) = url.split_once('?').unwrap_or((url, ""));
        let mut kept = Vec::new();
        let (mut tls, mut tls_ca) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", "verify-full")) => tls = Some(TlsMode::VerifyFull),
                Some(("sslmode", "require")) => tls = Some(TlsMode::Require),
                Some(("sslmode", "disable")) => tls = Some(TlsMode::Disable),
                Some(("sslmode", _)) => return Err(bad("sslmode must be verify-full, require or disable")),
                Some(("sslrootcert", path)) => {
                    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
                    tls_ca = Some(PathBuf::from(path.into_owned()));
                }
                // The driver repeats a name that it does not know, and this one may be a password that has slipped.
                Some((name, _)) if !is_plain_name(name) => {
                    return Err(bad("the name of a parameter after ? may have letters and _ only"));
                }
                Some(_) => kept.push(pair),
                None => return Err(bad("a parameter after ? has no value")),
            }
        }
        let plain = if kept.is_empty() { head.to_owned() } else { format!("{head}?{}", kept.join("&")) };
        let config = tokio_postgres::Config::from_str(&plain).map_err(|error| bad(&harmless(&root_cause(&error))))?;
        if config.get_password().is_some() {
            return Err(EndpointError::PasswordInUrl);
        }
        if config.get_hosts().len() > 1 {
            return Err(bad("it names several hosts; name the one to back up"));
        }
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "/var/run/postgresql".to_owned(),
        };
        let user = config.get_user().ok_or_else(|| bad("it names no role"))?.to_owned();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        Ok(Endpoint {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user,
            database,
            tls,
            tls_ca,
            password: None,
            passfile: None,
            connect_timeout: Duration::from_secs(10),
            takes_no_options: Arc::default(),
        })
    }

    /// A server that listens on a socket in `folder`.
    pub fn socket(folder: &Path, port: u16, user: &str, database: &str) -> Endpoint {
        Endpoint {
            host: folder.display().to_string(),
            port,
            user: user.to_owned(),
            database: database.to_owned(),
            tls: None,
            tls_ca: None,
            password: None,
            passfile: None,
            connect_timeout: Duration::from_secs(10),
            takes_no_options: Arc::default(),
        }
    }

    /// The same server and role, another database.
    pub fn with_database(&self, database: &str) -> Endpoint {
        Endpoint { database: database.to_owned(), ..self.clone() }
    }

    /// The same server and database, another role (which must need no password).
    pub fn with_user(&self, user: &str) -> Endpoint {
        Endpoint { user: user.to_owned(), password: None, passfile: None, ..self.clone() }
    }

    /// The password, for whoever speaks the protocol by hand.
    pub fn password(&self) -> Option<&SecretString> {
        self.password.as_ref()
    }

    /// How the connection is protected, once sockets and loopback are taken into account.
    pub fn tls_mode(&self) -> TlsMode {
        match self.tls {
            _ if self.is_socket() => TlsMode::Disable,
            Some(mode) => mode,
            None if matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "::1") => TlsMode::Disable,
            None => TlsMode::VerifyFull,
        }
    }

    /// Whether it is reached by a socket file.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The rustls settings for [`Endpoint::tls_mode`]; none when it is `disable`.
    pub fn tls_config(&self) -> Result<Option<Arc<rustls::ClientConfig>>, EndpointError> {
        tls::client_config(self.tls_mode(), self.tls_ca.as_deref()).map_err(EndpointError::Tls)
    }

    /// Connects. The connection's driver runs as a task and ends with the client.
    pub async fn connect(&self) -> Result<Client, EndpointError> {
        match self.try_connect(Some(STARTUP), None).await {
            // Poolers know no options; then what the session sets later must do.
            Err(EndpointError::Connect { why, .. }) if why.contains("startup parameter") => {
                self.takes_no_options.store(true, Ordering::Relaxed);
                self.try_connect(None, None).await
            }
            other => other,
        }
    }

    /// The same for who listens: what notifications say comes by the channel, which is closed when the connection ends.
    pub async fn listen(&self, notices: Notices) -> Result<Client, EndpointError> {
        self.try_connect(Some(STARTUP), Some(notices)).await
    }

    async fn try_connect(&self, options: Option<&str>, notices: Option<Notices>) -> Result<Client, EndpointError> {
        let mut config = tokio_postgres::Config::new();
        if let Some(options) = options {
            config.options(options);
        }
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .application_name("lifeboat")
            .connect_timeout(self.connect_timeout)
            .keepalives_idle(Duration::from_secs(60));
        if let Some(password) = &self.password {
            config.password(password.expose_secret());
        }
        let failed = |error: tokio_postgres::Error| self.explain(&error);
        match self.tls_config()? {
            None => {
                config.ssl_mode(SslMode::Disable);
                let connecting = config.connect(tokio_postgres::NoTls);
                let (client, connection) = self.in_time(connecting).await?.map_err(failed)?;
                tokio::spawn(drive(connection, notices));
                Ok(client)
            }
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                let connecting = config.connect(tokio_postgres_rustls::MakeRustlsConnect::new((*tls).clone()));
                let (client, connection) = self.in_time(connecting).await?.map_err(failed)?;
                tokio::spawn(drive(connection, notices));
                Ok(client)
            }
        }
    }

    /// What libpq's programs need to connect, as environment: never argv. The rest of the caller's `PG*` is not passed on.
    pub fn libpq_env(&self) -> Vec<(&'static str, String)> {
        let mut env = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGAPPNAME", "lifeboat".to_owned()),
            ("PGCONNECT_TIMEOUT", self.connect_timeout.as_secs().max(2).to_string()),
        ];
        if !self.takes_no_options.load(Ordering::Relaxed) {
            env.push(("PGOPTIONS", STARTUP.to_owned()));
        }
        let mode = match self.tls_mode() {
            TlsMode::VerifyFull => "verify-full",
            TlsMode::Require => "require",
            TlsMode::Disable => "disable",
        };
        env.push(("PGSSLMODE", mode.to_owned()));
        let system = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if let Some(ca) = self.tls_ca.as_deref().or(Some(system).filter(|path| path.is_file())) {
            env.push(("PGSSLROOTCERT", ca.display().to_string()));
        }
        match (&self.passfile, &self.password) {
            (Some(path), _) => env.push(("PGPASSFILE", path.display().to_string())),
            (None, Some(password)) => env.push(("PGPASSWORD", password.expose_secret().to_owned())),
            (None, None) => {}
        }
        env
    }

    async fn in_time<F: Future>(&self, connecting: F) -> Result<F::Output, EndpointError> {
        tokio::time::timeout(self.connect_timeout, connecting).await.map_err(|_| EndpointError::Connect {
            target: self.to_string(),
            why: format!("no answer within {} s", self.connect_timeout.as_secs()),
            hint: "check host, port and firewall".to_owned(),
        })
    }

    fn explain(&self, error: &tokio_postgres::Error) -> EndpointError {
        let code = error.code();
        let hint = if code == Some(&SqlState::INVALID_PASSWORD) {
            "check the password and where it comes from: passfile, password_file or password_env".to_owned()
        } else if code == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) {
            format!("let role {} in: pg_hba.conf of the server, and `\\du` for the role itself", self.user)
        } else if code == Some(&SqlState::INVALID_CATALOG_NAME) {
            format!("there is no database {}; `psql -l` lists them", self.database)
        } else if code == Some(&SqlState::CANNOT_CONNECT_NOW) {
            "the server is starting or stopping; try again in a moment".to_owned()
        } else if self.tls_mode() != TlsMode::Disable && code.is_none() {
            "check host and port, that the server speaks TLS, and that its certificate names this host (tls, tls_ca)"
                .to_owned()
        } else if root_cause(error).contains("password missing") {
            "the server asks for a password: name where it is with passfile, password_file or password_env".to_owned()
        } else {
            "check that the server runs, and its host and port".to_owned()
        };
        EndpointError::Connect { target: self.to_string(), why: root_cause(error), hint }
    }

    fn password_from_passfile(&self) -> Option<SecretString> {
        let path =
            self.passfile.clone().or_else(|| std::env::var_os("PGPASSFILE").map(PathBuf::from)).or_else(|| {
                let home = std::env::var_os("HOME")?;
                Some(PathBuf::from(home).join(".pgpass"))
            })?;
        let text = read_private(&path).ok()?;
        let host = if self.is_socket() { "localhost" } else { &self.host };
        text.lines().find_map(|line| {
            let fields = passfile_fields(line)?;
            let wanted = [host, &self.port.to_string(), &self.database, &self.user];
            let matches = fields.iter().zip(wanted).all(|(field, value)| field == "*" || field == value);
            matches.then(|| SecretString::from(fields[4].clone()))
        })
    }
}

/// Where the words of notifications go.
pub type Notices = tokio::sync::mpsc::UnboundedSender<String>;

/// Carries a connection's messages until it ends.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, notices: Option<Notices>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
        if let (tokio_postgres::AsyncMessage::Notification(notice), Some(notices)) = (message, &notices) {
            // Nobody may listen any more.
            let _ = notices.send(notice.payload().to_owned());
        }
    }
}

/// The first five fields of a passfile's line; `\:` and `\\` are escapes.
fn passfile_fields(line: &str) -> Option<Vec<String>> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let last = fields.len() - 1;
        match letter {
            '\\' => fields[last].extend(letters.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            other => fields[last].push(other),
        }
    }
    (fields.len() == 5).then_some(fields)
}

/// Reads a file that must be nobody else's business.
fn read_private(path: &Path) -> Result<String, EndpointError> {
    let fail = |why: String| EndpointError::Password { place: path.display().to_string(), why };
    let found = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions());
    if mode & 0o077 != 0 {
        return Err(fail(format!("its mode is {:04o}: others can read it; chmod 0600 it", mode & 0o7777)));
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

/// The innermost error, in its own words.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_socket() {
            write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.database)
        } else {
            write!(f, "postgresql://{}@{}:{}/{}", self.user, self.host, self.port, self.database)
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_sockets_and_hosts_are_read() {
        let socket = Endpoint::parse("postgresql://lifeboat@/orders?host=/run/postgresql").unwrap();
        assert_eq!(
            (socket.host.as_str(), socket.user.as_str(), socket.database.as_str()),
            ("/run/postgresql", "lifeboat", "orders")
        );
        assert_eq!(socket.tls_mode(), TlsMode::Disable);
        let remote = Endpoint::parse("postgresql://lifeboat@db.example.com:6543/orders").unwrap();
        assert_eq!((remote.port, remote.tls_mode()), (6543, TlsMode::VerifyFull));
        let clear = Endpoint::parse("postgres://lifeboat@db.example.com/orders?sslmode=disable").unwrap();
        assert_eq!(clear.tls_mode(), TlsMode::Disable);
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let error = Endpoint::parse("postgresql://a:s3cret@h/d").unwrap_err();
        assert!(matches!(error, EndpointError::PasswordInUrl));
        for url in [
            "postgresql://a:s3cret@h:notaport/d",
            "postgresql://u@h/db?password=s3cret&sslmode=prefer",
            "postgresql:/u:s3cret@h/db",
            "u:s3cret@h/db",
            "postgresql://u:s3:s3cret@@h:x/db",
            "mysql://u@h/db?PassWord=s3cret",
            "host=h user=u password=s3cret dbname=d",
            "postgresql://a@h/d?passwoOrd=s3cret",
            "postgre:s3cret@esql://a@h",
            "postgresql://a@[::1]:1/d?ions:s3cret@=-c%20x",
            "postgresql://a@h/d?%69ons:s3cret=x",
            "postgresql://aBh?time=3&options=@[::2]:1/d?chunt:s3cret@tions=x",
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn bad_urls_are_refused() {
        for url in [
            "",
            "orders",
            "mysql://a@b/c",
            "postgresql://h1,h2/d",
            "postgresql://u@h/d?sslmode=prefer",
            "postgresql://u@h/d?x",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn passfile_lines_are_split_as_libpq_does() {
        assert_eq!(passfile_fields(r"h:5432:d:u:p\:a\\ss").unwrap(), ["h", "5432", "d", "u", r"p:a\ss"]);
        assert_eq!(passfile_fields("*:*:*:u:a:b").unwrap()[4], "a:b");
        assert!(passfile_fields("# comment").is_none());
        assert!(passfile_fields("too:few").is_none());
    }
}
