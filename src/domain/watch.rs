//! How lifeboat is watched: where it listens, how it logs, where traces go, who is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::drift::Severity;
use super::ids::{PlaceName, PolicyName};
use super::units::Span;

/// All of it, of one machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    /// Where metrics and health are answered; none: nobody said, so at [`DEFAULT_LISTEN`] if that can be had.
    pub listen: Option<Listen>,
    /// How it logs.
    pub log: Log,
    /// Where traces go: the base of an OTLP receiver over HTTP; none: nowhere.
    pub otlp: Option<String>,
    /// Who can be told.
    pub notifiers: Vec<Notifier>,
    /// Who is told of what: the first that fits.
    pub routes: Vec<Route>,
}

/// Where metrics and health are answered when nothing is said: this machine alone can ask.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9464";

impl Watch {
    /// Where metrics and health are answered.
    pub fn listen(&self) -> Listen {
        self.listen.clone().unwrap_or_else(|| Listen::Tcp(DEFAULT_LISTEN.to_owned()))
    }
}

/// Where metrics and health are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and a port, such as `127.0.0.1:9464`.
    Tcp(String),
    /// A socket in the file system, mode 0660.
    Unix(PathBuf),
}

/// How it logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// In which form.
    pub format: LogFormat,
    /// From which level on; `RUST_LOG` and `-v` win. None: warnings.
    pub level: Option<LogLevel>,
}

/// The form of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// From which level on something is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What could not be done.
    Error,
    /// What needs a look.
    Warn,
    /// Each event of each run.
    Info,
    /// Each stage of it.
    Debug,
    /// Everything of lifeboat's own.
    Trace,
}

impl LogLevel {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// Where a secret comes from: never the configuration itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// An environment variable.
    Env(String),
    /// The first line of a file of mode 0600.
    File(PathBuf),
}

/// Somebody or something that can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Notifier {
    /// Unique.
    pub name: PlaceName,
    /// How.
    pub kind: NotifierKind,
    /// How long one attempt may take.
    pub timeout: Span,
    /// For how long a letter is tried before it is given up, loudly.
    pub give_up_after: Span,
}

/// Where an HTTP receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// As written: it holds no secret.
    Plain(String),
    /// The URL itself is the secret, as with Slack.
    Secret(Secret),
}

/// How somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub enum NotifierKind {
    /// An incoming webhook of Slack.
    Slack {
        /// Its URL.
        url: Target,
    },
    /// PagerDuty, Events API version 2.
    PagerDuty {
        /// Where its API is.
        url: Target,
        /// The routing key of an integration.
        key: Secret,
    },
    /// Alertmanager's API version 2.
    Alertmanager {
        /// Its base, without `/api/v2/alerts`.
        url: Target,
    },
    /// Any HTTP receiver: JSON, signed.
    Webhook {
        /// Where.
        url: Target,
        /// With what it is signed (HMAC-SHA256); none: it is not.
        sign: Option<Secret>,
    },
    /// Mail over SMTP.
    Email(Box<Mail>),
}

impl NotifierKind {
    /// The word used in the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            NotifierKind::Slack { .. } => "slack",
            NotifierKind::PagerDuty { .. } => "pagerduty",
            NotifierKind::Alertmanager { .. } => "alertmanager",
            NotifierKind::Webhook { .. } => "webhook",
            NotifierKind::Email(_) => "email",
        }
    }
}

/// Mail over SMTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// As whom, if the server asks.
    pub user: Option<String>,
    /// With what.
    pub password: Option<Secret>,
    /// From which address.
    pub from: String,
    /// To which.
    pub to: Vec<String>,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// From the first byte (port 465).
    Tls,
    /// After STARTTLS, which must succeed (port 587).
    Starttls,
    /// Not at all: to loopback only.
    None,
}

/// Who is told of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Of alarms at least this bad.
    pub at_least: Severity,
    /// Of policies of these tiers; empty: of all.
    pub tiers: Vec<String>,
    /// Of policies of these owners; empty: of all.
    pub owners: Vec<String>,
    /// Of these policies; empty: of all.
    pub policies: Vec<PolicyName>,
    /// Whether routes after it are looked at too.
    pub go_on: bool,
    /// Who at once, and who when nobody has acknowledged it after a while.
    pub steps: Vec<Tell>,
    /// How often an alarm that stays open and is not acknowledged is told again; none: never.
    pub repeat: Option<Span>,
    /// How long an alarm waits for others, to be told with them.
    pub wait: Span,
    /// Which alarms are told in one letter.
    pub group: Group,
    /// When nobody wants to hear of it, unless it is critical.
    pub quiet: Vec<Quiet>,
}

/// A step of an escalation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tell {
    /// After an alarm has been open for so long, unless it was acknowledged.
    pub after: Span,
    /// Whom.
    pub to: Vec<PlaceName>,
}

/// Which alarms are told in one letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Those of one policy.
    #[default]
    Policy,
    /// All.
    All,
}

/// Hours of every day, in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// Minute of the day at which they begin.
    pub from: u16,
    /// Minute of the day at which they end; before `from`: on the next day.
    pub to: u16,
    /// An IANA time zone.
    pub timezone: String,
}
