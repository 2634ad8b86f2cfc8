//! Tests of drills: which faults apply to a backup and to what they are done, whether a drill caught one, and the score.

use std::collections::BTreeSet;

use crate::domain::artifact::{Manifest, MemberKind};
use crate::domain::check::CheckName;
use crate::domain::check::{Finding, Outcome};
use crate::domain::drill::{Drill, ScratchKind, Step};
use crate::domain::ids::BackupId;
use crate::domain::inventory::{Database, Table};
use crate::domain::lsn::Lsn;
use crate::domain::mutation::{Came, Guard, Mutated, Mutation, NotMutated, Red, Score, Victim};
use crate::domain::policy::Method;
use crate::domain::transcript::{Ended, Transcript};
use crate::domain::wal::{Segment, is_segment_length};

/// What a mutation has to work with.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The backup.
    pub manifest: &'a Manifest,
    /// The drill that is tested.
    pub drill: &'a Drill,
    /// An older backup of the policy in the same store.
    pub older: Option<&'a BackupId>,
    /// What victims are chosen by.
    pub seed: u32,
}

/// The victim of a mutation; an error: the mutation does not apply, and why not. The same seed chooses the same victim.
pub fn choose(mutation: Mutation, ground: Ground<'_>) -> Result<Victim, String> {
    let manifest = ground.manifest;
    let of_artifact = |name: &str| Ok(Victim { name: name.to_owned(), database: None });
    match mutation {
        Mutation::ManifestForged
        | Mutation::ManifestResigned
        | Mutation::SignatureMissing
        | Mutation::IdentityChanged => of_artifact("manifest"),
        Mutation::ArtifactMissing => of_artifact(manifest.backup.as_str()),
        Mutation::ArtifactReplayed => {
            ground.older.ok_or("the store holds no older backup of the policy")?;
            of_artifact("manifest")
        }
        Mutation::PartFlipped | Mutation::PartTruncated | Mutation::PartMissing => {
            let keys: Vec<&str> = parts(manifest).collect();
            of_artifact(ground.pick(mutation, &keys).ok_or("the backup has no part")?)
        }
        Mutation::PartsSwapped => {
            if parts(manifest).count() < 2 {
                return Err("the backup has only one part".to_owned());
            }
            // With the last one: the first is opened before it, so that it is the one that is named.
            of_artifact(parts(manifest).next().ok_or("the backup has no part")?)
        }
        Mutation::PartOfAnother => {
            ground.older.ok_or("the store holds no older backup of the policy")?;
            of_artifact(parts(manifest).next().ok_or("the backup has no part")?)
        }
        Mutation::WrongKey => of_artifact("part "),
        Mutation::GlobalsLost => {
            ground.only(Method::Logical, "roles and settings are in the data folder itself")?;
            ground.whole_server("its roles are not restored")?;
            of_artifact("globals")
        }
        Mutation::WalLost => {
            ground.only(Method::Physical, "a dump needs no log")?;
            of_artifact(&last_segment(manifest).ok_or("the manifest does not say which log the backup needs")?)
        }
        Mutation::BackupStale => of_artifact("recovery point"),
        Mutation::PageFlipped | Mutation::UnreadPageFlipped => {
            ground.only(Method::Physical, "a dump holds rows, not pages")?;
            if !manifest.fingerprint.server.data_checksums {
                return Err("the source keeps no page checksums".to_owned());
            }
            let files = page_files(manifest, mutation == Mutation::UnreadPageFlipped);
            let none = "the backup has no such page that lies in one part";
            of_artifact(ground.pick(mutation, &files).ok_or(none)?)
        }
        Mutation::RowChanged | Mutation::RowDeleted | Mutation::RowDoubled | Mutation::TableDropped => {
            let none = "no table of the backup has rows that are compared";
            ground.of_database(mutation, none, |database| filled_tables(database).map(|one| one.name.clone()).collect())
        }
        Mutation::LargeObjectLost => ground.of_database(mutation, "the backup has no large object", |database| {
            (database.large_objects.count > 0).then(|| "large objects".to_owned()).into_iter().collect()
        }),
        Mutation::IndexDropped => {
            let none = "no index of the backup stands by itself";
            ground.of_database(mutation, none, |database| {
                let keys = key_indexes(database);
                identities(database, "index").filter(|one| !keys.contains(*one)).map(str::to_owned).collect()
            })
        }
        Mutation::IndexBroken => {
            ground.own_superuser()?;
            let filled = |database: &Database| -> BTreeSet<String> {
                let tables: BTreeSet<&str> = filled_tables(database).map(|one| one.name.as_str()).collect();
                keys_of_tables(database).filter(|(_, table)| tables.contains(table)).map(|(index, _)| index).collect()
            };
            ground.of_database(mutation, "no table with rows has a key", |database| {
                let filled = filled(database);
                identities(database, "index").filter(|one| filled.contains(*one)).map(str::to_owned).collect()
            })
        }
        Mutation::ConstraintDropped => {
            let none = "no table has a check or a foreign key";
            ground.of_database(mutation, none, |database| {
                let keys = key_indexes(database);
                let tables: BTreeSet<&str> = identities(database, "table").collect();
                let stands = |one: &&str| {
                    on(one).is_some_and(|(name, table)| {
                        tables.contains(table) && !keys.contains(&beside(table, name)) && !name.ends_with("_not_null")
                    })
                };
                identities(database, "constraint").filter(stands).map(str::to_owned).collect()
            })
        }
        Mutation::FunctionChanged => ground.of_database(mutation, "the backup has no function", |database| {
            identities(database, "function").map(str::to_owned).collect()
        }),
        Mutation::GrantRevoked => {
            ground.whole_server("its roles, and what is granted to them, are not restored")?;
            ground.of_database(mutation, "nothing is granted to a role", |database| {
                let simple = |one: &&str| {
                    on(one).is_some_and(|(grantee, object)| {
                        grantee != "PUBLIC" && grantee != "(owner)" && object.starts_with("table ")
                    })
                };
                identities(database, "grant").filter(simple).map(str::to_owned).collect()
            })
        }
        Mutation::RoleMissing => {
            ground.whole_server("its roles are not restored")?;
            let owners: BTreeSet<&str> =
                manifest.fingerprint.databases.iter().map(|database| database.owner.as_str()).collect();
            let free = manifest.fingerprint.roles.iter().filter(|role| !owners.contains(role.name.as_str()));
            let free: Vec<&str> =
                free.filter(|role| !role.attributes.contains("superuser")).map(|role| role.name.as_str()).collect();
            of_artifact(ground.pick(mutation, &free).ok_or("every role is a superuser, or owns a database")?)
        }
        Mutation::SequenceShifted => ground.of_database(mutation, "no sequence was used", |database| {
            let used = database.sequences.iter().filter(|one| one.is_called && one.last_value.known() > Some(&1));
            used.map(|one| one.name.clone()).collect()
        }),
        Mutation::ExtensionMissing => {
            let none = "no database has an extension that PostgreSQL does not put there itself";
            ground.of_database(mutation, none, |database| {
                let added = database.extensions.iter().filter(|one| one.name != "plpgsql");
                added.map(|one| one.name.clone()).collect()
            })
        }
        Mutation::ExtensionChanged => {
            ground.own_superuser()?;
            ground.of_database(mutation, "no database has an extension", |database| {
                database.extensions.iter().map(|one| one.name.clone()).collect()
            })
        }
        Mutation::CollationChanged => {
            ground.own_superuser()?;
            ground.of_database(mutation, "no collation of the backup has a version", |database| {
                let versioned = database.collations.iter().filter(|one| one.recorded.is_some() && one.actual.is_some());
                let own = database.collation_version.is_some() && database.collation_actual.is_some();
                let own = own.then(|| DATABASE_COLLATION.to_owned());
                versioned.map(|one| format!("collation {}", one.name)).chain(own).collect()
            })
        }
        Mutation::HeartbeatLost => {
            let checks = |step: &Step| matches!(step, Step::Check(check) if check.name == CheckName::Heartbeat);
            if !ground.drill.steps.iter().any(checks) {
                return Err("the drill does not check the heartbeat".to_owned());
            }
            ground.of_database(mutation, "the backup has no table lifeboat.heartbeat", |database| {
                identities(database, "table").filter(|one| *one == "lifeboat.heartbeat").map(str::to_owned).collect()
            })
        }
        Mutation::LocaleChanged => {
            ground.own_superuser()?;
            ground.of_database(mutation, "the backup has no database", |database| vec![database.name.clone()])
        }
        Mutation::SettingChanged => {
            ground.whole_server("its settings are not restored")?;
            ground.of_database(mutation, "the backup has no database", |database| vec![database.name.clone()])
        }
    }
}

