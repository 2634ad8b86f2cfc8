//! Objects that belong to nothing: what killed backups, killed pushes and half uploads left.
//!
//! What has a name that lifeboat gives goes after a while. What has another was put there by somebody else: it is told of and stays.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::artifact::is_object_name;
use crate::domain::ids::BackupId;
use crate::domain::units::{ByteSize, Span};
use crate::domain::wal::WalName;

/// A run that began at most so long after its backup got its id.
const BEGUN: Span = Span::from_secs(60);
/// The folder of objects by which a store is asked for its date.
pub const CLOCK: &str = "clock/";
/// The folder of the log.
pub const LOG: &str = "wal/";

/// An object of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key, from the policy's folder.
    pub key: String,
    /// How long it is.
    pub bytes: u64,
    /// When the store wrote it.
    pub written: Timestamp,
    /// Whether its writer never came to the end of it.
    pub half: bool,
}

/// What is known of the rest.
#[derive(Clone, Debug)]
pub struct Ground<'a> {
    /// Backups that have a manifest.
    pub there: &'a BTreeSet<BackupId>,
    /// Backups that were deleted and are on their way out.
    pub leaving: &'a BTreeSet<BackupId>,
    /// When the oldest backup that is being taken right now was begun.
    pub at_work: Option<Timestamp>,
    /// The records of the log, and for those of which several objects may be meant, which is; none: that cannot be believed.
    pub records: &'a BTreeMap<WalName, Option<String>>,
    /// How long they are left alone.
    pub after: Span,
}

/// Objects that belong together and to nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Of which backup that never was; none: of no backup.
    pub backup: Option<BackupId>,
    /// Their keys, from the policy's folder.
    pub keys: Vec<String>,
    /// How long they are together.
    pub bytes: ByteSize,
    /// When the store wrote the newest of them.
    pub written: Timestamp,
    /// Whether they go.
    pub goes: bool,
    /// Why, or why not yet.
    pub why: String,
}

/// What belongs to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Orphans {
    /// What lifeboat left.
    pub orphans: Vec<Orphan>,
    /// Keys that lifeboat gives to nothing.
    pub unknown: Vec<String>,
}

/// What an object is.
enum Kind {
    /// Part of something that is there.
    Belongs,
    /// Not named by lifeboat.
    Unknown,
    /// Left over: with the others of its backup, or alone.
    Left(Option<BackupId>),
}

/// Sorts the objects of a policy. `now`: by the store's clock.
pub fn sort(objects: &[Object], ground: &Ground<'_>, now: Timestamp) -> Orphans {
    let whole: BTreeSet<&str> =
        objects.iter().filter(|object| !object.half).map(|object| object.key.as_str()).collect();
    let mut found = Orphans::default();
    let mut groups: BTreeMap<(Option<BackupId>, String), Vec<&Object>> = BTreeMap::new();
    for object in objects {
        // What a half upload is called may be the name of an object that is there.
        let kind =
            if object.half && whole.contains(object.key.as_str()) { Kind::Belongs } else { kind(object, ground) };
        match kind {
            Kind::Belongs => {}
            Kind::Unknown => found.unknown.push(object.key.clone()),
            Kind::Left(backup) => {
                let alone = if backup.is_some() { String::new() } else { object.key.clone() };
                groups.entry((backup, alone)).or_default().push(object);
            }
        }
    }
    for ((backup, _), objects) in groups {
        let written = objects.iter().map(|object| object.written).max().unwrap_or(now);
        let (goes, why) = decide(backup.as_ref(), written, ground, now);
        found.orphans.push(Orphan {
            backup,
            keys: objects.iter().map(|object| object.key.clone()).collect(),
            bytes: ByteSize(objects.iter().fold(0, |sum, object| sum.saturating_add(object.bytes))),
            written,
            goes,
            why,
        });
    }
    found
}

fn decide(backup: Option<&BackupId>, written: Timestamp, ground: &Ground<'_>, now: Timestamp) -> (bool, String) {
    let begun = backup.and_then(BackupId::began_at);
    if let (Some(at_work), Some(begun)) = (ground.at_work, begun)
        && Span::between(begun, at_work) <= BEGUN
    {
        return (false, "a backup is being taken, and it may be this one".to_owned());
    }
    let age = Span::between(written, now);
    if age < ground.after {
        return (false, format!("younger than {}", ground.after));
    }
    let what = if backup.is_some() { "it has no manifest" } else { "nothing names it" };
    (true, format!("{what}, and nothing was written to it for {age}"))
}

