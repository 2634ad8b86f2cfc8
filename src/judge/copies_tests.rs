use proptest::prelude::*;

use super::*;
use crate::domain::check::Finding;
use crate::domain::copies::{CopyTerms, Held, LogSpread, Place, ReadBy, Spread};
use crate::domain::drift::Severity;
use crate::domain::observed::Observed;
use crate::domain::units::Span;

fn name(text: &str) -> PlaceName {
    text.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-01-31T12:00:00Z";

fn place(text: &str, media: &str, site: Option<&str>, immutable: Observed<bool>) -> Place {
    Place { name: name(text), media: name(media), site: site.map(name), immutable, unseen: None }
}

fn good(store: &str) -> Held {
    let verified = Observed::Known(at(NOW));
    Held { store: name(store), seen: Observed::Known(Vec::new()), verified, read_by: Some(ReadBy::Look), lag: None }
}

fn absent(store: &str) -> Held {
    Held { seen: Observed::Absent, verified: Observed::Absent, ..good(store) }
}

fn wrong(store: &str, code: &str) -> Held {
    let finding = Finding::new(code, "part base/00003.zst.age", "as it should not be").with("9 bytes", "nothing");
    Held { seen: Observed::Known(vec![finding]), verified: Observed::Absent, ..good(store) }
}

/// A backup that ended so many hours ago.
fn spread(number: u32, hours: i64, held: Vec<Held>) -> Spread {
    let finished_at = at(NOW).checked_sub(Span::from_secs(hours * 3_600).0).unwrap();
    Spread { backup: BackupId::new(finished_at, number), job: "nightly".parse().unwrap(), finished_at, held }
}

/// What the stage is set with: by default all is as well as it can be.
#[derive(Debug)]
struct Stage {
    policy: PolicyName,
    site: Option<PlaceName>,
    places: Vec<Place>,
    terms: Vec<CopyTerms>,
    backups: Vec<Spread>,
    logs: Vec<LogSpread>,
}

impl Stage {
    fn new(backups: Vec<Spread>) -> Stage {
        Stage {
            policy: "orders".parse().unwrap(),
            site: Some(name("berlin")),
            places: vec![
                place("dr-region", "object", Some("dublin"), Observed::Known(true)),
                place("primary", "disk", Some("berlin"), Observed::Absent),
            ],
            terms: vec![CopyTerms {
                job: "nightly".parse().unwrap(),
                store: name("primary"),
                copies: vec![name("dr-region")],
                within: Span::from_secs(6 * 3_600),
            }],
            backups,
            logs: Vec::new(),
        }
    }

    fn judge(&self) -> Judged {
        judge(&Ground {
            policy: &self.policy,
            source_site: self.site.as_ref(),
            places: &self.places,
            terms: &self.terms,
            backups: &self.backups,
            logs: &self.logs,
            now: at(NOW),
        })
    }

    fn rule(&self, rule: Rule) -> Verdict {
        self.judge().rules.iter().find(|ruled| ruled.rule == rule).unwrap().verdict
    }
}

/// What is told of where copies are; each with all that a person needs to mend it.
fn codes(judged: &Judged) -> Vec<&str> {
    for drift in judged.compared.iter().chain(&judged.short) {
        let words = [&drift.declared, &drift.observed, &drift.mend];
        assert!(words.iter().all(|text| !text.is_empty()), "{drift:?}");
        let dated = ["copy_lag", "copy_missing", "copy_pending", "copy_stale"].contains(&drift.code.as_str());
        assert!(drift.since.is_some() || !dated, "{drift:?}");
    }
    judged.compared.iter().map(|drift| drift.code.as_str()).collect()
}

fn whole() -> Spread {
    spread(1, 24, vec![good("primary"), good("dr-region")])
}

#[test]
fn what_is_as_it_should_be_is_proven_by_all_five_numbers() {
    let judged = Stage::new(vec![whole()]).judge();
    assert!(judged.rules.iter().all(|ruled| ruled.verdict == Verdict::Proven), "{:?}", judged.rules);
    assert_eq!((judged.comparison(), judged.rule()), (Verdict::Proven, Verdict::Proven));
    assert!(judged.compared.is_empty() && judged.short.is_empty());
}

#[test]
fn one_missing_one_stale_one_corrupted_are_told_as_exactly_that() {
    let judged = Stage::new(vec![
        spread(3, 12, vec![good("primary"), absent("dr-region")]),
        spread(2, 36, vec![good("primary"), wrong("dr-region", "copy_corrupt")]),
        spread(1, 60, vec![good("primary"), wrong("dr-region", "copy_object_missing")]),
    ])
    .judge();
    assert_eq!(codes(&judged), ["copy_corrupt", "copy_object_missing", "copy_stale"]);
    let objects: Vec<&str> = judged.compared.iter().map(|drift| drift.object.as_str()).collect();
    assert!(objects[0].contains("-00000002 in dr-region: part base/00003.zst.age"), "{objects:?}");
    assert!(objects[1].contains("-00000001 in dr-region: part base/00003.zst.age"), "{objects:?}");
    assert_eq!(objects[2], "job nightly in dr-region");
    assert!(judged.compared[2].declared.contains("-00000003"), "{:?}", judged.compared[2]);
    assert_eq!(judged.comparison(), Verdict::Failed);
    assert!(judged.compared[0].mend.starts_with("remove this copy"), "{:?}", judged.compared[0]);
    assert!(judged.compared[1].mend.starts_with("`lifeboat copy`"), "{:?}", judged.compared[1]);
}

#[test]
fn one_that_is_missing_among_newer_ones_is_missing_unless_it_is_nowhere() {
    let older = |first: Held| spread(1, 60, vec![first, absent("dr-region")]);
    let newer = || spread(2, 24, vec![good("primary"), good("dr-region")]);
    let judged = Stage::new(vec![older(good("primary")), newer()]).judge();
    assert_eq!(codes(&judged), ["copy_missing"]);
    assert!(judged.compared[0].object.contains("-00000001 in dr-region"), "{:?}", judged.compared);
    // In neither store, or nobody knows whether in the other.
    let gone = Stage::new(vec![older(absent("primary")), newer()]).judge();
    assert!(!codes(&gone).contains(&"copy_missing"), "{:?}", gone.compared);
    let blind = Held { seen: Observed::Unknown("gone".to_owned()), ..absent("primary") };
    assert_eq!(codes(&Stage::new(vec![older(blind), newer()]).judge()), ["copy_unseen"]);
}

#[test]
fn each_number_says_what_it_demands_and_what_to_do_and_names_a_backup_that_falls_short() {
    for rule in Rule::ALL {
        assert!(rule.demand().starts_with(|first: char| first.is_ascii_digit()), "{}", rule.demand());
        assert!(["store", "site", "verify"].iter().any(|word| rule.mend().contains(word)), "{}", rule.mend());
    }
    let short = spread(2, 36, vec![good("primary"), wrong("dr-region", "copy_corrupt")]);
    let judged = Stage::new(vec![whole(), short.clone()]).judge();
    let copies = judged.rules.iter().find(|ruled| ruled.rule == Rule::Copies).unwrap();
    let named = format!("1 of 2 backups, such as {}: ", short.backup);
    assert!(copies.verdict != Verdict::Proven && copies.reason.starts_with(&named), "{copies:?}");
}

#[test]
fn a_copy_that_still_has_time_is_neither_missing_nor_good() {
    let young = || spread(2, 5, vec![good("primary"), absent("dr-region")]);
    let why = |backup: Spread| Stage::new(vec![backup]).judge().rules[0].reason.clone();
    assert_eq!(why(whole()), "the source and primary, dr-region: 3");
    let told = why(young());
    assert!(told.ends_with(": the source and primary: 2; dr-region may still be copied in time"), "{told}");
    let stage = Stage::new(vec![young(), whole()]);
    assert!(codes(&stage.judge()).is_empty());
    assert_eq!(stage.rule(Rule::Copies), Verdict::Unproven);
    let first = Stage::new(vec![young()]).judge();
    assert_eq!(
        (codes(&first), first.comparison()),
        (vec!["copy_pending"], Verdict::Unproven),
        "nothing was seen to work"
    );
    // With the first one that is overdue the store is stale, whatever is young.
    let stage = Stage::new(vec![young(), spread(3, 7, vec![good("primary"), absent("dr-region")]), whole()]);
    let judged = stage.judge();
    assert_eq!(codes(&judged), ["copy_stale"]);
    assert!(judged.compared[0].observed.contains("2 newer not there"), "{:?}", judged.compared[0]);
    assert_eq!(judged.compared[0].since, Some(stage.backups[1].finished_at));
    // An older one that is not there, while newer ones are.
    let hole = Stage::new(vec![whole(), spread(4, 48, vec![good("primary"), absent("dr-region")])]);
    assert_eq!(codes(&hole.judge()), ["copy_missing"]);
    // None at all.
    let none = Stage::new(vec![spread(4, 48, vec![good("primary"), absent("dr-region")])]).judge();
    assert_eq!(codes(&none), ["copy_stale"]);
    assert!(none.compared[0].observed.contains("it has none"));
    // What is only in the second store any more is not missing there, nor is what is nowhere.
    let kept = Stage::new(vec![whole(), spread(5, 90, vec![absent("primary"), good("dr-region")])]);
    assert!(codes(&kept.judge()).is_empty());
}

#[test]
fn what_was_not_seen_is_unproven_and_never_good() {
    let unseen = Held { seen: Observed::Unknown("no route to host".to_owned()), ..absent("dr-region") };
    let stage = Stage::new(vec![spread(1, 24, vec![good("primary"), unseen])]);
    let judged = stage.judge();
    assert_eq!(codes(&judged), ["copy_unseen"]);
    assert_eq!(judged.compared[0].severity, Severity::Unproven);
    assert_eq!((judged.comparison(), judged.rule()), (Verdict::Unproven, Verdict::Unproven));
    for rule in Rule::ALL {
        assert_eq!(stage.rule(rule), Verdict::Unproven, "{rule:?}");
    }
    // Where nothing is known to lie in it, it is still not known that nothing does.
    let mut dark = Stage::new(Vec::new());
    dark.places[1].unseen = Some("not mounted".to_owned());
    assert_eq!(codes(&dark.judge()), ["copy_unseen"]);
    let unread = Held { verified: Observed::Absent, ..good("dr-region") };
    let stage = Stage::new(vec![spread(1, 24, vec![good("primary"), unread])]);
    let told = stage.judge();
    assert_eq!(codes(&told), ["copies_unverified"]);
    assert_eq!(told.compared[0].object, "store dr-region");
    assert!(told.compared[0].observed.starts_with("1 backup was"), "{told:?}");
    assert_eq!((stage.judge().comparison(), stage.rule(Rule::Errors)), (Verdict::Unproven, Verdict::Unproven));
    assert_eq!(Stage::new(Vec::new()).judge().comparison(), Verdict::Unproven);
    let mut alone = Stage::new(vec![spread(1, 24, vec![good("primary")])]);
    alone.terms[0].copies.clear();
    assert_eq!(alone.judge().comparison(), Verdict::Unproven, "nothing was compared");
}

#[test]
fn sites_media_and_locks_that_nobody_told_of_prove_nothing() {
    let set = |change: fn(&mut Stage)| {
        let mut stage = Stage::new(vec![whole()]);
        change(&mut stage);
        stage
    };
    for (stage, rule, verdict) in [
        (set(|stage| stage.site = None), Rule::OffSite, Verdict::Unproven),
        (set(|stage| stage.places[0].site = None), Rule::OffSite, Verdict::Unproven),
        (set(|stage| stage.places[0].site = Some(name("berlin"))), Rule::OffSite, Verdict::Failed),
        (set(|stage| stage.places[0].media = name("disk")), Rule::Media, Verdict::Failed),
        (
            set(|stage| stage.places[0].immutable = Observed::Unknown("not tried".to_owned())),
            Rule::Immutable,
            Verdict::Unproven,
        ),
        (set(|stage| stage.places[0].immutable = Observed::Known(false)), Rule::Immutable, Verdict::Failed),
        (set(|stage| stage.places[0].immutable = Observed::Absent), Rule::Immutable, Verdict::Failed),
        (set(|stage| stage.backups[0].held = vec![good("primary")]), Rule::Copies, Verdict::Failed),
        // It had a day and was allowed six hours: it is not on its way any more.
        (set(|stage| stage.backups[0].held[1] = absent("dr-region")), Rule::Copies, Verdict::Failed),
        (set(|stage| stage.backups[0].held[1] = absent("dr-region")), Rule::OffSite, Verdict::Failed),
    ] {
        assert_eq!(stage.rule(rule), verdict, "{rule:?}: {:?}", stage.judge().rules);
        let judged = stage.judge();
        let short: Vec<&str> = judged.short.iter().map(|drift| drift.code.as_str()).collect();
        assert!(short.contains(&rule.code()), "{short:?}");
    }
    // A copy with a finding counts for none of them.
    let bad = Stage::new(vec![spread(1, 24, vec![good("primary"), wrong("dr-region", "copy_corrupt")])]);
    for rule in Rule::ALL {
        assert_eq!(bad.rule(rule), Verdict::Failed, "{rule:?}");
    }
}

#[test]
fn each_verdict_says_what_it_rests_on() {
    let why = |rule: Rule, held: Vec<Held>, far: &str| {
        let mut stage = Stage::new(vec![spread(1, 24, held)]);
        stage.places[0].site = Some(name(far));
        let judged = stage.judge();
        judged.backups[0].rules.iter().find(|ruled| ruled.rule == rule).unwrap().reason.clone()
    };
    let both = || vec![good("primary"), good("dr-region")];
    assert_eq!(why(Rule::OffSite, both(), "berlin"), "primary, dr-region stand where the source stands, at berlin");
    assert_eq!(why(Rule::OffSite, both(), "dublin"), "dr-region is at dublin, the source at berlin");
    let none = vec![absent("primary"), absent("dr-region")];
    assert_eq!(why(Rule::OffSite, none, "dublin"), "no store away from the source has it");
    let bad = vec![good("primary"), wrong("dr-region", "copy_corrupt")];
    assert_eq!(why(Rule::Errors, bad.clone(), "dublin"), "1 finding in dr-region");
    let mut worse = bad;
    if let Observed::Known(findings) = &mut worse[1].seen {
        findings.push(findings[0].clone());
    }
    assert_eq!(why(Rule::Errors, worse, "dublin"), "2 findings in dr-region");
    assert_eq!(why(Rule::Errors, both(), "dublin"), "every copy was read, and every hash was right");
    let by_ledger =
        |when: &str, store| Held { verified: Observed::Known(at(when)), read_by: Some(ReadBy::Ledger), ..good(store) };
    let read = vec![by_ledger("2026-01-31T03:00:00Z", "primary"), by_ledger("2026-01-30T03:00:00Z", "dr-region")];
    let told = why(Rule::Errors, read, "dublin");
    assert!(told.contains("the oldest part at 2026-01-30T03:00:00Z") && told.ends_with("(by the ledger)"), "{told}");
}

#[test]
fn a_copy_that_came_late_and_a_log_that_did_not_come_are_told() {
    let lag = |hours: i64| Held { lag: Some(Span::from_secs(hours * 3_600)), ..good("dr-region") };
    assert_eq!(codes(&Stage::new(vec![spread(1, 24, vec![good("primary"), lag(7)])]).judge()), ["copy_lag"]);
    assert!(codes(&Stage::new(vec![spread(1, 24, vec![good("primary"), lag(6)])]).judge()).is_empty());
    let log = |since: Option<&str>| LogSpread {
        store: name("dr-region"),
        files: 10,
        missing: 2,
        between: Some(("000000010000000000000008".to_owned(), "000000010000000000000009".to_owned())),
        missing_since: since.map(at),
        findings: Vec::new(),
        read: true,
        unseen: None,
    };
    let mut stage = Stage::new(vec![whole()]);
    for (since, told) in [
        (Some("2026-01-31T05:59:59Z"), 1),
        (Some("2026-01-31T06:00:00Z"), 0),
        (Some("2026-01-31T07:00:00Z"), 0),
        (None, 1),
    ] {
        stage.logs = vec![log(since)];
        assert_eq!(codes(&stage.judge()).len(), told, "{since:?}");
    }
    assert_eq!(codes(&stage.judge()), ["copy_log_missing"]);
    stage.logs = vec![log(Some("2026-01-31T05:00:00Z"))];
    assert_eq!(stage.judge().compared[0].since, Some(at("2026-01-31T05:00:00Z")));
    stage.logs = vec![LogSpread { missing: 0, ..log(None) }];
    assert!(codes(&stage.judge()).is_empty());
    stage.logs = vec![LogSpread { missing: 0, between: None, read: false, ..log(None) }];
    let judged = stage.judge();
    assert_eq!(codes(&judged), ["copies_unverified"]);
    let told = (judged.compared[0].object.as_str(), judged.compared[0].observed.as_str());
    assert_eq!(told, ("store dr-region", "the log was listed, and not read"));
}

fn any_held(store: &'static str) -> impl Strategy<Value = Held> {
    prop_oneof![
        Just(good(store)),
        Just(absent(store)),
        Just(wrong(store, "copy_corrupt")),
        Just(Held { seen: Observed::Unknown("gone".to_owned()), ..absent(store) }),
        Just(Held { verified: Observed::Unknown("not read".to_owned()), ..good(store) }),
    ]
}

fn any_stage() -> impl Strategy<Value = Stage> {
    let one = (0_i64..200, any_held("primary"), any_held("dr-region"));
    let site = prop_oneof![Just(None), Just(Some("berlin")), Just(Some("dublin"))];
    let lock = prop_oneof![
        Just(Observed::Absent),
        Just(Observed::Known(false)),
        Just(Observed::Known(true)),
        Just(Observed::Unknown("?".to_owned()))
    ];
    (proptest::collection::vec(one, 0..6), site.clone(), site, lock, any::<bool>()).prop_map(
        |(backups, source, far, lock, same)| {
            let number = |at: usize| u32::try_from(at).unwrap();
            let backups = backups.into_iter().enumerate();
            let mut stage = Stage::new(
                backups.map(|(at, (hours, first, second))| spread(number(at), hours, vec![first, second])).collect(),
            );
            stage.site = source.map(name);
            stage.places[0].site = far.map(name);
            stage.places[0].immutable = lock;
            stage.places[0].media = name(if same { "disk" } else { "object" });
            stage
        },
    )
}

proptest! {
    /// Nothing that was not seen, read and found right is ever part of a pass.
    #[test]
    fn a_pass_rests_on_what_was_seen(stage in any_stage()) {
        let judged = stage.judge();
        let sound = |held: &Held| {
            matches!(&held.seen, Observed::Known(findings) if findings.is_empty())
                && matches!(held.verified, Observed::Known(_))
        };
        if judged.comparison() == Verdict::Proven {
            for spread in &stage.backups {
                let young = spread.finished_at > at(NOW).checked_sub(Span::from_secs(6 * 3_600 + 1).0).unwrap();
                for held in &spread.held {
                    let excused = held.seen == Observed::Absent;
                    prop_assert!(sound(held) || excused, "{spread:?}");
                }
                let first = &spread.held[0];
                let second = &spread.held[1];
                prop_assert!(sound(second) || young || first.seen == Observed::Absent, "{spread:?}");
            }
            let lacking = stage.backups.iter().any(|spread| spread.held[1].seen == Observed::Absent && sound(&spread.held[0]));
            prop_assert!(!lacking || stage.backups.iter().any(|spread| sound(&spread.held[1])));
        }
        for of in &judged.backups {
            let spread = stage.backups.iter().find(|spread| spread.backup == of.backup).unwrap();
            let proven = |rule| of.rules.iter().any(|ruled| ruled.rule == rule && ruled.verdict == Verdict::Proven);
            let there = |at: usize| matches!(&spread.held[at].seen, Observed::Known(findings) if findings.is_empty());
            prop_assert!(!proven(Rule::Copies) || (there(0) && there(1)));
            let away = stage.site.is_some() && stage.places[0].site.is_some() && stage.site != stage.places[0].site;
            let near = stage.site.is_some() && stage.site != stage.places[1].site;
            prop_assert!(!proven(Rule::OffSite) || (away && there(1)) || (near && there(0)));
            prop_assert!(!proven(Rule::Immutable) || (there(1) && stage.places[0].immutable == Observed::Known(true)));
            prop_assert!(!proven(Rule::Errors) || spread.held.iter().all(|held| held.seen == Observed::Absent || sound(held)));
        }
    }

    /// Each thing that is wrong with an object is told once, by its own word.
    #[test]
    fn every_finding_is_told_once(stage in any_stage()) {
        let wrong = stage.backups.iter().flat_map(|spread| &spread.held).filter(|held| {
            matches!(&held.seen, Observed::Known(findings) if !findings.is_empty())
        });
        let told = stage.judge().compared.iter().filter(|drift| drift.code == "copy_corrupt").count();
        prop_assert_eq!(told, wrong.count());
    }
}