/// The victim's name where the collation of the database itself is changed.
pub const DATABASE_COLLATION: &str = "collation of the database";

impl<'a> Ground<'a> {
    fn only(self, method: Method, otherwise: &str) -> Result<(), String> {
        if self.manifest.method == method { Ok(()) } else { Err(otherwise.to_owned()) }
    }

    fn whole_server(self, otherwise: &str) -> Result<(), String> {
        match self.drill.scratch.kind {
            ScratchKind::Cluster => Ok(()),
            ScratchKind::Folder => Err("lifeboat itself is brought back, and no server".to_owned()),
            ScratchKind::Database => Err(format!("the scratch is a database on a server with others: {otherwise}")),
        }
    }

    /// Mutations of PostgreSQL's own catalogs: only in a server that is ours.
    fn own_superuser(self) -> Result<(), String> {
        self.whole_server("nothing is changed in the catalogs of a server that is not ours")
    }

    /// One of these by the seed; a mutation chooses otherwise than the one before it.
    fn pick<T: Copy>(self, mutation: Mutation, from: &[T]) -> Option<T> {
        let place = Mutation::ALL.iter().position(|one| *one == mutation).unwrap_or(0) as u64;
        // The finaliser of SplitMix64: neighbouring seeds choose independently.
        let mut mixed = u64::from(self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(place);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let count = from.len() as u64;
        usize::try_from(mixed.checked_rem(count)?).ok().and_then(|index| from.get(index).copied())
    }

    fn of_database(
        self,
        mutation: Mutation,
        none: &str,
        candidates: impl Fn(&Database) -> Vec<String>,
    ) -> Result<Victim, String> {
        let all: Vec<(String, &Database)> = self
            .manifest
            .fingerprint
            .databases
            .iter()
            .flat_map(|database| candidates(database).into_iter().map(move |name| (name, database)))
            .collect();
        let indexes: Vec<usize> = (0..all.len()).collect();
        let index = self.pick(mutation, &indexes).ok_or(none)?;
        let (name, database) = &all[index];
        Ok(Victim { name: name.clone(), database: Some(database.name.clone()) })
    }
}

fn parts(manifest: &Manifest) -> impl Iterator<Item = &str> {
    manifest.streams.iter().flat_map(|stream| &stream.parts).map(|part| part.key.as_str())
}

fn identities<'a>(database: &'a Database, kind: &str) -> impl Iterator<Item = &'a str> {
    database.objects.iter().filter(move |object| object.kind == kind).map(|object| object.identity.as_str())
}

