//! How lifeboat is watched: `[serve]`, `[log]`, `[telemetry]`, `[[notify]]`, `[[route]]`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::drift::Severity;
use crate::domain::ids::PolicyName;
use crate::domain::units::Span;
use crate::domain::watch::{Group, LogFormat, LogLevel, MailTls};
use crate::load::format::{FilePath, Variable, Words, Written, Zone};

/// How it logs, to standard error.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawLog {
    /// For people, or one JSON object a line. Default: pretty.
    #[schemars(with = "Option<RawLogFormat>")]
    pub(in crate::load) format: Option<LogFormat>,
    /// From which level on. `RUST_LOG` and -v win. Default: warn.
    #[schemars(with = "Option<RawLogLevel>")]
    pub(in crate::load) level: Option<LogLevel>,
}

/// The words of `format`.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::load) enum RawLogFormat {
    Pretty,
    Json,
}

/// The words of `level`.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::load) enum RawLogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Where traces go.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawTelemetry {
    /// The base URL of an OTLP receiver over HTTP, such as "http://127.0.0.1:4318". Default: no traces.
    pub(in crate::load) otlp: Option<Written<Words>>,
}

/// Somebody or something that can be told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawNotify {
    /// Unique among the notifiers.
    #[schemars(extend("format" = "name"))]
    pub(in crate::load) name: String,
    /// How.
    pub(in crate::load) kind: NotifyKind,
    /// Where, if that is no secret (alertmanager, webhook, and a PagerDuty of another region).
    pub(in crate::load) url: Option<Written<Words>>,
    /// The environment variable that holds the URL.
    pub(in crate::load) url_env: Option<Written<Variable>>,
    /// A file whose first line is the URL, mode 0600.
    pub(in crate::load) url_file: Option<Written<FilePath>>,
    /// The environment variable that holds the routing key (pagerduty), the signing key (webhook) or the password (email).
    pub(in crate::load) secret_env: Option<Written<Variable>>,
    /// A file whose first line is that, mode 0600.
    pub(in crate::load) secret_file: Option<Written<FilePath>>,
    /// The mail server (email).
    pub(in crate::load) host: Option<Written<Words>>,
    /// Its port. Default: 465 with tls, 587 with starttls, 25 with none.
    #[schemars(range(min = 1, max = 65535))]
    pub(in crate::load) port: Option<u16>,
    /// How the connection to it is protected; none is for loopback only. Default: starttls.
    #[schemars(with = "Option<RawMailTls>")]
    pub(in crate::load) tls: Option<MailTls>,
    /// As whom, if the server asks (email).
    pub(in crate::load) user: Option<Written<Words>>,
    /// From which address (email).
    pub(in crate::load) from: Option<Written<Words>>,
    /// To which addresses (email).
    #[serde(default)]
    pub(in crate::load) to: Vec<Written<Words>>,
    /// How long one attempt may take. Default: 10s.
    pub(in crate::load) timeout: Option<Written<Span>>,
    /// For how long a letter is tried before it is given up, which is an alarm of its own. Default: 3d.
    pub(in crate::load) give_up_after: Option<Written<Span>>,
}

/// How somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::load) enum NotifyKind {
    Slack,
    Pagerduty,
    Alertmanager,
    Webhook,
    Email,
}

/// The words of `tls`.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::load) enum RawMailTls {
    Tls,
    Starttls,
    None,
}

/// Who is told of what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawRoute {
    /// Of alarms at least this bad. Default: warning.
    #[schemars(with = "Option<RawSeverity>")]
    pub(in crate::load) at_least: Option<Severity>,
    /// Of policies of these tiers. Default: of all.
    #[serde(default)]
    pub(in crate::load) tiers: Vec<Written<Words>>,
    /// Of policies of these owners. Default: of all.
    #[serde(default)]
    pub(in crate::load) owners: Vec<Written<Words>>,
    /// Of these policies. Default: of all.
    #[serde(default)]
    pub(in crate::load) policies: Vec<Written<PolicyName>>,
    /// Whom, at once: names of notifiers.
    #[schemars(length(min = 1))]
    pub(in crate::load) to: Vec<Written<Words>>,
    /// Whom, when nobody has acknowledged it after a while.
    #[serde(default)]
    pub(in crate::load) escalate: Vec<RawStep>,
    /// How often an alarm that stays open and is not acknowledged is told again. Default: never.
    pub(in crate::load) repeat: Option<Written<Span>>,
    /// How long an alarm waits for others, to be told with them. Default: 0s.
    pub(in crate::load) wait: Option<Written<Span>>,
    /// Which alarms are told in one letter: those of one policy, or all. Default: policy.
    #[schemars(with = "Option<RawGroup>")]
    pub(in crate::load) group: Option<Group>,
    /// When nobody wants to hear of it, unless it is critical.
    #[serde(default)]
    pub(in crate::load) quiet: Vec<RawQuiet>,
    /// Whether the routes below are looked at too. Default: false.
    pub(in crate::load) go_on: Option<bool>,
}

/// The words of `at_least`.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::load) enum RawSeverity {
    Unproven,
    Warning,
    Critical,
}

/// The words of `group`.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::load) enum RawGroup {
    Policy,
    All,
}

/// A step of an escalation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawStep {
    /// After an alarm has been open for so long without an acknowledgement.
    pub(in crate::load) after: Written<Span>,
    /// Whom: names of notifiers.
    #[schemars(length(min = 1))]
    pub(in crate::load) to: Vec<Written<Words>>,
}

/// Hours of every day.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::load) struct RawQuiet {
    /// From, such as "22:00".
    pub(in crate::load) from: Written<Words>,
    /// To, such as "07:00": on the next day, if that is earlier.
    pub(in crate::load) to: Written<Words>,
    /// The time zone of both. Default: UTC.
    pub(in crate::load) timezone: Option<Written<Zone>>,
}
