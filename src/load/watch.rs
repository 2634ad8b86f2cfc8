//! How lifeboat is watched: the rules between the keys, and their way into the domain.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::document::{Document, Node};
use super::format::{FilePath, Variable, Words, Written, nearest};
use super::problem::Problems;
use super::raw::watch::{NotifyKind, RawLog, RawNotify, RawQuiet, RawRoute, RawTelemetry};
use crate::domain::drift::Severity;
use crate::domain::ids::PlaceName;
use crate::domain::units::Span;
use crate::domain::watch::{
    Listen, Log, Mail, MailTls, Notifier, NotifierKind, Quiet, Route, Secret, Target, Tell, Watch,
};

/// How long one attempt may take, when nothing is said.
const TIMEOUT: Span = Span::from_secs(10);
/// For how long a letter is tried, when nothing is said: over a long weekend.
const GIVE_UP_AFTER: Span = Span::from_secs(3 * 86_400);
/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com";

/// What the shape alone cannot say.
pub(super) fn rules(document: &Document, problems: &mut Problems) {
    listen_rules(document, problems);
    if let Some(node) = document.root.get("telemetry.otlp") {
        http_url(document, node, problems);
    }
    let notifiers = document.root.get("notify").map(Node::items).unwrap_or_default();
    let mut names: Vec<&str> = Vec::new();
    for notifier in notifiers {
        if let Some(node) = notifier.get("name")
            && let Some(name) = node.text()
        {
            if names.contains(&name) {
                let message = format!("there is already a notifier `{name}`");
                problems.add(document.problem(&node.span, message).hint("give each notifier a name of its own"));
            }
            names.push(name);
        }
        notifier_rules(document, notifier, problems);
    }
    for route in document.root.get("route").map(Node::items).unwrap_or_default() {
        route_rules(document, route, &names, problems);
    }
}

fn listen_rules(document: &Document, problems: &mut Problems) {
    let Some(node) = document.root.get("serve.listen") else { return };
    let Some(text) = node.text() else { return };
    if let Some(path) = text.strip_prefix("unix:") {
        if path.is_empty() {
            problems.add(
                document.problem(&node.span, "this names no socket").hint("write \"unix:/run/lifeboat/metrics.sock\""),
            );
        }
        return;
    }
    let Ok(address) = text.parse::<SocketAddr>() else {
        let message = format!("`{text}` is not an address with a port");
        let hint = "write \"127.0.0.1:9464\", \"[::1]:9464\" or \"unix:/run/lifeboat/metrics.sock\"";
        problems.add(document.problem(&node.span, message).hint(hint));
        return;
    };
    let exposed = document.root.get("serve.exposed").map(Node::json) == Some(serde_json::Value::Bool(true));
    if !address.ip().is_loopback() && !exposed {
        let message = format!("`{address}` can be reached from other machines, and there is no log-in");
        let hint = "listen on 127.0.0.1 behind a proxy or a firewall's rule; or write exposed = true beside it";
        problems.add(document.problem(&node.span, message).hint(hint));
    }
}

fn http_url(document: &Document, node: &Node, problems: &mut Problems) {
    let Some(text) = node.text() else { return };
    let wrong = match url::Url::parse(text) {
        Err(error) => Some((format!("this is not a URL: {error}"), "write \"http://host:port\" or \"https://host\"")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Some((format!("`{}` is not a way to get there", url.scheme()), "write an http:// or https:// URL"))
        }
        Ok(url) if url.password().is_some() || !url.username().is_empty() => {
            Some(("this URL holds a log-in".to_owned(), "name where it is instead: url_file or url_env"))
        }
        Ok(_) => None,
    };
    if let Some((message, hint)) = wrong {
        problems.add(document.problem(&node.span, message).hint(hint));
    }
}

