use super::*;
use crate::domain::alarm::AlarmKind;
use crate::domain::sample::at;
use crate::domain::watch::{Mail as MailTo, MailTls, Quiet, Secret, Target, Tell};

fn place(name: &str) -> PlaceName {
    name.parse().unwrap()
}

fn notifier(name: &str, kind: NotifierKind) -> Notifier {
    Notifier { name: place(name), kind, timeout: Span::from_secs(1), give_up_after: Span::from_secs(60) }
}

fn notifiers() -> Vec<Notifier> {
    let url = || Target::Plain("http://127.0.0.1:1".to_owned());
    let mail = MailTo {
        host: "localhost".to_owned(),
        port: 25,
        tls: MailTls::None,
        user: None,
        password: None,
        from: "a@b.c".to_owned(),
        to: vec!["d@e.f".to_owned()],
    };
    vec![
        notifier("chat", NotifierKind::Slack { url: url() }),
        notifier("pager", NotifierKind::PagerDuty { url: url(), key: Secret::Env("KEY".to_owned()) }),
        notifier("mail", NotifierKind::Email(Box::new(mail))),
    ]
}

fn route() -> Route {
    Route {
        at_least: Severity::Warning,
        tiers: vec![],
        owners: vec![],
        policies: vec![],
        go_on: false,
        steps: vec![
            Tell { after: Span::ZERO, to: vec![place("chat")] },
            Tell { after: Span::from_secs(900), to: vec![place("pager")] },
        ],
        repeat: Some(Span::from_secs(3_600)),
        wait: Span::ZERO,
        group: Group::Policy,
        quiet: vec![],
    }
}

fn condition(policy: &str, kind: AlarmKind, subject: &str, severity: Severity) -> Condition {
    Condition {
        key: AlarmKey { policy: Some(policy.parse().unwrap()), kind, subject: subject.to_owned() },
        severity,
        summary: format!("{policy}: {kind}"),
        hint: "look".to_owned(),
        since: None,
        tier: Some("critical".to_owned()),
        owner: "dba".to_owned(),
    }
}

/// The state, as a caller keeps it.
struct Kept {
    alarms: Vec<Alarm>,
    routes: Vec<Route>,
    looked_at: BTreeSet<PolicyName>,
}

impl Kept {
    fn new(route: Route) -> Kept {
        let looked_at = ["orders", "billing"].map(|name| name.parse().unwrap()).into();
        Kept { alarms: vec![], routes: vec![route], looked_at }
    }

    /// Decides, keeps the new state, and tells who hears what: `chat:opened orders/drill_failed`.
    fn at(&mut self, moment: &str, conditions: &[Condition]) -> Vec<String> {
        let (notifiers, configured) = (notifiers(), ["orders", "billing"].map(|name| name.parse().unwrap()).into());
        let scene = Scene {
            conditions,
            looked_at: &self.looked_at,
            configured: &configured,
            notifiers: &notifiers,
            routes: &self.routes,
        };
        let decided = decide(scene, &self.alarms, at(moment));
        for changed in decided.changed {
            self.alarms.retain(|alarm| alarm.what.key != changed.what.key);
            self.alarms.push(changed);
        }
        let told = |letter: &Letter| {
            let items: Vec<String> =
                letter.items.iter().map(|item| format!("{} {}", item.news.as_str(), item.what.key)).collect();
            format!("{}: {}", letter.to, items.join(" + "))
        };
        decided.letters.iter().map(told).collect()
    }

    fn acknowledge(&mut self, moment: &str, lasting: Option<Span>) {
        for alarm in &mut self.alarms {
            *alarm = acknowledge(alarm, "ann", None, lasting, at(moment)).unwrap();
        }
    }
}

fn failed() -> Condition {
    condition("orders", AlarmKind::DrillFailed, "", Severity::Critical)
}

#[test]
fn an_alarm_opens_once_escalates_repeats_and_is_resolved_for_all_who_were_told() {
    let mut kept = Kept::new(route());
    let wrong = [failed()];
    assert_eq!(kept.at("2026-01-01T00:00:00Z", &wrong), ["chat: opened orders/drill_failed"]);
    assert_eq!(kept.at("2026-01-01T00:01:00Z", &wrong), Vec::<String>::new());
    assert_eq!(kept.at("2026-01-01T00:15:00Z", &wrong), ["pager: escalated orders/drill_failed"]);
    assert_eq!(kept.at("2026-01-01T00:16:00Z", &wrong), Vec::<String>::new());
    assert_eq!(kept.at("2026-01-01T01:00:00Z", &wrong), ["chat: repeated orders/drill_failed"]);
    assert_eq!(kept.at("2026-01-01T01:15:00Z", &wrong), ["pager: repeated orders/drill_failed"]);
    let over = kept.at("2026-01-01T01:20:00Z", &[]);
    assert_eq!(over, ["chat: resolved orders/drill_failed", "pager: resolved orders/drill_failed"]);
    assert_eq!(kept.at("2026-01-01T01:21:00Z", &[]), Vec::<String>::new());
    // The same thing again is news again.
    assert_eq!(kept.at("2026-01-01T02:00:00Z", &wrong), ["chat: opened orders/drill_failed"]);
    assert_eq!(kept.alarms[0].episode, 2);
}

