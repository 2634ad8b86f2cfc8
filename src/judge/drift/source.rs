//! How the source is set up, against what a recovery needs.

use std::collections::BTreeSet;

use super::of;
use crate::domain::check::Broke;
use crate::domain::drift::{Drift, Severity};
use crate::domain::policy::{Databases, Method, Policy, Source, TlsMode};
use crate::domain::posture::Posture;
use crate::domain::units::ByteSize;

/// A slot that nobody uses may keep so much of the log on the source's disk.
const HELD: ByteSize = ByteSize(1 << 30);

/// What one policy's source says, or why it says nothing. `stored`: whether the store has a file of the log; none: that is not known. `slot`: what the
/// policy's own slot is called.
pub fn source(
    policy: &Policy,
    asked: Result<&Posture, &Broke>,
    slot: &str,
    stored: impl Fn(&str) -> Option<bool>,
) -> Vec<Drift> {
    let posture = match asked {
        Ok(posture) => posture,
        Err(broke) => {
            let drift = of(policy, "source_unreachable", Severity::Unproven, format!("source of {}", policy.name));
            let hint = broke.hint.clone().unwrap_or_else(|| "`lifeboat check` tries it".to_owned());
            return vec![drift.saying("it can be asked", format!("it cannot: {}", broke.error)).mended_by(hint)];
        }
    };
    let mut found = settings(policy, posture);
    if !posture.in_recovery {
        found.extend(archiver(policy, posture, stored));
        found.extend(receiver(policy, posture, slot));
    }
    found.extend(slots(policy, posture, slot));
    found.extend(tls(policy));
    found
}

fn takes(policy: &Policy, method: Method) -> bool {
    policy.backups.iter().any(|job| job.method == method)
}

fn settings(policy: &Policy, posture: &Posture) -> Vec<Drift> {
    let setting = |code: &str, severity, name: &str, declared: &str, observed: &str, mend: &str| {
        of(policy, code, severity, format!("setting {name}")).saying(declared, observed).mended_by(mend)
    };
    let mut found = Vec::new();
    if !posture.fsync {
        let observed = "off: a crash of the machine can damage the source beyond repair";
        let mend = "fsync = on in postgresql.conf, and reload";
        found.push(setting("fsync_off", Severity::Critical, "fsync", "on", observed, mend));
    }
    if !posture.full_page_writes {
        let observed = "off: a page that was half written at a crash cannot be mended";
        let mend = "full_page_writes = on in postgresql.conf, and reload";
        found.push(setting("full_page_writes_off", Severity::Critical, "full_page_writes", "on", observed, mend));
    }
    if takes(policy, Method::Physical) && !posture.data_checksums {
        let observed = "off: damaged pages of the source cannot be seen, and go into its backups";
        let mend = "stop the server and run `pg_checksums --enable`";
        found.push(setting("checksums_off", Severity::Warning, "data_checksums", "on", observed, mend));
    }
    if takes(policy, Method::Physical) && posture.wal_level == "minimal" {
        let mend = "wal_level = replica in postgresql.conf, and restart";
        let observed = "minimal: no base backup can be taken";
        found.push(setting("wal_level_minimal", Severity::Critical, "wal_level", "replica", observed, mend));
    }
    found
}

/// What the archiver was told, by its own word and by the store's list: each can be wrong alone.
fn archiver(policy: &Policy, posture: &Posture, stored: impl Fn(&str) -> Option<bool>) -> Vec<Drift> {
    let streams = policy.wal.as_ref().is_some_and(|wal| wal.stream);
    let pushes = policy.wal.as_ref().is_some_and(|wal| wal.spool.is_some());
    let begin = |code: &str, severity| of(policy, code, severity, "archive_command");
    let Some(archiver) = &posture.archiver else {
        if streams || !pushes {
            return Vec::new();
        }
        let drift = begin("archiving_off", Severity::Critical);
        let drift = drift.saying(
            "`wal push` keeps the log (wal.spool)",
            "the source archives nothing: archive_mode or archive_command is off",
        );
        return vec![
            drift.mended_by(
                "archive_mode = on and archive_command = 'lifeboat wal push … %p', and restart (docs/wal.md)",
            ),
        ];
    };
    let mut found = Vec::new();
    if let Some(name) = archiver.fails_at() {
        let since = archiver.last.as_ref().map(|(_, at)| *at);
        let drift = begin("archive_fails", Severity::Critical);
        let drift = drift.saying("every file of the log is archived", format!("it fails at {name}"));
        let mend = "the server's log says why; until then it keeps its log on its own disk";
        found.push(drift.since(since).mended_by(mend));
    }
    if let Some((name, at)) = archiver.last.as_ref().filter(|_| archiver.is_ours && takes(policy, Method::Physical)) {
        let begin = |code, severity| of(policy, code, severity, format!("log {name}"));
        match stored(name) {
            Some(true) => {}
            Some(false) => {
                let drift = begin("archived_not_stored", Severity::Critical);
                let observed =
                    format!("the source was told at {at:.0} that it is archived, and the store does not have it");
                let drift = drift.saying("what is archived is in the store", observed).since(Some(*at));
                found.push(drift.mended_by(format!(
                    "lifeboat verify {} --wal; see which store archive_command writes to",
                    policy.name
                )));
            }
            None => {
                let drift = begin("archived_unknown", Severity::Unproven);
                let drift = drift.saying("what is archived is in the store", "the store's list could not be looked at");
                found.push(drift.mended_by("see what is said of the store"));
            }
        }
    }
    found
}