fn notifier_rules(document: &Document, notifier: &Node, problems: &mut Problems) {
    let Some(kind) = notifier.get("kind").and_then(Node::text) else { return };
    let mut wrong = |node: &Node, message: String, hint: &str| {
        problems.add(document.problem(&node.span, message).hint(hint));
    };
    let given = |keys: &[&str]| keys.iter().filter(|key| notifier.get(key).is_some()).count();
    let urls = ["url", "url_env", "url_file"];
    let secrets = ["secret_env", "secret_file"];
    if given(&urls) > 1 {
        wrong(notifier, "the URL stands in two places".to_owned(), "keep one of url, url_env, url_file");
    }
    if given(&secrets) > 1 {
        wrong(notifier, "the secret stands in two places".to_owned(), "keep one of secret_env, secret_file");
    }
    let mail_keys = ["host", "port", "tls", "user", "from", "to"];
    if kind == "email" {
        if given(&["host"]) == 0 || given(&["from"]) == 0 || notifier.get("to").is_none_or(|to| to.items().is_empty()) {
            let hint =
                "write host = \"mail.example.com\", from = \"lifeboat@example.com\", to = [\"oncall@example.com\"]";
            wrong(notifier, "mail needs a server, a sender and receivers".to_owned(), hint);
        }
        if given(&urls) > 0 {
            wrong(notifier, "mail has no URL".to_owned(), "write host, port and tls");
        }
        if given(&secrets) != given(&["user"]) {
            let hint = "write both, or neither when the server asks for no log-in";
            wrong(notifier, "`user` and its secret go together".to_owned(), hint);
        }
        let host = notifier.get("host").and_then(Node::text).unwrap_or_default();
        if let Some(tls) = notifier.get("tls").filter(|tls| tls.text() == Some("none"))
            && !is_loopback(host)
        {
            let hint = "write tls = \"starttls\" (port 587) or \"tls\" (port 465)";
            wrong(tls, format!("mail to {host} would go over the network in the clear"), hint);
        }
        for (node, text) in notifier
            .get("from")
            .into_iter()
            .chain(notifier.get("to").map(Node::items).unwrap_or_default())
            .filter_map(|node| Some((node, node.text()?)))
        {
            if text.parse::<lettre::message::Mailbox>().is_err() {
                wrong(
                    node,
                    format!("`{text}` is not a mail address"),
                    "write \"name@example.com\" or \"Name <name@example.com>\"",
                );
            }
        }
        return;
    }
    if given(&mail_keys) > 0 {
        wrong(notifier, format!("{kind} is no mail: host, port, tls, user, from and to do nothing"), "leave them out");
    }
    match kind {
        "slack" if given(&["url"]) > 0 => {
            let hint = "write url_env = \"SLACK_WEBHOOK\" or url_file = \"keys/slack\": whoever has that URL can post";
            wrong(notifier.get("url").unwrap_or(notifier), "the URL of a Slack webhook is a secret".to_owned(), hint);
        }
        "slack" | "alertmanager" | "webhook" if given(&urls) == 0 => {
            wrong(notifier, format!("{kind} needs to know where"), "write url, url_env or url_file");
        }
        "pagerduty" if given(&secrets) == 0 => {
            let hint = "write secret_env = \"PAGERDUTY_KEY\" or secret_file = \"keys/pagerduty\"";
            wrong(notifier, "pagerduty needs the routing key of an integration".to_owned(), hint);
        }
        "slack" | "alertmanager" if given(&secrets) > 0 => {
            wrong(notifier, format!("{kind} takes no secret but its URL"), "leave secret_env and secret_file out");
        }
        _ => {}
    }
    if let Some(url) = notifier.get("url") {
        http_url(document, url, problems);
    }
}

/// Whether a server is on this machine.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn route_rules(document: &Document, route: &Node, names: &[&str], problems: &mut Problems) {
    let steps = route.get("escalate").map(Node::items).unwrap_or_default();
    let lists = std::iter::once(route).chain(steps).filter_map(|step| step.get("to"));
    for node in lists.flat_map(Node::items) {
        let Some(text) = node.text().filter(|text| !names.contains(text)) else { continue };
        let hint = match nearest(text, names.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if names.is_empty() => "write [[notify]] name = \"…\", kind = \"…\"".to_owned(),
            None => format!("there are: {}", names.join(", ")),
        };
        problems.add(document.problem(&node.span, format!("there is no notifier `{text}`")).hint(hint));
    }
    document.more_than_none(route, "repeat", problems);
    for step in steps {
        document.more_than_none(step, "after", problems);
    }
    for quiet in route.get("quiet").map(Node::items).unwrap_or_default() {
        for node in ["from", "to"].iter().filter_map(|key| quiet.get(key)) {
            if let Some(text) = node.text().filter(|text| minute(text).is_none()) {
                let message = format!("`{text}` is not a time of day");
                problems.add(document.problem(&node.span, message).hint("write hours and minutes, such as \"22:00\""));
            }
        }
        if let (Some(from), Some(to)) = (quiet.get("from"), quiet.get("to"))
            && from.text().is_some()
            && from.text() == to.text()
        {
            problems.add(
                document.problem(&to.span, "these hours are none at all").hint("write another end, or leave them out"),
            );
        }
    }
}