/// Tables with rows, all of which are digested; where the policy samples every one, those.
fn filled_tables(database: &Database) -> impl Iterator<Item = &Table> {
    let plain: BTreeSet<&str> = identities(database, "table").collect();
    let filled = move |table: &&Table, all: bool| {
        let known = table.content.known();
        known.is_some_and(|content| content.rows > 0 && (!all || content.percent == 100))
            && plain.contains(table.name.as_str())
    };
    let all = database.tables.iter().any(|table| filled(&table, true));
    database.tables.iter().filter(move |table| filled(table, all))
}

/// `a on b`, where it can be told apart.
pub fn on(identity: &str) -> Option<(&str, &str)> {
    let mut sides = identity.split(" on ");
    match (sides.next(), sides.next(), sides.next()) {
        (Some(left), Some(right), None) => Some((left, right)),
        _ => None,
    }
}

/// The qualified name of something with this name in the schema of a table.
fn beside(table: &str, name: &str) -> String {
    let mut quoted = false;
    let dot = table.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        *letter == '.' && !quoted
    });
    dot.map_or_else(|| name.to_owned(), |(at, _)| format!("{}.{name}", &table[..at]))
}

/// For each constraint of a table: the index that it would have, and the table.
fn keys_of_tables(database: &Database) -> impl Iterator<Item = (String, &str)> {
    identities(database, "constraint").filter_map(on).map(|(name, table)| (beside(table, name), table))
}