/// Whether somebody receives the log of a policy that wants it.
fn receiver(policy: &Policy, posture: &Posture, slot: &str) -> Vec<Drift> {
    if !policy.wal.as_ref().is_some_and(|wal| wal.stream) {
        return Vec::new();
    }
    let begin = |code: &str, observed: &str, mend: String| {
        let drift = of(policy, code, Severity::Critical, format!("slot {slot}"));
        vec![drift.saying("the log is received (wal.stream)", observed).mended_by(mend)]
    };
    let start = format!("start `lifeboat wal stream {}`", policy.name);
    match posture.slots.iter().find(|one| one.name == slot) {
        None => begin("receiver_missing", "there is no such slot: no receiver was ever here", start),
        Some(one) if one.lost => {
            let mend = format!("{start}, and take a backup: lifeboat backup {}", policy.name);
            begin("slot_lost", "the source has given it up: the log has a hole", mend)
        }
        Some(one) if !one.active => begin("receiver_missing", "nobody receives the log", start),
        Some(_) => Vec::new(),
    }
}

/// Slots of others that keep the log on the source's disk for nobody.
fn slots(policy: &Policy, posture: &Posture, own: &str) -> Vec<Drift> {
    let streams = policy.wal.as_ref().is_some_and(|wal| wal.stream);
    let idle =
        posture.slots.iter().filter(|slot| !slot.active && !slot.lost && slot.holds.is_some_and(|held| held >= HELD));
    idle.filter(|slot| slot.name != own || !streams)
        .map(|slot| {
            let held = slot.holds.unwrap_or_default();
            let drift = of(policy, "slot_holds_log", Severity::Warning, format!("slot {}", slot.name));
            let observed = format!("nobody uses it, and the source keeps {held} of its log for it: its disk fills up");
            let mend = format!("start who uses it, or: select pg_drop_replication_slot('{}')", slot.name);
            drift.saying(format!("at most {HELD} is kept for who is away"), observed).mended_by(mend)
        })
        .collect()
}

/// That the server's identity is not checked is drift, even where the policy says so.
fn tls(policy: &Policy) -> Option<Drift> {
    let observed = match policy.source.tls? {
        TlsMode::VerifyFull => return None,
        TlsMode::Require => "require: anybody may answer in the source's name",
        TlsMode::Disable if is_near(&policy.source) => return None,
        TlsMode::Disable => "disable: everything goes in the clear",
    };
    let drift = of(policy, "tls_weak", Severity::Warning, "source.tls");
    Some(
        drift
            .saying("verify-full", observed)
            .mended_by("source.tls = \"verify-full\", and the authority in source.tls_ca"),
    )
}

/// Whether every host that a URL names is a socket or this machine.
fn is_near(source: &Source) -> bool {
    let (in_place, query) = source.authority_and_query();
    // What stands behind the question mark counts, if anything does.
    let in_query = query.split('&').filter_map(|pair| pair.strip_prefix("host=").or(pair.strip_prefix("hostaddr=")));
    let mut hosts: Vec<&str> = in_query.flat_map(|hosts| hosts.split(',')).collect();
    if hosts.is_empty() {
        hosts.extend(in_place.split(',').map(without_port));
    }
    hosts.into_iter().all(|host| {
        let socket = host.is_empty() || host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f");
        let digits = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        socket || host == "localhost" || host == "::1" || host.strip_prefix("127.").is_some_and(digits)
    })
}

/// A host of a URL's authority: an IPv6 address stands in brackets.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    }
}

/// Databases of one policy's source that no policy's backups hold. `all`: every policy, and what its source said.
pub fn uncovered(policy: &Policy, posture: &Posture, all: &[(&Policy, Option<&Posture>)]) -> Vec<Drift> {
    let Some(identifier) = &posture.system_identifier else {
        let drift = of(policy, "databases_unknown", Severity::Unproven, format!("source of {}", policy.name));
        let drift = drift.saying(
            "every database is covered by a policy",
            "which server it is cannot be asked: its identifier is not told",
        );
        return vec![drift.mended_by("grant execute on function pg_control_system() to the policy's role")];
    };
    let mut covered: BTreeSet<&str> = BTreeSet::new();
    let mut unknown = Vec::new();
    for (other, theirs) in all {
        match theirs {
            Some(theirs) if theirs.system_identifier.as_ref() == Some(identifier) => {
                covered.extend(holds(other, theirs))
            }
            Some(theirs) if theirs.system_identifier.is_some() => {}
            _ => unknown.push(other.name.as_str()),
        }
    }
    let bare: Vec<&str> = posture.databases.iter().map(String::as_str).filter(|name| !covered.contains(name)).collect();
    let of_database = |name: &&str| {
        let object = format!("database {name}");
        if unknown.is_empty() {
            let drift = of(policy, "database_uncovered", Severity::Warning, object);
            let drift = drift.saying("every database is covered by a policy", "no policy's backups hold it");
            drift
                .mended_by("add it to a policy's source.databases, or take physical backups: those hold every database")
        } else {
            let drift = of(policy, "database_unknown", Severity::Unproven, object);
            let observed = format!("no policy that could be asked holds it; not asked: {}", unknown.join(", "));
            drift
                .saying("every database is covered by a policy", observed)
                .mended_by("mend what is said of those sources")
        }
    };
    bare.iter().map(of_database).collect()
}

/// The databases that a policy's backups hold.
fn holds<'a>(policy: &'a Policy, posture: &'a Posture) -> Vec<&'a str> {
    if takes(policy, Method::Physical) {
        return posture.databases.iter().map(String::as_str).collect();
    }
    match &policy.source.databases {
        Databases::All => posture.databases.iter().map(String::as_str).collect(),
        Databases::Url => vec![posture.database.as_str()],
        Databases::Named(names) => names.iter().map(String::as_str).collect(),
    }
}
