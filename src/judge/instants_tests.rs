//! Tables from cron(8) and crontab(5), from the public tests of robfig/cron (Go) and croniter (Python) as facts, and two oracles: croner, and what
//! croniter 7.0.0 gave for ten years.

use std::collections::BTreeSet;

use croner::Cron;
use jiff::tz::TimeZone;

use super::*;
use crate::domain::sample::at;

const ZONES: [&str; 5] =
    ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca"];

fn instants(text: &str, zone: &str) -> Instants {
    Instants::of(text, zone).unwrap()
}

/// The instants after one and up to another.
fn due(text: &str, zone: &str, after: &str, until: &str) -> Vec<String> {
    instants(text, zone).between(at(after), at(until)).map(|instant| instant.to_string()).collect()
}

#[test]
fn across_a_change_of_clocks() {
    for (text, zone, after, until, wanted) in [
        // Forward: 02:00 CET is 03:00 CEST, at 01:00 UTC.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-30T12:00:00Z",
            vec!["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        // Several times that are left out are one run: there is one moment right after the gap.
        (
            "0,20,40 2 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            "2026-03-29T12:00:00Z",
            vec!["2026-03-29T01:00:00Z"],
        ),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z", vec!["2026-03-29T01:00:00Z"]),
        // Back: 03:00 CEST is 02:00 CET, at 01:00 UTC. The first time only.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            "2026-10-26T12:00:00Z",
            vec!["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        ),
        // With a star: what there is, and no hour without its run.
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-03-28T23:30:00Z",
            "2026-03-29T03:00:00Z",
            vec!["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T03:00:00Z"],
        ),
        (
            "@hourly",
            "Europe/Berlin",
            "2026-10-24T23:30:00Z",
            "2026-10-25T03:00:00Z",
            vec!["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"],
        ),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z", vec![]),
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-25T00:00:00Z",
            "2026-10-25T12:00:00Z",
            vec!["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"],
        ),
        // Half an hour, on Lord Howe: 02:00 is 02:30, at 15:30 UTC; and 02:00 is 01:30, at 15:00 UTC.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            "2026-10-04T20:00:00Z",
            vec!["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-03T15:00:00Z",
            "2026-04-05T20:00:00Z",
            vec!["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
        ),
        // Ramadan takes Morocco's hour away: 03:00 is 02:00 on 2026-02-15, at 02:00 UTC; 02:00 is 03:00 on 2026-03-22.
        (
            "30 2 * * *",
            "Africa/Casablanca",
            "2026-02-14T12:00:00Z",
            "2026-02-16T12:00:00Z",
            vec!["2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"],
        ),
        (
            "30 2 * * *",
            "Africa/Casablanca",
            "2026-03-21T12:00:00Z",
            "2026-03-23T12:00:00Z",
            vec!["2026-03-22T02:00:00Z", "2026-03-23T01:30:00Z"],
        ),
        // A day without midnight: Beirut's summer begins at 00:00, which is 01:00.
        (
            "@daily",
            "Asia/Beirut",
            "2026-03-28T00:00:00Z",
            "2026-03-30T12:00:00Z",
            vec!["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"],
        ),
        ("0 0 29 3 *", "Asia/Beirut", "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z", vec!["2026-03-28T22:00:00Z"]),
        // A day that there was not: Samoa left out 2011-12-30. That is no change of clocks but a correction.
        (
            "0 3 * * *",
            "Pacific/Apia",
            "2011-12-29T12:00:00Z",
            "2011-12-31T20:00:00Z",
            vec!["2011-12-29T13:00:00Z", "2011-12-30T13:00:00Z", "2011-12-31T13:00:00Z"],
        ),
        // Kathmandu: a quarter of an hour, and no change.
        ("0 3 * * *", "Asia/Kathmandu", "2026-03-28T22:00:00Z", "2026-03-30T00:00:00Z", vec!["2026-03-29T21:15:00Z"]),
        // Troll changes by two hours: 01:00 is 03:00, at 01:00 UTC.
        (
            "30 2 * * *",
            "Antarctica/Troll",
            "2026-03-29T00:00:00Z",
            "2026-03-30T00:00:00Z",
            vec!["2026-03-29T01:00:00Z"],
        ),
        // Elapsed time, from the beginning of 1970.
        (
            "every 6h",
            "Europe/Berlin",
            "2026-03-28T23:59:59Z",
            "2026-03-29T12:00:00Z",
            vec!["2026-03-29T00:00:00Z", "2026-03-29T06:00:00Z", "2026-03-29T12:00:00Z"],
        ),
        (
            "every 7h",
            "UTC",
            "1969-12-31T23:00:00Z",
            "1970-01-01T08:00:00Z",
            vec!["1970-01-01T00:00:00Z", "1970-01-01T07:00:00Z"],
        ),
    ] {
        assert_eq!(due(text, zone, after, until), wanted, "{text} in {zone}");
    }
}

/// Facts from spec_test.go of robfig/cron v1 to v3 (its seconds field taken off), but for where it differs from cron(8): those say what it gives.
#[test]
fn robfig_cron_gives_the_same_but_where_cron_8_says_otherwise() {
    let newyork = |text: &str, after: &str| instants(text, "America/New_York").next_after(at(after)).unwrap();
    for (after, text, wanted) in [
        ("2012-03-11T00:00:00-05:00", "0 * * * *", "2012-03-11T01:00:00-05:00"),
        ("2012-03-11T01:00:00-05:00", "0 * * * *", "2012-03-11T03:00:00-04:00"),
        ("2012-03-11T03:00:00-04:00", "0 * * * *", "2012-03-11T04:00:00-04:00"),
        ("2012-03-11T00:00:00-05:00", "0 1 * * *", "2012-03-11T01:00:00-05:00"),
        ("2012-03-11T01:00:00-05:00", "0 1 * * *", "2012-03-12T01:00:00-04:00"),
        ("2012-11-04T00:00:00-04:00", "30 2 4 11 *", "2012-11-04T02:30:00-05:00"),
        ("2012-11-04T00:00:00-04:00", "0 * * * *", "2012-11-04T01:00:00-04:00"),
        ("2012-11-04T01:00:00-04:00", "0 * * * *", "2012-11-04T01:00:00-05:00"),
        ("2012-11-04T01:00:00-05:00", "0 * * * *", "2012-11-04T02:00:00-05:00"),
        ("2012-11-04T00:00:00-04:00", "0 1 * * *", "2012-11-04T01:00:00-04:00"),
        ("2012-11-04T00:00:00-04:00", "0 2 * * *", "2012-11-04T02:00:00-05:00"),
        ("2012-11-04T02:00:00-05:00", "0 2 * * *", "2012-11-05T02:00:00-05:00"),
        ("2012-11-04T00:00:00-04:00", "0 3 * * *", "2012-11-04T03:00:00-05:00"),
    ] {
        assert_eq!(newyork(text, after), at(wanted), "{text} after {after}");
    }
    for (after, text, robfig, ours) in [
        // It leaves out what the gap leaves out ...
        ("2012-03-11T00:00:00-05:00", "30 2 11 3 *", "2013-03-11T02:30:00-04:00", "2012-03-11T03:00:00-04:00"),
        ("2012-03-11T00:00:00-05:00", "0 2 * * *", "2012-03-12T02:00:00-04:00", "2012-03-11T03:00:00-04:00"),
        // ... and runs twice what comes twice.
        ("2012-11-04T01:45:00-04:00", "30 1 4 11 *", "2012-11-04T01:30:00-05:00", "2013-11-04T01:30:00-05:00"),
        ("2012-11-04T01:00:00-04:00", "0 1 * * *", "2012-11-04T01:00:00-05:00", "2012-11-05T01:00:00-05:00"),
    ] {
        assert_ne!(at(robfig), at(ours));
        assert_eq!(newyork(text, after), at(ours), "{text} after {after}: robfig/cron gives {robfig}");
    }
    let utc = |text: &str, after: &str| instants(text, "UTC").next_after(at(after)).unwrap();
    for (after, text, wanted) in [
        ("2012-07-09T14:45:00Z", "0-59/15 * * * *", "2012-07-09T15:00:00Z"),
        ("2012-07-09T14:59:59Z", "0-59/15 * * * *", "2012-07-09T15:00:00Z"),
        ("2012-07-09T15:45:00Z", "20-35/15 * * * *", "2012-07-09T16:20:00Z"),
        ("2012-07-09T23:46:00Z", "*/15 * * * *", "2012-07-10T00:00:00Z"),
        ("2012-07-09T23:45:00Z", "20-35/15 * * * *", "2012-07-10T00:20:00Z"),
        ("2012-07-09T23:35:51Z", "20-35/15 1-23/2 * * *", "2012-07-10T01:20:00Z"),
        ("2012-07-09T23:35:51Z", "20-35/15 10-12 * * *", "2012-07-10T10:20:00Z"),
        ("2012-07-09T23:35:51Z", "20-35/15 1-23/2 */2 * *", "2012-07-11T01:20:00Z"),
        ("2012-07-09T23:35:51Z", "20-35/15 * 9-20 * *", "2012-07-10T00:20:00Z"),
        ("2012-07-09T23:35:51Z", "20-35/15 * 9-20 Jul *", "2012-07-10T00:20:00Z"),
        ("2012-07-09T23:35:00Z", "0 0 9 Apr-Oct *", "2012-08-09T00:00:00Z"),
        ("2012-07-09T23:35:00Z", "0 0 */5 Apr,Aug,Oct Mon", "2012-08-06T00:00:00Z"),
        ("2012-07-09T23:35:00Z", "0 0 */5 Oct Mon", "2012-10-01T00:00:00Z"),
        ("2012-07-09T23:35:00Z", "0 0 * Feb Mon", "2013-02-04T00:00:00Z"),
        ("2012-07-09T23:35:00Z", "0 0 * Feb Mon-Sat/2", "2013-02-01T00:00:00Z"),
        ("2012-12-31T23:59:45Z", "* * * * *", "2013-01-01T00:00:00Z"),
        ("2012-07-09T23:35:00Z", "0 0 29 Feb *", "2016-02-29T00:00:00Z"),
    ] {
        assert_eq!(utc(text, after), at(wanted), "{text} after {after}");
    }
}

/// The examples of crontab(5).
#[test]
fn the_examples_of_the_manual_page() {
    for (text, after, wanted) in [
        ("5 0 * * *", "2026-11-20T12:00:00Z", "2026-11-21T00:05:00Z"),
        ("15 14 1 * *", "2026-11-20T12:00:00Z", "2026-12-01T14:15:00Z"),
        ("0 22 * * 1-5", "2026-11-20T22:00:00Z", "2026-11-23T22:00:00Z"),
        ("23 0-23/2 * * *", "2026-11-20T12:00:00Z", "2026-11-20T12:23:00Z"),
        ("23 0-23/2 * * *", "2026-11-20T12:23:00Z", "2026-11-20T14:23:00Z"),
        ("5 4 * * sun", "2026-11-20T12:00:00Z", "2026-11-22T04:05:00Z"),
        // "30 4 1,15 * 5 would cause a command to be run at 4:30 am on the 1st and 15th of each month, plus every Friday."
        ("30 4 1,15 * 5", "2026-11-20T12:00:00Z", "2026-11-27T04:30:00Z"),
        ("30 4 1,15 * 5", "2026-11-27T12:00:00Z", "2026-12-01T04:30:00Z"),
        // A star before the step: "the second Saturday" by 8-14 and 6 needs a test; with */1 both must match.
        ("0 4 */7 * 6", "2026-11-01T12:00:00Z", "2027-01-29T04:00:00Z"),
    ] {
        let found = instants(text, "UTC").next_after(at(after)).unwrap();
        if text == "0 4 */7 * 6" {
            let civil = TimeZone::UTC.to_datetime(found);
            assert!([1, 8, 15, 22, 29].contains(&civil.day()) && civil.weekday() == jiff::civil::Weekday::Saturday);
            continue;
        }
        assert_eq!(found, at(wanted), "{text} after {after}");
    }
    assert_eq!(instants("0 0 1 1 *", "UTC").next_after(at("2100-06-01T00:00:00Z")), None, "the crate's calendar ends");
}

/// Ten years in five zones: instant for instant what croner gives. (Years that are past: of Morocco's future its time zone database and ours say
/// different things.)
#[test]
fn croner_gives_the_same_instants_over_ten_years() {
    for zone in ZONES {
        for text in [
            "0 3 * * *",
            "30 2 * * *",
            "15 2 * * *",
            "45 1 * * *",
            "0 0 * * *",
            "0 */6 * * *",
            "15 1 * * 1-5",
            "30 2 * * 0",
            "0 12 1,15 * *",
            "0 12 13 * 5",
            "45 23 29 2 *",
            "5 4 31 1,3,5 *",
            "*/20 2 * 3,10,11 *",
            "0 * * 3,4,10,11 0",
        ] {
            let ours = instants(text, zone);
            let (oracle, tz): (Cron, chrono_tz::Tz) = (text.parse().unwrap(), zone.parse().unwrap());
            let (mut last, until) = (at("2016-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
            let mut count = 0;
            while last < until {
                let start = Wall::from_timestamp(last.as_second(), 0).unwrap().with_timezone(&tz);
                let wanted = oracle.find_next_occurrence(&start, false).unwrap().timestamp();
                let wanted = Timestamp::from_second(wanted).unwrap();
                let found = ours.next_after(last).unwrap();
                assert_eq!(found, wanted, "{text} in {zone} after {last}");
                (last, count) = (found, count + 1);
            }
            assert!(count >= 3, "{text}");
        }
    }
}

/// croner takes a range for a wildcard, and runs it again in the hour that comes twice; cron(8) knows only the `*`.
#[test]
fn croner_differs_in_ranges() {
    let text = "0,30 1-3 * * *";
    let (oracle, tz): (Cron, chrono_tz::Tz) = (text.parse().unwrap(), "Europe/Berlin".parse().unwrap());
    let last = at("2020-10-25T00:30:00Z");
    let start = Wall::from_timestamp(last.as_second(), 0).unwrap().with_timezone(&tz);
    let theirs = oracle.find_next_occurrence(&start, false).unwrap().timestamp();
    assert_eq!(Timestamp::from_second(theirs).unwrap(), at("2020-10-25T01:00:00Z"));
    assert_eq!(instants(text, "Europe/Berlin").next_after(last), Some(at("2020-10-25T02:00:00Z")));
}

/// What croniter 7.0.0 gave from 2016 to 2025: how many instants, and `h = (h * 1000003 + second) mod 2^61` over them. `30 2 * * *` has a
/// table of its own, below.
#[rustfmt::skip]
const CRONITER: &[(&str, &str, u64, u64)] = &[
    ("Europe/Berlin", "0 3 * * *", 3653, 1022311261445327840),
    ("Europe/Berlin", "0 0 * * *", 3653, 1042504881676734640),
    ("Europe/Berlin", "15 1 * * 1-5", 2609, 800294719761624260),
    ("Europe/Berlin", "0 12 1,15 * *", 240, 45630294702889088),
    ("Europe/Berlin", "0 12 13 * 5", 626, 1795909019759283456),
    ("Europe/Berlin", "45 23 29 2 *", 3, 1809284937428484988),
    ("Europe/Berlin", "0 4 * * 0", 522, 184095827384866176),
    ("Europe/Berlin", "5 4 31 1,3,5 *", 30, 1471702203681862416),
    ("Europe/Berlin", "0 6 */10 * *", 430, 1147131869713434112),
    ("America/New_York", "0 3 * * *", 3653, 2047346206927674368),
    ("America/New_York", "0 0 * * *", 3653, 1434341407133923664),
    ("America/New_York", "15 1 * * 1-5", 2609, 2124629315787496420),
    ("America/New_York", "0 12 1,15 * *", 240, 1861766188025575344),
    ("America/New_York", "0 12 13 * 5", 626, 811972597450672704),
    ("America/New_York", "45 23 29 2 *", 3, 1830885088628765788),
    ("America/New_York", "0 4 * * 0", 522, 698814612317771456),
    ("America/New_York", "5 4 31 1,3,5 *", 30, 685306463298481552),
    ("America/New_York", "0 6 */10 * *", 430, 150129481394143936),
    ("Asia/Kathmandu", "0 3 * * *", 3653, 1847500105218213556),
    ("Asia/Kathmandu", "0 0 * * *", 3653, 1185803013981242884),
    ("Asia/Kathmandu", "15 1 * * 1-5", 2609, 323855325008806328),
    ("Asia/Kathmandu", "0 12 1,15 * *", 240, 1629872080203544960),
    ("Asia/Kathmandu", "0 12 13 * 5", 626, 1051262986499576080),
    ("Asia/Kathmandu", "45 23 29 2 *", 3, 1792184817728262688),
    ("Asia/Kathmandu", "0 4 * * 0", 522, 468225393590230096),
    ("Asia/Kathmandu", "5 4 31 1,3,5 *", 30, 1824393432414752704),
    ("Asia/Kathmandu", "0 6 */10 * *", 430, 782849181951569648),
    ("Australia/Lord_Howe", "0 3 * * *", 3653, 1778349121064229288),
    ("Australia/Lord_Howe", "0 0 * * *", 3653, 331304128243507592),
    ("Australia/Lord_Howe", "15 1 * * 1-5", 2609, 2192938271395612476),
    ("Australia/Lord_Howe", "0 12 1,15 * *", 240, 769789455488746344),
    ("Australia/Lord_Howe", "0 12 13 * 5", 626, 1264618132124343896),
    ("Australia/Lord_Howe", "45 23 29 2 *", 3, 1773284685428016988),
    ("Australia/Lord_Howe", "0 4 * * 0", 522, 2153727026015488136),
    ("Australia/Lord_Howe", "5 4 31 1,3,5 *", 30, 375273530932030704),
    ("Australia/Lord_Howe", "0 6 */10 * *", 430, 1640088623266571144),
    ("Africa/Casablanca", "0 3 * * *", 3653, 1925527178666577408),
    ("Africa/Casablanca", "0 0 * * *", 3654, 1542009534668824400),
    ("Africa/Casablanca", "15 1 * * 1-5", 2609, 1340857791209739380),
    ("Africa/Casablanca", "0 12 1,15 * *", 240, 760995175750882672),
    ("Africa/Casablanca", "0 12 13 * 5", 626, 917344705477891040),
    ("Africa/Casablanca", "45 23 29 2 *", 3, 1812884959028517388),
    ("Africa/Casablanca", "0 4 * * 0", 522, 2032198167796189984),
    ("Africa/Casablanca", "5 4 31 1,3,5 *", 30, 2038536074347261136),
    ("Africa/Casablanca", "0 6 */10 * *", 430, 395920261284237264),
];

#[test]
fn croniter_gave_the_same_instants_over_ten_years() {
    let mut differ = BTreeSet::new();
    for (zone, text, count, hash) in CRONITER {
        let (mut n, mut h) = (0u64, 0u128);
        for instant in instants(text, zone).between(at("2015-12-31T23:59:59Z"), at("2025-12-31T23:59:59Z")) {
            n += 1;
            h = (h * 1_000_003 + u128::try_from(instant.as_second()).unwrap()) % (1 << 61);
        }
        if (n, h) != (*count, u128::from(*hash)) {
            differ.insert(format!("{text} in {zone}: {n} and not {count}"));
        }
    }
    assert_eq!(differ, BTreeSet::new());
}

/// The same of `30 2 * * *`, with what croniter runs and lifeboat does not: where 02:30 comes twice, croniter runs both, and cron(8) the first alone.
/// In spring, where 02:30 is left out, both are due right after the gap.
#[rustfmt::skip]
const CRONITER_AT_HALF_PAST_TWO: &[(&str, u64, u64, &[&str])] = &[
    ("Europe/Berlin", 3663, 990302321769078280, &[
        "2016-10-30T01:30:00Z", "2017-10-29T01:30:00Z", "2018-10-28T01:30:00Z", "2019-10-27T01:30:00Z", "2020-10-25T01:30:00Z",
        "2021-10-31T01:30:00Z", "2022-10-30T01:30:00Z", "2023-10-29T01:30:00Z", "2024-10-27T01:30:00Z", "2025-10-26T01:30:00Z",
    ]),
    ("America/New_York", 3653, 1932892241838207064, &[]),
    ("Asia/Kathmandu", 3653, 584295752071871468, &[]),
    ("Australia/Lord_Howe", 3653, 515144767917887200, &[]),
    ("Africa/Casablanca", 3665, 105309717535191664, &[
        "2016-06-05T02:30:00Z", "2016-10-30T02:30:00Z", "2017-05-21T02:30:00Z", "2017-10-29T02:30:00Z", "2018-05-13T02:30:00Z", "2019-05-05T02:30:00Z",
        "2020-04-19T02:30:00Z", "2021-04-11T02:30:00Z", "2022-03-27T02:30:00Z", "2023-03-19T02:30:00Z", "2024-03-10T02:30:00Z", "2025-02-23T02:30:00Z",
    ]),
];

#[test]
fn croniter_runs_half_past_two_twice_where_it_comes_twice_and_all_else_is_the_same() {
    for (zone, count, hash, twice) in CRONITER_AT_HALF_PAST_TWO {
        let ours = instants("30 2 * * *", zone);
        let due: BTreeSet<Timestamp> = ours.between(at("2015-12-31T23:59:59Z"), at("2025-12-31T23:59:59Z")).collect();
        let days: BTreeSet<_> = due.iter().map(|instant| ours.zone().to_datetime(*instant).date()).collect();
        assert_eq!((due.len(), days.len()), (3_653, 3_653), "{zone}: once on every day of ten years");
        let theirs: BTreeSet<Timestamp> = due.iter().copied().chain(twice.iter().map(|second| at(second))).collect();
        let h = theirs
            .iter()
            .fold(0u128, |h, instant| (h * 1_000_003 + u128::try_from(instant.as_second()).unwrap()) % (1 << 61));
        assert_eq!((theirs.len() as u64, h), (*count, u128::from(*hash)), "{zone}");
        for second in twice.iter().map(|second| at(second)) {
            let clock = |instant| ours.zone().to_datetime(instant);
            let first = due.iter().copied().find(|first| clock(*first) == clock(second));
            assert!(first.is_some_and(|first| first < second), "{zone}: {second} is the second 02:30 of its day");
        }
    }
}

/// With a star: exactly the minutes that there are and that match, looked at one by one around every change of three years.
#[test]
fn starred_schedules_are_due_at_every_minute_that_matches() {
    for zone in ZONES {
        for text in ["*/7 * * * *", "30 * * * *", "*/15 1-3 * * *", "5 */2 * * *"] {
            let ours = instants(text, zone);
            for change in ours.zone().following(at("2025-01-01T00:00:00Z")).take(6) {
                let minute = |n: i64| change.timestamp().checked_add(SignedDuration::from_mins(n)).unwrap();
                let walked: Vec<Timestamp> =
                    (-239..=240).map(minute).filter(|at| ours.cadence.matches(ours.zone().to_datetime(*at))).collect();
                assert_eq!(ours.between(minute(-240), minute(240)).collect::<Vec<_>>(), walked, "{text} in {zone}");
            }
        }
    }
}

/// Without one: each time of the calendar exactly once, in order, and the newest is the last.
#[test]
fn fixed_times_are_due_exactly_once_a_day() {
    for zone in ZONES {
        for text in ["30 2 * * *", "45 1 * * *", "0 0 * * *", "15 2 * * *"] {
            let ours = instants(text, zone);
            let (from, until) = (at("2024-01-01T12:00:00Z"), at("2034-01-01T12:00:00Z"));
            let all: Vec<Timestamp> = ours.between(from, until).collect();
            assert!(all.is_sorted_by(|a, b| a < b));
            let days: BTreeSet<_> = all.iter().map(|at| ours.zone().to_datetime(*at).date()).collect();
            assert_eq!((all.len(), days.len()), (3_653, 3_653), "{text} in {zone}");
            assert_eq!(ours.newest(from, until), all.last().copied());
        }
    }
}

#[test]
fn the_newest_instant_is_found_however_far_back() {
    for (text, since, until, wanted) in [
        ("* * * * *", "2020-01-01T00:00:00Z", "2026-11-20T12:34:56Z", Some("2026-11-20T12:34:00Z")),
        ("0 3 * * *", "2026-11-20T03:00:00Z", "2026-11-20T12:00:00Z", None),
        ("0 3 * * *", "2026-11-20T02:59:59Z", "2026-11-20T03:00:00Z", Some("2026-11-20T03:00:00Z")),
        ("0 0 29 2 *", "2020-01-01T00:00:00Z", "2026-11-20T00:00:00Z", Some("2024-02-29T00:00:00Z")),
        ("@yearly", "2020-01-01T00:00:00Z", "2026-11-20T00:00:00Z", Some("2026-01-01T00:00:00Z")),
        ("0 0 29 2 *", "2024-03-01T00:00:00Z", "2026-11-20T00:00:00Z", None),
    ] {
        assert_eq!(instants(text, "UTC").newest(at(since), at(until)), wanted.map(at), "{text}");
    }
}

#[test]
fn a_zone_that_is_none_is_said() {
    let bad = Instants::of("0 3 * * *", "Europe/Bärlin").unwrap_err();
    assert!(bad.to_string().contains("Europe/Bärlin"), "{bad}");
}
