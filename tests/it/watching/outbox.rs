//! The contract of an outbox.

use jiff::SignedDuration;
use lifeboat::catalog::{Opened, SqliteCatalog};
use lifeboat::domain::alarm::{Alarm, AlarmKey, AlarmKind, Condition, Item, Letter, LetterId, News};
use lifeboat::domain::drift::{Drift, Severity};
use lifeboat::domain::queue::Hold;
use lifeboat::domain::run::{Event, RunOutcome};
use lifeboat::domain::units::Span;

use super::at;
use crate::support::sample;

fn condition() -> Condition {
    Condition {
        key: AlarmKey {
            policy: Some("orders".parse().unwrap()),
            kind: AlarmKind::DrillFailed,
            subject: "x".to_owned(),
        },
        severity: Severity::Critical,
        summary: "it failed".to_owned(),
        hint: "look".to_owned(),
        since: None,
        tier: None,
        owner: "dba".to_owned(),
    }
}

fn alarm() -> Alarm {
    Alarm {
        what: condition(),
        opened_at: at("2026-01-01T00:00:00Z"),
        resolved_at: None,
        resolved_why: None,
        acknowledged: None,
        told: [].into(),
        episode: 1,
    }
}

fn letter(number: u128, to: &str) -> Letter {
    let item = Item {
        news: News::Opened,
        what: condition(),
        opened_at: at("2026-01-01T00:00:00Z"),
        resolved_at: None,
        episode: 1,
        acknowledged: None,
        why: "it is new".to_owned(),
    };
    let id = LetterId(uuid::Uuid::from_u128(number));
    Letter { id, to: to.parse().unwrap(), at: at("2026-01-01T00:00:00Z"), repeat_seconds: None, items: vec![item] }
}

/// A difference that a look at drift may find.
fn weak_tls() -> Drift {
    Drift {
        code: "tls_weak".to_owned(),
        severity: Severity::Warning,
        policy: Some("orders".parse().unwrap()),
        object: "source".to_owned(),
        declared: "a".to_owned(),
        observed: "b".to_owned(),
        since: None,
        mend: "c".to_owned(),
    }
}