/// Minute of the day, of `22:00`.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// The domain's, of tables in which nothing is wrong.
pub(super) fn convert(
    (listen, exposed): (Option<Written<Words>>, Option<bool>),
    log: RawLog,
    telemetry: RawTelemetry,
    notify: Vec<RawNotify>,
    routes: Vec<RawRoute>,
    folder: &Path,
    warnings: &mut Vec<String>,
) -> Watch {
    let exposed = exposed.unwrap_or(false);
    let listen = listen.map(|text| match text.0.0.strip_prefix("unix:") {
        Some(path) => Listen::Unix(folder.join(path)),
        // The rules have seen that it is one.
        None => Listen::Tcp(text.0.0),
    });
    if let Some(Listen::Tcp(address)) = &listen
        && exposed
        && address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback())
    {
        warnings.push(format!("whoever reaches {address} reads all metrics: there is no log-in"));
    }
    Watch {
        listen,
        log: Log { format: log.format.unwrap_or_default(), level: log.level },
        otlp: telemetry.otlp.map(|url| url.0.0.trim_end_matches('/').to_owned()),
        notifiers: notify.into_iter().filter_map(|raw| notifier(raw, folder)).collect(),
        routes: routes.into_iter().map(route).collect(),
    }
}

fn secret(env: Option<Written<Variable>>, file: Option<Written<FilePath>>, folder: &Path) -> Option<Secret> {
    match (env, file) {
        (Some(name), _) => Some(Secret::Env(name.0.0)),
        (None, Some(path)) => Some(Secret::File(path.0.resolve(folder))),
        (None, None) => None,
    }
}

/// None: the rules have told of what is missing.
fn notifier(raw: RawNotify, folder: &Path) -> Option<Notifier> {
    let plain = raw.url.map(|url| Target::Plain(url.0.0.trim_end_matches('/').to_owned()));
    let url = plain.or_else(|| secret(raw.url_env, raw.url_file, folder).map(Target::Secret));
    let hidden = secret(raw.secret_env, raw.secret_file, folder);
    let kind = match raw.kind {
        NotifyKind::Slack => NotifierKind::Slack { url: url? },
        NotifyKind::Pagerduty => {
            NotifierKind::PagerDuty { url: url.unwrap_or_else(|| Target::Plain(PAGERDUTY.to_owned())), key: hidden? }
        }
        NotifyKind::Alertmanager => NotifierKind::Alertmanager { url: url? },
        NotifyKind::Webhook => NotifierKind::Webhook { url: url?, sign: hidden },
        NotifyKind::Email => {
            let tls = raw.tls.unwrap_or(MailTls::Starttls);
            NotifierKind::Email(Box::new(Mail {
                host: raw.host?.0.0,
                port: raw.port.unwrap_or(match tls {
                    MailTls::Tls => 465,
                    MailTls::Starttls => 587,
                    MailTls::None => 25,
                }),
                tls,
                user: raw.user.map(|user| user.0.0),
                password: hidden,
                from: raw.from?.0.0,
                to: raw.to.into_iter().map(|to| to.0.0).collect(),
            }))
        }
    };
    Some(Notifier {
        name: raw.name.parse().ok()?,
        kind,
        timeout: raw.timeout.map_or(TIMEOUT, |span| span.0),
        give_up_after: raw.give_up_after.map_or(GIVE_UP_AFTER, |span| span.0),
    })
}

fn route(raw: RawRoute) -> Route {
    let words = |list: Vec<Written<Words>>| -> Vec<String> { list.into_iter().map(|word| word.0.0).collect() };
    let places = |list: Vec<Written<Words>>| -> Vec<PlaceName> {
        list.into_iter().filter_map(|name| name.0.0.parse().ok()).collect()
    };
    let mut steps = vec![Tell { after: Span::ZERO, to: places(raw.to) }];
    steps.extend(raw.escalate.into_iter().map(|step| Tell { after: step.after.0, to: places(step.to) }));
    steps.sort_by_key(|step| step.after);
    Route {
        at_least: raw.at_least.unwrap_or(Severity::Warning),
        tiers: words(raw.tiers),
        owners: words(raw.owners),
        policies: raw.policies.into_iter().map(|name| name.0).collect(),
        go_on: raw.go_on.unwrap_or(false),
        steps,
        repeat: raw.repeat.map(|span| span.0),
        wait: raw.wait.map_or(Span::ZERO, |span| span.0),
        group: raw.group.unwrap_or_default(),
        quiet: raw.quiet.into_iter().filter_map(quiet).collect(),
    }
}

fn quiet(raw: RawQuiet) -> Option<Quiet> {
    let timezone = raw.timezone.map_or_else(|| "UTC".to_owned(), |zone| zone.0.0);
    Some(Quiet { from: minute(&raw.from.0.0)?, to: minute(&raw.to.0.0)?, timezone })
}