fn kind(object: &Object, ground: &Ground<'_>) -> Kind {
    let Some((folder, name)) = object.key.split_once('/') else { return Kind::Unknown };
    // A half upload has a name of its store's own, beside the one it was to get.
    if let Ok(backup) = folder.parse::<BackupId>() {
        let mark = name.strip_prefix("marks/").is_some();
        return match (ground.there.contains(&backup), ground.leaving.contains(&backup)) {
            _ if object.half => Kind::Left((!ground.there.contains(&backup)).then_some(backup)),
            _ if !is_object_name(name) && !mark => Kind::Unknown,
            (false, false) => Kind::Left(Some(backup)),
            (true, _) | (_, true) => Kind::Belongs,
        };
    }
    if let Some(name) = object.key.strip_prefix(LOG) {
        return if object.half { Kind::Left(None) } else { of_log(name, ground) };
    }
    match object.key.strip_prefix(CLOCK) {
        Some(name) if object.half || (name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())) => {
            Kind::Left(None)
        }
        Some(_) | None => Kind::Unknown,
    }
}

/// An object of the log, from the log's folder.
fn of_log(key: &str, ground: &Ground<'_>) -> Kind {
    let Some((folder, file)) = key.split_once('/') else { return Kind::Unknown };
    // Records are never touched here, nor what somebody answers for.
    if let Some(name) = file.strip_suffix(".jsonl") {
        let known = name.strip_suffix(".hole").unwrap_or(name).parse::<WalName>().is_ok();
        return if known { Kind::Belongs } else { Kind::Unknown };
    }
    let Some(name) = file.strip_suffix(".zst.age") else { return Kind::Unknown };
    let Some(name) = wal_name(name).filter(|name| folder == format!("{:08X}", name.timeline())) else {
        return Kind::Unknown;
    };
    match ground.records.get(&name) {
        None => Kind::Left(None),
        Some(Some(meant)) if meant != key => Kind::Left(None),
        Some(_) => Kind::Belongs,
    }
}