/// Every implementation passes this, from an empty catalog.
async fn contract(opened: &Opened) {
    let outbox = &*opened.outbox;
    let (chat, mail) = ("chat".parse().unwrap(), "mail".parse().unwrap());
    let known = outbox.alarms().await.unwrap();
    assert!(known.alarms.is_empty() && outbox.waiting(10).await.unwrap().is_empty());

    // State and letters are written together, or not at all when somebody was quicker, or a letter is there already.
    let letters = vec![letter(1, "chat"), letter(2, "chat"), letter(3, "mail")];
    assert!(outbox.settle(known.version, vec![alarm()], letters).await.unwrap());
    assert!(!outbox.settle(known.version, vec![], vec![letter(4, "chat")]).await.unwrap());
    let known = outbox.alarms().await.unwrap();
    assert_eq!(known.alarms, [alarm()]);
    let worse = Alarm { episode: 2, ..alarm() };
    assert!(outbox.settle(known.version, vec![worse.clone()], vec![letter(1, "chat")]).await.is_err());
    assert_eq!(outbox.alarms().await.unwrap(), known);
    assert!(outbox.settle(known.version, vec![worse.clone()], vec![]).await.unwrap());
    assert_eq!(outbox.alarms().await.unwrap().alarms, [worse]);

    // The oldest first; nobody else has it meanwhile, nor those after it.
    let (now, minute) = (at("2026-01-01T00:00:01Z"), Span::from_secs(60));
    let first = outbox.take(&chat, now, minute).await.unwrap().unwrap();
    assert_eq!((first.waiting.letter.id, first.waiting.tries), (letter(1, "chat").id, 1));
    assert_eq!(outbox.take(&chat, now, minute).await.unwrap(), None);
    // Other notifiers are not kept waiting.
    let other = outbox.take(&mail, now, minute).await.unwrap().unwrap();
    assert_eq!(outbox.delivered(&other, now, "250 ok").await.unwrap(), Hold::Held);
    assert_eq!(outbox.take(&mail, now, minute).await.unwrap(), None);

    // Who died over it has lost it; what he says later counts for nothing.
    let later = now + SignedDuration::from_secs(61);
    let again = outbox.take(&chat, later, minute).await.unwrap().unwrap();
    assert_eq!((again.waiting.letter.id, again.waiting.tries), (first.waiting.letter.id, 2));
    assert_eq!(outbox.delivered(&first, later, "200").await.unwrap(), Hold::Lost);
    assert_eq!(outbox.give_up(&first, later, "why").await.unwrap(), Hold::Lost);

    // Put off: it waits for its time, and those after it wait behind it.
    let next = later + SignedDuration::from_secs(100);
    assert_eq!(outbox.put_off(&again, next, "503").await.unwrap(), Hold::Held);
    assert_eq!(outbox.take(&chat, next - SignedDuration::from_secs(1), minute).await.unwrap(), None);
    let waiting = outbox.waiting(10).await.unwrap();
    assert_eq!(waiting.len(), 2);
    assert_eq!((waiting[0].last_error.as_deref(), waiting[0].next_try), (Some("503"), next));
    let third = outbox.take(&chat, next, minute).await.unwrap().unwrap();
    assert_eq!(outbox.delivered(&third, next, "200 ok").await.unwrap(), Hold::Held);
    assert_eq!(outbox.delivered(&third, next, "200 ok").await.unwrap(), Hold::Lost, "it is marked once");
    let last = outbox.take(&chat, next, minute).await.unwrap().unwrap();
    assert_eq!(last.waiting.letter.id, letter(2, "chat").id);
    let post = outbox.post().await.unwrap();
    assert_eq!((post.by_notifier[&chat].waiting, post.by_notifier[&chat].delivered), (1, 1));
    assert_eq!(post.by_notifier[&chat].waiting_since, Some(at("2026-01-01T00:00:00Z")));
    assert_eq!(outbox.give_up(&last, next, "refused").await.unwrap(), Hold::Held);
    let post = outbox.post().await.unwrap();
    assert_eq!((post.by_notifier[&chat].waiting, post.by_notifier[&chat].given_up), (0, 1));
    assert_eq!(post.by_notifier[&chat].given_up_at, Some(next));
    assert_eq!(outbox.given_up(10).await.unwrap()[0].3, "refused");
    assert_eq!(post.by_notifier[&mail].delivered, 1);

    // What drift was seen: the later look stands.
    let drift = weak_tls();
    let orders = Some("orders".parse().unwrap());
    outbox.note_drift(next, vec![(orders.clone(), vec![drift.clone()]), (None, vec![])]).await.unwrap();
    outbox.note_drift(now, vec![(orders.clone(), vec![])]).await.unwrap();
    let seen = outbox.drift_seen().await.unwrap();
    assert_eq!(seen, [(None, next, vec![]), (orders, next, vec![drift])]);

    // What is new since when.
    let began = outbox.changed(0).await.unwrap();
    assert!(began.policies.is_empty());
    let done = Event::Finished { outcome: RunOutcome::Succeeded };
    opened.catalog.append(now, &"billing".parse().unwrap(), sample::run(9), done).await.unwrap();
    let changed = outbox.changed(began.up_to).await.unwrap();
    assert_eq!(changed.policies, ["billing".parse().unwrap()]);
    assert!(outbox.changed(changed.up_to).await.unwrap().policies.is_empty());
    assert_eq!(outbox.ended().await.unwrap().get("finished"), Some(&1));
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Opened::from(SqliteCatalog::open(&folder.path().join("lifeboat.db")).unwrap());
    contract(&opened).await;
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let server = crate::support::server::Server::start();
    contract(&crate::support::catalog::opened(&server, "outbox").await).await;
}