/// Indexes that belong to a constraint.
fn key_indexes(database: &Database) -> BTreeSet<String> {
    let indexes: BTreeSet<&str> = identities(database, "index").collect();
    keys_of_tables(database).map(|(index, _)| index).filter(|index| indexes.contains(index.as_str())).collect()
}

/// The file of the last segment of the log that a physical backup needs, if the backup holds it.
fn last_segment(manifest: &Manifest) -> Option<String> {
    let wal = manifest.wal.as_ref()?;
    let bytes = manifest.fingerprint.server.wal_segment_bytes;
    let last = Lsn(wal.end.0.checked_sub(1).filter(|_| is_segment_length(bytes))?);
    let path = format!("pg_wal/{}", Segment::holding(wal.timeline, last, bytes));
    let slices = manifest.streams.iter().flat_map(|stream| &stream.parts).flat_map(|part| &part.members);
    slices.into_iter().any(|slice| slice.path == path).then_some(path)
}

/// Files of tables and indexes whose first pages lie in one part: those of databases that checks connect to, or of others.
pub fn page_files(manifest: &Manifest, unread: bool) -> Vec<&str> {
    let known: BTreeSet<String> =
        manifest.fingerprint.databases.iter().map(|database| database.oid.to_string()).collect();
    let wanted = |path: &str| {
        let mut segments = path.split('/');
        let (Some("base"), Some(database), Some(file), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return false;
        };
        let Ok(number) = file.parse::<u32>() else { return false };
        // template1 (1) may be connected to by anybody; the user's own objects have numbers from 16384 on.
        if unread { database != "1" && !known.contains(database) } else { known.contains(database) && number >= 16_384 }
    };
    let slices = manifest.streams.iter().flat_map(|stream| &stream.parts).flat_map(|part| &part.members);
    let first = slices.filter(|slice| slice.kind == MemberKind::File && slice.offset == 0 && slice.bytes >= 8192);
    first.map(|slice| slice.path.as_str()).filter(|path| wanted(path)).collect()
}

/// What cannot be mutated in this drill: the user's own questions.
pub fn not_mutable(drill: &Drill) -> Vec<NotMutated> {
    let why =
        "only who wrote the question knows what makes its answer wrong: write a drill with a `sabotage` step for it";
    drill
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Check(check) if check.assertion.is_some() => {
                Some(NotMutated { what: check.title(), why: why.to_owned() })
            }
            Step::Provision
            | Step::Restore(_)
            | Step::AwaitReady(_)
            | Step::Check(_)
            | Step::Sabotage(_)
            | Step::Destroy => None,
        })
        .collect()
}