#[test]
fn an_acknowledgement_stops_escalation_and_repetition_until_it_runs_out_or_the_alarm_gets_worse() {
    let mut kept = Kept::new(route());
    let mild = [condition("orders", AlarmKind::Drift, "tls_weak", Severity::Warning)];
    kept.at("2026-01-01T00:00:00Z", &mild);
    kept.acknowledge("2026-01-01T00:05:00Z", Some(Span::from_secs(7_200)));
    assert_eq!(kept.at("2026-01-01T00:06:00Z", &mild), ["chat: acknowledged orders/drift/tls_weak"]);
    for quiet in ["2026-01-01T00:20:00Z", "2026-01-01T01:30:00Z", "2026-01-01T02:04:59Z"] {
        assert_eq!(kept.at(quiet, &mild), Vec::<String>::new(), "{quiet}");
    }
    // It ran out: the escalation goes on.
    assert_eq!(
        kept.at("2026-01-01T02:05:00Z", &mild),
        ["chat: repeated orders/drift/tls_weak", "pager: escalated orders/drift/tls_weak"]
    );
    kept.acknowledge("2026-01-01T02:06:00Z", None);
    let worse = [Condition { severity: Severity::Critical, ..mild[0].clone() }];
    let told = kept.at("2026-01-01T02:07:00Z", &worse);
    assert_eq!(told, ["chat: worsened orders/drift/tls_weak", "pager: worsened orders/drift/tls_weak"]);
    // One that is over cannot be taken on.
    kept.at("2026-01-01T02:08:00Z", &[]);
    assert_eq!(acknowledge(&kept.alarms[0], "ann", None, None, at("2026-01-01T02:09:00Z")), None);
}

#[test]
fn what_nobody_looked_at_is_not_over_and_what_is_not_configured_is() {
    let mut kept = Kept::new(route());
    kept.at(
        "2026-01-01T00:00:00Z",
        &[failed(), condition("gone", AlarmKind::BackupBroke, "nightly", Severity::Warning)],
    );
    kept.looked_at.clear();
    assert_eq!(kept.at("2026-01-01T00:01:00Z", &[]), ["chat: resolved gone/backup_broke/nightly"]);
    assert!(kept.alarms.iter().any(|alarm| alarm.is_open() && alarm.what.key == failed().key));
    kept.looked_at.insert("orders".parse().unwrap());
    assert_eq!(kept.at("2026-01-01T00:02:00Z", &[]), ["chat: resolved orders/drill_failed"]);
}

#[test]
fn quiet_hours_hold_back_all_but_the_critical_and_lose_nothing() {
    let quiet = Quiet { from: 22 * 60, to: 7 * 60, timezone: "Europe/Berlin".to_owned() };
    let mut kept = Kept::new(Route { quiet: vec![quiet], ..route() });
    let mild = condition("orders", AlarmKind::Drift, "tls_weak", Severity::Warning);
    let passing = condition("billing", AlarmKind::Drift, "orphans", Severity::Warning);
    // 23:00 in Berlin.
    assert_eq!(
        kept.at("2026-01-01T22:00:00Z", &[failed(), mild.clone(), passing]),
        ["chat: opened orders/drill_failed"]
    );
    // What came and went in the night was never told, and is not told in the morning.
    assert_eq!(
        kept.at("2026-01-02T05:59:00Z", &[failed(), mild.clone()]),
        ["chat: repeated orders/drill_failed", "pager: escalated orders/drill_failed"]
    );
    let morning = kept.at("2026-01-02T06:00:00Z", &[failed(), mild.clone()]);
    assert_eq!(morning, ["chat: opened orders/drift/tls_weak", "pager: escalated orders/drift/tls_weak"]);
    // The end of one that was told waits for the morning too.
    assert_eq!(kept.at("2026-01-02T22:00:00Z", &[failed()]).len(), 2, "only the critical one is repeated");
    let next = kept.at("2026-01-03T06:00:00Z", &[failed()]);
    assert!(next.contains(&"pager: resolved orders/drift/tls_weak".to_owned()), "{next:?}");
    assert!(
        next.iter().any(|told| told.starts_with("chat: ") && told.contains("resolved orders/drift/tls_weak")),
        "{next:?}"
    );
}

