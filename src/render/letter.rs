//! Letters, in the words of each receiver. A letter is made of names, numbers and moments; nothing else gets into any of these forms.

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use crate::domain::alarm::{Item, Letter, News};
use crate::domain::drift::Severity;

/// The `schema` of what a webhook gets.
pub const LETTER_SCHEMA: &str = "lifeboat.letter/1";

/// For how long an alarm stands at an Alertmanager that nobody tells again, when nothing is said: a day.
const STANDS_SECONDS: i64 = 86_400;

/// In one line.
pub fn subject(letter: &Letter) -> String {
    let Some(first) = letter.items.first() else { return "lifeboat".to_owned() };
    let more = match letter.items.len() {
        0 | 1 => String::new(),
        many => format!(" (and {} more)", many - 1),
    };
    format!("[lifeboat] {}: {}{more}", headline(first), first.what.summary)
}

fn headline(item: &Item) -> &'static str {
    match (item.news, item.what.severity) {
        (News::Test, _) => "TEST",
        (News::Resolved, _) => "RESOLVED",
        (News::Acknowledged, _) => "ACKNOWLEDGED",
        (_, Severity::Critical) => "CRITICAL",
        (_, Severity::Warning) => "WARNING",
        (_, Severity::Unproven) => "UNPROVEN",
    }
}

/// As a plain text.
pub fn text(letter: &Letter) -> String {
    let mut out = String::new();
    for item in &letter.items {
        out.push_str(&format!("{}: {}\n", headline(item), item.what.summary));
        out.push_str(&format!("  why now: {}\n", item.why));
        out.push_str(&format!("  open since {:.0}", item.opened_at));
        if let Some(at) = item.resolved_at {
            out.push_str(&format!(", over at {at:.0}"));
        }
        if let Some(ack) = &item.acknowledged {
            out.push_str(&format!(", taken on by {} at {:.0}", ack.by, ack.at));
        }
        out.push('\n');
        if !matches!(item.news, News::Resolved | News::Test) {
            out.push_str(&format!("  next: {}\n", item.what.hint));
            out.push_str(&format!("  take it on: lifeboat ack {}\n", item.what.key));
        }
        out.push_str(&format!("  alarm {}, owner {}\n\n", item.what.key, item.what.owner));
    }
    out.push_str(&format!("letter {} of {:.0}\n", letter.id, letter.at));
    out
}

/// For a webhook: all of it.
pub fn webhook(letter: &Letter) -> Json {
    json!({
        "schema": LETTER_SCHEMA,
        "id": letter.id,
        "at": letter.at,
        "to": letter.to,
        "subject": subject(letter),
        "alarms": letter.items.iter().map(document).collect::<Vec<_>>(),
    })
}

fn document(item: &Item) -> Json {
    json!({
        "alarm": item.what.key.to_string(),
        "news": item.news,
        "why": item.why,
        "policy": item.what.key.policy,
        "kind": item.what.key.kind,
        "subject": item.what.key.subject,
        "severity": item.what.severity,
        "tier": item.what.tier,
        "owner": item.what.owner,
        "summary": item.what.summary,
        "hint": item.what.hint,
        "since": item.what.since,
        "opened_at": item.opened_at,
        "resolved_at": item.resolved_at,
        "episode": item.episode,
        "acknowledged": item.acknowledged,
    })
}

/// For an incoming webhook of Slack: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>.
pub fn slack(letter: &Letter) -> Json {
    let sections = letter.items.iter().take(40).map(|item| {
        let mark = match item.news {
            News::Resolved => ":white_check_mark:",
            News::Acknowledged => ":eyes:",
            News::Test => ":wave:",
            _ if item.what.severity == Severity::Critical => ":rotating_light:",
            _ => ":warning:",
        };
        let ack = match item.news {
            News::Resolved | News::Test | News::Acknowledged => String::new(),
            _ => format!("\n`lifeboat ack {}`", escaped(&item.what.key.to_string())),
        };
        let words = format!(
            "{mark} *{}* {}\n_{}_, open since {:.0}, owner {}{ack}",
            headline(item),
            escaped(&item.what.summary),
            escaped(&item.why),
            item.opened_at,
            escaped(&item.what.owner)
        );
        let cut: String = words.chars().take(2_900).collect();
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut } })
    });
    json!({ "text": escaped(&subject(letter)), "blocks": sections.collect::<Vec<_>>() })
}

/// Slack reads these three.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Events for PagerDuty's Events API version 2, without the routing key: <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>.
///
/// The key by which PagerDuty knows an incident again is the alarm's own.
pub fn pagerduty(letter: &Letter) -> Vec<Json> {
    let event = |item: &Item| {
        let action = match item.news {
            News::Resolved => "resolve",
            News::Acknowledged => "acknowledge",
            News::Opened | News::Worsened | News::Escalated | News::Repeated | News::Test => "trigger",
        };
        let dedup = match item.news {
            // A test is an incident of its own, each time.
            News::Test => format!("lifeboat/test/{}", letter.id),
            _ => format!("lifeboat/{}", item.what.key),
        };
        let severity = match item.what.severity {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Unproven => "info",
        };
        let summary: String = item.what.summary.chars().take(1_000).collect();
        json!({
            "event_action": action,
            "dedup_key": dedup,
            "client": "lifeboat",
            "payload": {
                "summary": summary,
                "source": item.what.key.policy.as_ref().map_or("lifeboat", |policy| policy.as_str()),
                "severity": severity,
                "timestamp": item.opened_at,
                "component": item.what.key.subject,
                "class": item.what.key.kind,
                "custom_details": document(item),
            },
        })
    };
    letter.items.iter().map(event).collect()
}