/// What turned red in a mutated drill.
pub fn reds(transcript: &Transcript, victim: &Victim) -> Vec<Red> {
    let red = |guard: Guard, title: &str, required: bool, findings: &[Finding]| Red {
        guard,
        title: title.to_owned(),
        required,
        names_victim: findings.iter().any(|finding| finding.object.contains(&victim.name)),
        first: findings.first().map_or_else(String::new, |finding| format!("{}: {}", finding.code, finding.object)),
    };
    let checks = transcript.checks.iter().filter_map(|check| match &check.outcome {
        Outcome::Failed(found) => Some(red(Guard::Check(check.name), &check.title, check.required, found)),
        Outcome::Passed | Outcome::Broke { .. } | Outcome::Unchecked(_) => None,
    });
    let steps = transcript.steps.iter().filter_map(|record| {
        let Ended::Found(findings) = &record.ended else { return None };
        let guard = match &record.step {
            Step::Provision | Step::Restore(_) | Step::Sabotage(_) | Step::Destroy => Guard::Restore,
            Step::AwaitReady(_) => Guard::Readiness,
            Step::Check(check) => Guard::Check(check.name),
        };
        Some(red(guard, guard.as_str(), true, findings))
    });
    let mut all: Vec<Red> = checks.chain(steps).collect();
    if let Some(rpa) = transcript.judgement.rpa.filter(|rpa| *rpa > transcript.objectives.rpo) {
        let first = format!("{rpa} of data would be lost, {} is allowed", transcript.objectives.rpo);
        let title = Guard::Rpo.as_str().to_owned();
        all.push(Red { guard: Guard::Rpo, title, required: true, names_victim: true, first });
    }
    all
}

/// Whether a mutated drill caught its fault. Only a finding catches: a check that broke saw nothing.
pub fn came(mutation: Mutation, transcript: &Transcript, red: &[Red]) -> Came {
    let broken = transcript.steps.iter().find_map(|record| match &record.ended {
        Ended::Broke { error, hint } => Some((matches!(record.step, Step::Sabotage(_)), error, hint)),
        Ended::Done | Ended::Found(_) | Ended::Skipped => None,
    });
    let required = || red.iter().filter(|one| one.required);
    match broken {
        Some((sabotage, error, hint)) if sabotage || required().next().is_none() => {
            return Came::Broke { error: error.clone(), hint: hint.clone() };
        }
        _ => {}
    }
    // A server that does not come up says that its data are bad; which file it missed it need not say.
    let meant = |one: &Red| one.guard == mutation.expected() && (one.names_victim || one.guard == Guard::Restore);
    if required().next().is_some() {
        return Came::Caught { as_expected: required().any(meant) };
    }
    let optional: Vec<&str> = red.iter().map(|one| one.title.as_str()).collect();
    let broke = transcript.checks.iter().find_map(|check| match &check.outcome {
        Outcome::Broke { error, .. } => Some(format!("check {} broke, which is no finding: {error}", check.title)),
        Outcome::Passed | Outcome::Failed(_) | Outcome::Unchecked(_) => None,
    });
    let why = match (optional.is_empty(), broke) {
        (false, _) => format!("only what is not required turned red: {}", optional.join(", ")),
        (true, Some(broke)) => broke,
        (true, None) => "nothing turned red".to_owned(),
    };
    Came::Missed { why }
}

/// The detection score.
pub fn score(mutated: &[Mutated]) -> Score {
    let count = |wanted: fn(&Came) -> bool| mutated.iter().filter(|one| wanted(&one.came)).count();
    let caught = count(|came| matches!(came, Came::Caught { .. }));
    Score {
        caught,
        applied: caught + count(|came| matches!(came, Came::Missed { .. })),
        by_others: count(|came| matches!(came, Came::Caught { as_expected: false })),
        broke: count(|came| matches!(came, Came::Broke { .. })),
    }
}

#[cfg(test)]
#[path = "mutation_tests.rs"]
mod tests;