#[test]
fn who_was_owed_the_end_hears_that_it_goes_on_and_who_is_no_notifier_hears_nothing() {
    let quiet = Quiet { from: 22 * 60, to: 7 * 60, timezone: "UTC".to_owned() };
    let nobody = Tell { after: Span::ZERO, to: vec![place("nobody")] };
    let mut kept = Kept::new(Route { quiet: vec![quiet], ..route() });
    kept.routes[0].steps.push(nobody);
    let mild = [condition("orders", AlarmKind::Drift, "tls_weak", Severity::Warning)];
    assert_eq!(kept.at("2026-01-01T21:59:00Z", &mild), ["chat: opened orders/drift/tls_weak"]);
    // Over and there again within the night: for who was told it never ended.
    assert_eq!(kept.at("2026-01-01T22:30:00Z", &[]), Vec::<String>::new());
    assert_eq!(kept.at("2026-01-01T22:40:00Z", &mild), Vec::<String>::new());
    let morning = kept.at("2026-01-02T07:00:00Z", &mild);
    assert!(morning.contains(&"chat: repeated orders/drift/tls_weak".to_owned()), "{morning:?}");
    // What was owed to one who is no notifier any more is owed to nobody.
    let told = kept.alarms[0].told[&place("chat")].clone();
    kept.alarms[0].told.insert(place("gone"), told);
    let over = kept.at("2026-01-02T08:00:00Z", &[]);
    assert!(!over.is_empty() && over.iter().all(|letter| !letter.starts_with("gone")), "{over:?}");
}

#[test]
fn alarms_are_grouped_by_policy_or_all_and_pages_are_never_grouped() {
    let many = [
        failed(),
        condition("orders", AlarmKind::BackupBroke, "nightly", Severity::Warning),
        condition("billing", AlarmKind::BackupBroke, "nightly", Severity::Warning),
    ];
    let mut kept = Kept::new(route());
    assert_eq!(
        kept.at("2026-01-01T00:00:00Z", &many),
        [
            "chat: opened billing/backup_broke/nightly",
            "chat: opened orders/drill_failed + opened orders/backup_broke/nightly"
        ]
    );
    assert_eq!(kept.at("2026-01-01T00:15:00Z", &many).len(), 3, "one page each");
    let mut kept = Kept::new(Route { group: Group::All, wait: Span::from_secs(30), ..route() });
    assert_eq!(kept.at("2026-01-01T00:00:00Z", &many[..1]), Vec::<String>::new());
    assert_eq!(kept.at("2026-01-01T00:00:20Z", &many), Vec::<String>::new());
    assert_eq!(kept.at("2026-01-01T00:00:50Z", &many).len(), 1, "all in one");
}

#[test]
fn routes_choose_by_tier_owner_policy_and_severity() {
    let mut elsewhere = failed();
    elsewhere.tier = None;
    let only = |route: Route, what: &Condition| next_for(&[route], what).len();
    assert_eq!(only(route(), &failed()), 1);
    assert_eq!(only(Route { tiers: vec!["critical".to_owned()], ..route() }, &failed()), 1);
    assert_eq!(only(Route { tiers: vec!["critical".to_owned()], ..route() }, &elsewhere), 0);
    assert_eq!(only(Route { owners: vec!["web".to_owned()], ..route() }, &failed()), 0);
    assert_eq!(only(Route { policies: vec!["billing".parse().unwrap()], ..route() }, &failed()), 0);
    let mild = condition("orders", AlarmKind::Drift, "x", Severity::Warning);
    assert_eq!(only(Route { at_least: Severity::Critical, ..route() }, &mild), 0);
    assert_eq!(next_for(&[route(), route()], &failed()), [0]);
    assert_eq!(next_for(&[Route { go_on: true, ..route() }, route()], &failed()), [0, 1]);
}

#[test]
fn without_routes_everybody_is_told_and_letters_have_names_that_stay() {
    let (notifiers, one) = (notifiers(), ["orders".parse().unwrap()].into());
    let scene =
        Scene { conditions: &[failed()], looked_at: &one, configured: &one, notifiers: &notifiers, routes: &[] };
    let now = at("2026-01-01T00:00:00Z");
    let (first, again) = (decide(scene, &[], now), decide(scene, &[], now));
    assert_eq!(first.letters.len(), 3);
    assert_eq!(first, again);
    let names: BTreeSet<LetterId> = first.letters.iter().map(|letter| letter.id).collect();
    assert_eq!(names.len(), 3);
    let later = decide(scene, &[], at("2026-01-01T00:00:01Z"));
    assert!(later.letters.iter().all(|letter| !names.contains(&letter.id)));
}