#[tokio::test]
async fn of_two_who_take_at_once_one_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lifeboat.db");
    let opened: Vec<Opened> = (0..4).map(|_| SqliteCatalog::open(&path).unwrap().into()).collect();
    let letters = (1..=20).map(|number| letter(number, "chat")).collect();
    assert!(opened[0].outbox.settle(0, vec![], letters).await.unwrap());
    let mut takers = Vec::new();
    for one in opened {
        takers.push(tokio::spawn(async move {
            let (to, mut got) = ("chat".parse().unwrap(), Vec::new());
            loop {
                if let Some(held) = one.outbox.take(&to, at("2026-01-02T00:00:00Z"), Span::from_secs(60)).await.unwrap()
                {
                    got.push(held.waiting.letter.id);
                    assert_eq!(one.outbox.delivered(&held, at("2026-01-02T00:00:00Z"), "").await.unwrap(), Hold::Held);
                } else if one.outbox.waiting(1).await.unwrap().is_empty() {
                    return got;
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    let mut all = Vec::new();
    for taker in takers {
        all.extend(taker.await.unwrap());
    }
    all.sort();
    assert_eq!(all, (1..=20).map(|number| LetterId(uuid::Uuid::from_u128(number))).collect::<Vec<_>>());
}

/// Alarms, one of them acknowledged and one over; a letter that was tried in vain, one that somebody is delivering, and some that are done; and what drift was seen.
pub async fn leave_alarms_and_letters(outbox: &dyn lifeboat::catalog::Outbox) {
    use lifeboat::domain::alarm::{Acknowledgement, Told};
    let (chat, now) = ("chat".parse().unwrap(), at("2026-01-01T00:00:01Z"));
    let of = |subject: &str| {
        let key = AlarmKey { subject: subject.to_owned(), ..condition().key };
        Alarm { what: Condition { key, ..condition() }, ..alarm() }
    };
    let acknowledged =
        Acknowledgement { at: now, by: "ada".to_owned(), why: Some("at \u{1F527}".to_owned()), until: Some(now) };
    let told = Told { first: now, last: now, severity: Severity::Critical, acknowledged: true, resolved: false };
    let taken_on =
        Alarm { acknowledged: Some(acknowledged), told: [("chat".parse().unwrap(), told)].into(), ..of("taken on") };
    let over = Alarm { resolved_at: Some(now), resolved_why: Some("it passed".to_owned()), episode: 3, ..of("over") };
    let letters =
        vec![letter(11, "chat"), letter(12, "chat"), letter(13, "mail"), letter(14, "mail"), letter(15, "pager")];
    let version = outbox.alarms().await.unwrap().version;
    assert!(outbox.settle(version, vec![alarm(), taken_on, over], letters).await.unwrap());
    let minute = Span::from_secs(60);
    let tried = outbox.take(&chat, now, minute).await.unwrap().unwrap();
    assert_eq!(outbox.put_off(&tried, now + SignedDuration::from_secs(5), "503").await.unwrap(), Hold::Held);
    let mail = "mail".parse().unwrap();
    let done = outbox.take(&mail, now, minute).await.unwrap().unwrap();
    assert_eq!(outbox.delivered(&done, now, "250").await.unwrap(), Hold::Held);
    // In somebody's hands while it is carried away.
    outbox.take(&mail, now, minute).await.unwrap().unwrap();
    let pager = outbox.take(&"pager".parse().unwrap(), now, minute).await.unwrap().unwrap();
    assert_eq!(outbox.give_up(&pager, now, "404").await.unwrap(), Hold::Held);
    let drift = weak_tls();
    outbox.note_drift(now, vec![(Some("orders".parse().unwrap()), vec![drift]), (None, vec![])]).await.unwrap();
}

/// What waits after [`leave_alarms_and_letters`] is delivered, in its order.
pub async fn deliver_what_waits(outbox: &dyn lifeboat::catalog::Outbox) {
    let now = at("2026-01-01T01:00:00Z");
    let mut seen = Vec::new();
    for to in ["chat", "mail", "pager"] {
        while let Some(held) = outbox.take(&to.parse().unwrap(), now, Span::from_secs(60)).await.unwrap() {
            seen.push((held.waiting.letter.id.0.as_u128(), held.waiting.tries));
            assert_eq!(outbox.delivered(&held, now, "200").await.unwrap(), Hold::Held);
        }
    }
    assert_eq!(seen, [(11, 2), (12, 1), (14, 2)]);
}