/// Alerts for Alertmanager's API version 2. One that is open must be told again before it ends there: it stands for three times the time
/// after which the route repeats it.
pub fn alertmanager(letter: &Letter, now: Timestamp) -> Json {
    let stands = letter.repeat_seconds.map_or(STANDS_SECONDS, |repeat| repeat.saturating_mul(3).max(60));
    let until = now.checked_add(jiff::SignedDuration::from_secs(stands)).unwrap_or(Timestamp::MAX);
    let alert = |item: &Item| {
        let key = &item.what.key;
        let name = if item.news == News::Test { "LifeboatTest" } else { "Lifeboat" };
        // A test is over after a minute by itself.
        let ends = match item.news {
            News::Test => now.checked_add(jiff::SignedDuration::from_secs(60)).unwrap_or(until),
            _ => item.resolved_at.unwrap_or(until),
        };
        json!({
            "labels": {
                "alertname": name,
                "alarm": key.to_string(),
                "policy": key.policy.as_ref().map_or("lifeboat", |policy| policy.as_str()),
                "kind": key.kind,
                "subject": key.subject,
                "tier": item.what.tier.as_deref().unwrap_or_default(),
                "owner": item.what.owner,
            },
            "annotations": {
                "summary": item.what.summary,
                "severity": item.what.severity,
                "hint": item.what.hint,
                "why": item.why,
                "acknowledged_by": item.acknowledged.as_ref().map_or("", |ack| ack.by.as_str()),
            },
            "startsAt": item.opened_at,
            "endsAt": ends,
        })
    };
    letter.items.iter().map(alert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alarm::{AlarmKey, AlarmKind, Condition, LetterId};
    use crate::domain::sample::at;

    fn letter(news: News) -> Letter {
        let what = Condition {
            key: AlarmKey {
                policy: Some("orders".parse().unwrap()),
                kind: AlarmKind::DrillFailed,
                subject: "restore-latest".to_owned(),
            },
            severity: Severity::Critical,
            summary: "orders: the drill <b> & co failed".to_owned(),
            hint: "lifeboat report orders".to_owned(),
            since: None,
            tier: None,
            owner: "dba".to_owned(),
        };
        let item = Item {
            news,
            what,
            opened_at: at("2026-01-01T00:00:00Z"),
            resolved_at: (news == News::Resolved).then(|| at("2026-01-01T01:00:00Z")),
            episode: 1,
            acknowledged: None,
            why: "it is new".to_owned(),
        };
        Letter {
            id: LetterId(uuid::Uuid::from_u128(7)),
            to: "chat".parse().unwrap(),
            at: at("2026-01-01T00:00:00Z"),
            repeat_seconds: Some(600),
            items: vec![item],
        }
    }

    #[test]
    fn each_receiver_is_told_in_its_own_words() {
        let opened = letter(News::Opened);
        assert_eq!(subject(&opened), "[lifeboat] CRITICAL: orders: the drill <b> & co failed");
        assert!(text(&opened).contains("lifeboat ack orders/drill_failed/restore-latest"));
        assert!(slack(&opened).to_string().contains("&lt;b&gt; &amp; co"), "{}", slack(&opened));
        let event = &pagerduty(&opened)[0];
        assert_eq!(event["event_action"], "trigger");
        assert_eq!(event["dedup_key"], "lifeboat/orders/drill_failed/restore-latest");
        assert_eq!(event["payload"]["severity"], "critical");
        assert_eq!(pagerduty(&letter(News::Resolved))[0]["event_action"], "resolve");
        assert_eq!(pagerduty(&letter(News::Resolved))[0]["dedup_key"], event["dedup_key"]);
        assert_eq!(pagerduty(&letter(News::Acknowledged))[0]["event_action"], "acknowledge");
        assert_ne!(pagerduty(&letter(News::Test))[0]["dedup_key"], event["dedup_key"]);
        let now = at("2026-01-01T00:00:05Z");
        assert_eq!(alertmanager(&opened, now)[0]["endsAt"], "2026-01-01T00:30:05Z");
        let over = alertmanager(&letter(News::Resolved), now);
        assert_eq!(over[0]["endsAt"], "2026-01-01T01:00:00Z");
        // The same labels: it is the same alert.
        assert_eq!(over[0]["labels"], alertmanager(&opened, now)[0]["labels"]);
        assert_eq!(webhook(&opened)["schema"], LETTER_SCHEMA);
    }
}
