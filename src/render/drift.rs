//! What is not as it was declared, for terminals and machines.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::layout::{Paint, Tone, hanging};
use super::words::{ago, moment, plain};
use crate::domain::drift::{Drift, Severity};
use crate::domain::units::Span;

/// The `schema` of the JSON.
pub const DRIFT_SCHEMA: &str = "lifeboat.drift/1";

/// For machines.
pub fn document(found: &[Drift], now: Timestamp, exit_code: u8) -> Value {
    json!({ "schema": DRIFT_SCHEMA, "at": now, "exit_code": exit_code, "drift": found })
}

/// For people: grouped by severity, the worst first. `policies`: how many were looked at.
pub fn page(found: &[Drift], policies: usize, now: Timestamp, width: usize, color: bool) -> String {
    let (width, paint) = (width.clamp(60, 160), Paint(color));
    let mut out = String::new();
    if policies == 0 {
        return "unproven: no policy is configured, so nothing is declared\n".to_owned();
    }
    for severity in [Severity::Critical, Severity::Warning, Severity::Unproven] {
        let group: Vec<&Drift> = found.iter().filter(|drift| drift.severity == severity).collect();
        if group.is_empty() {
            continue;
        }
        let (head, tone, sign) = match severity {
            Severity::Critical => ("Critical: a recovery may fail by it", Tone::Bad, "✗"),
            Severity::Warning => ("Worth mending soon", Tone::Doubt, "!"),
            Severity::Unproven => ("Could not be looked at, so not known to be as declared", Tone::Doubt, "?"),
        };
        out.push_str(&paint.paint(tone, head));
        out.push('\n');
        for drift in group {
            one(&mut out, drift, sign, now, width);
        }
        out.push('\n');
    }
    let count = |severity| found.iter().filter(|drift| drift.severity == severity).count();
    let (critical, warning, unproven) =
        (count(Severity::Critical), count(Severity::Warning), count(Severity::Unproven));
    out.push_str(&match (critical + warning, unproven) {
        (0, 0) => "no drift: all that is looked at is as it was declared\n".to_owned(),
        (0, unproven) => format!("unproven: no drift was seen, and {unproven} could not be looked at\n"),
        (_, unproven) => format!("DRIFT: {critical} critical, {warning} to be mended soon, {unproven} not known\n"),
    });
    out
}

fn one(out: &mut String, drift: &Drift, sign: &str, now: Timestamp, width: usize) {
    let policy = drift.policy.as_ref().map(|policy| format!("{policy}: ")).unwrap_or_default();
    let head = format!("{policy}{} [{}]", plain(&drift.object), drift.code);
    hanging(out, &format!("  {sign} "), &head, width);
    hanging(out, "    declared  ", &plain(&drift.declared), width);
    hanging(out, "    observed  ", &plain(&drift.observed), width);
    if let Some(since) = drift.since {
        hanging(out, "    since     ", &format!("{} ({})", moment(since), ago(Span::between(since, now))), width);
    }
    hanging(out, "    → ", &plain(&drift.mend), width);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::at;

    fn drift(severity: Severity, object: &str) -> Drift {
        Drift {
            code: "store_missing".to_owned(),
            severity,
            policy: Some("orders".parse().unwrap()),
            object: object.to_owned(),
            declared: "3 backups are known in it".to_owned(),
            observed: "it is not there".to_owned(),
            since: Some(at("2026-11-19T00:00:00Z")),
            mend: "mount it".to_owned(),
        }
    }

    #[test]
    fn the_worst_stands_first_and_nothing_steers_the_terminal() {
        let now = at("2026-11-20T00:00:00Z");
        let found = [drift(Severity::Unproven, "store far"), drift(Severity::Critical, "store \u{1b}[2J")];
        let text = page(&found, 1, now, 100, false);
        assert!(text.find("Critical").unwrap() < text.find("not known to be as declared").unwrap(), "{text}");
        for part in
            ["✗ orders: store", "? orders: store far [store_missing]", "declared  3 backups", "→ mount it", "1 day ago"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.ends_with("DRIFT: 1 critical, 0 to be mended soon, 1 not known\n"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(page(&found[..1], 1, now, 100, false).contains("unproven: no drift was seen"));
        assert!(page(&[], 1, now, 100, false).starts_with("no drift"));
        assert!(page(&[], 0, now, 100, false).starts_with("unproven"));
        let document = document(&found, now, 3);
        assert_eq!((document["schema"].as_str(), document["exit_code"].as_u64()), (Some(DRIFT_SCHEMA), Some(3)));
        assert_eq!(document["drift"][0]["severity"], "unproven");
    }
}