/// Of which file of the log an object is, by its name without its ending; there may be a number behind it.
pub fn wal_name(name: &str) -> Option<WalName> {
    name.parse().ok().or_else(|| {
        let (name, number) = name.rsplit_once('.')?;
        let numbered = number.len() <= 2 && number.bytes().all(|byte| byte.is_ascii_digit());
        if numbered { name.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + day * 86_400).unwrap()
    }

    fn id(day: i64) -> BackupId {
        BackupId::new(at(day), 7)
    }

    fn object(key: &str, day: i64) -> Object {
        Object { key: key.to_owned(), bytes: 10, written: at(day), half: false }
    }

    #[test]
    fn an_object_of_the_log_may_have_a_number_of_two_digits() {
        let name = "000000010000000000000003";
        for good in [String::new(), ".1".to_owned(), ".99".to_owned()] {
            assert_eq!(wal_name(&format!("{name}{good}")), name.parse().ok(), "{good}");
        }
        for bad in [".100", ".ab", ".a", "x"] {
            assert_eq!(wal_name(&format!("{name}{bad}")), None, "{bad}");
        }
    }

    #[test]
    fn what_belongs_to_nothing_goes_after_a_while_and_what_is_not_known_stays() {
        let (whole, dead, leaving, young) = (id(1), id(2), id(3), id(9));
        let records = BTreeMap::from([
            (
                "000000010000000000000003".parse().unwrap(),
                Some("00000001/000000010000000000000003.1.zst.age".to_owned()),
            ),
            ("000000010000000000000004".parse().unwrap(), None),
        ]);
        let half = |key: String| Object { half: true, ..object(&key, 1) };
        let objects = [
            object(&format!("{whole}/manifest.json"), 1),
            object(&format!("{whole}/base/00000.zst.age"), 1),
            object(&format!("{whole}/notes.txt"), 1),
            half(format!("{whole}/base/00000.zst.age")),
            half(format!("{whole}/base/.half")),
            object(&format!("{dead}/base/16384/00000.zst.age"), 2),
            object(&format!("{dead}/manifest.json.sig"), 2),
            object(&format!("{dead}/globals.sql.zst.age"), 2),
            object(&format!("{dead}/strange"), 2),
            half(format!("{dead}/base/.half")),
            object(&format!("{leaving}/base/00001.zst.age"), 3),
            object(&format!("{leaving}/marks/00001.jsonl"), 3),
            object(&format!("{young}/base/00000.zst.age"), 9),
            object("wal/00000001/000000010000000000000003.jsonl", 1),
            object("wal/00000001/000000010000000000000003.zst.age", 1),
            object("wal/00000001/000000010000000000000003.1.zst.age", 1),
            object("wal/00000001/000000010000000000000004.jsonl", 1),
            object("wal/00000001/000000010000000000000004.zst.age", 1),
            object("wal/00000001/000000010000000000000004.1.zst.age", 1),
            object("wal/00000001/000000010000000000000005.zst.age", 1),
            object("wal/00000001/000000010000000000000006.hole.jsonl", 1),
            object("wal/00000002/000000010000000000000005.zst.age", 1),
            object("wal/00000001/readme", 1),
            object("clock/00112233445566aa", 1),
            object("clock/tower", 1),
            object("clock/00112233", 1),
            object("clock/sixteen-letters!", 1),
            object("stray", 1),
            object("folder/stray", 1),
        ];
        let (there, leaving) = (BTreeSet::from([whole]), BTreeSet::from([leaving]));
        let ground = Ground {
            there: &there,
            leaving: &leaving,
            at_work: None,
            records: &records,
            after: Span::from_secs(7 * 86_400),
        };
        let sorted = sort(&objects, &ground, at(10));
        let goes: BTreeSet<&str> =
            sorted.orphans.iter().filter(|one| one.goes).flat_map(|one| &one.keys).map(String::as_str).collect();
        let log = |name: &str| format!("wal/00000001/0000000100000000000000{name}.zst.age");
        let expected = [
            format!("{}/base/.half", id(1)),
            format!("{dead}/base/16384/00000.zst.age"),
            format!("{dead}/manifest.json.sig"),
            format!("{dead}/globals.sql.zst.age"),
            format!("{dead}/base/.half"),
            log("03"),
            log("05"),
            "clock/00112233445566aa".to_owned(),
        ];
        assert_eq!(goes, expected.iter().map(String::as_str).collect());
        let waits: Vec<_> = sorted.orphans.iter().filter(|one| !one.goes).collect();
        assert_eq!((waits.len(), waits[0].backup.as_ref()), (1, Some(&young)), "{waits:?}");
        assert_eq!(
            sorted.unknown,
            [
                format!("{}/notes.txt", id(1)),
                format!("{dead}/strange"),
                "wal/00000002/000000010000000000000005.zst.age".to_owned(),
                "wal/00000001/readme".to_owned(),
                "clock/tower".to_owned(),
                "clock/00112233".to_owned(),
                "clock/sixteen-letters!".to_owned(),
                "stray".to_owned(),
                "folder/stray".to_owned(),
            ]
        );
        // What is half written of a backup that is not there is put to it, and of one that is there to nobody.
        let of_dead_all = sorted.orphans.iter().find(|one| one.backup == Some(dead.clone())).unwrap();
        assert_eq!((of_dead_all.keys.len(), of_dead_all.bytes), (4, ByteSize(40)));
        // As old as is waited for is old enough.
        let (edge, none) = (id(30), BTreeSet::new());
        let ground_of_edge = Ground { there: &none, leaving: &none, ..ground.clone() };
        let goes =
            |day| sort(&[object(&format!("{edge}/base/00000.zst.age"), day)], &ground_of_edge, at(10)).orphans[0].goes;
        assert_eq!([goes(3), goes(4)], [true, false]);
        // One of those that are being taken right now may be the one: it was begun after that run.
        let busy = Ground { at_work: Some(at(2)), ..ground.clone() };
        let of_dead =
            |sorted: &Orphans| sorted.orphans.iter().find(|one| one.backup == Some(dead.clone())).unwrap().goes;
        assert!(!of_dead(&sort(&objects, &busy, at(10))));
        assert!(of_dead(&sort(&objects, &Ground { at_work: Some(at(3)), ..ground }, at(10))));
    }
}
