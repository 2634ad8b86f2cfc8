//! The known faults by which a drill is itself tested, and what came of such a test.
//!
//! [`Mutation`] is closed, and no match over it has a wildcard arm: a fault that is added here does not compile until it is
//! named, explained, chosen a victim for, and done.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::check::CheckName;
use super::ids::{BackupId, DrillName, PolicyName, RunId};
use super::policy::Method;
use super::transcript::Verdict;
use super::units::Span;

/// The `schema` of what a test of drills reports.
pub const MUTATIONS_SCHEMA: &str = "lifeboat.mutations/1";

macro_rules! mutations {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $expected:expr, $breaks:literal;)*) => {
        /// One known fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Mutation { $($(#[$doc])* $variant,)* }

        impl Mutation {
            /// All of them, in the order in which they are tried: cheap ones first.
            pub const ALL: &[Mutation] = &[$(Mutation::$variant),*];

            /// Its stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(Mutation::$variant => $name),* }
            }

            /// What it breaks, in one sentence.
            pub fn breaks(self) -> &'static str {
                match self { $(Mutation::$variant => $breaks),* }
            }

            /// What must turn red.
            pub fn expected(self) -> Guard {
                match self { $(Mutation::$variant => $expected),* }
            }
        }
    };
}

mutations! {
    /// A manifest that was changed after it was signed.
    ManifestForged, "manifest_forged", Guard::Check(CheckName::Manifest),
        "the manifest is changed, and keeps the signature that it had";
    /// A manifest that a stranger vouches for.
    ManifestResigned, "manifest_resigned", Guard::Check(CheckName::Manifest),
        "the manifest is changed, and signed anew by a key that nobody trusts";
    /// Nobody vouches for the manifest.
    SignatureMissing, "signature_missing", Guard::Check(CheckName::Manifest),
        "the manifest's signature is gone";
    /// Another policy's backup under this one's name.
    IdentityChanged, "identity_changed", Guard::Check(CheckName::Manifest),
        "the manifest, rightly signed, is that of another policy";
    /// All objects are gone.
    ArtifactMissing, "artifact_missing", Guard::Check(CheckName::Manifest),
        "every object of the backup is gone from the store";
    /// The store was rolled back under a newer name.
    ArtifactReplayed, "artifact_replayed", Guard::Check(CheckName::Manifest),
        "an older backup of the policy lies under the name of this one";
    /// One bit of one stored object.
    PartFlipped, "part_flipped", Guard::Check(CheckName::Manifest),
        "one bit of a stored part is flipped";
    /// A stored object is cut.
    PartTruncated, "part_truncated", Guard::Check(CheckName::Manifest),
        "the second half of a stored part is gone";
    /// A stored object is gone.
    PartMissing, "part_missing", Guard::Check(CheckName::Manifest),
        "a stored part is gone";
    /// Two stored objects are exchanged.
    PartsSwapped, "parts_swapped", Guard::Check(CheckName::Manifest),
        "two stored parts have changed places";
    /// A stored object is another backup's.
    PartOfAnother, "part_of_another", Guard::Check(CheckName::Manifest),
        "a stored part is replaced by one of an older backup, sealed to the same keys";
    /// Nobody here can open it.
    WrongKey, "wrong_key", Guard::Check(CheckName::Manifest),
        "the backup is opened with a key that does not fit";
    /// The dump came without its roles.
    GlobalsLost, "globals_lost", Guard::Restore,
        "the backup, rightly signed, holds no roles: its globals are gone";
    /// The log that a physical backup needs is not in it.
    WalLost, "wal_lost", Guard::Restore,
        "the backup, rightly signed, holds zeros for the end of the log that it needs";
    /// A newest backup that is too old.
    BackupStale, "backup_stale", Guard::Rpo,
        "the backup, rightly signed, brings back a moment that is older than the RPO allows";
    /// A damaged page of a user's table.
    PageFlipped, "page_flipped", Guard::Check(CheckName::PageChecksums),
        "the backup, rightly signed, holds a table's page with one flipped bit, as a rotten disk gives it";
    /// A damaged page where no query comes by.
    UnreadPageFlipped, "unread_page_flipped", Guard::Check(CheckName::PageChecksums),
        "the backup, rightly signed, holds a page with one flipped bit in a database that no check connects to";
    /// A wrong value.
    RowChanged, "row_changed", Guard::Check(CheckName::Content),
        "one column of one row has another value";
    /// A lost row.
    RowDeleted, "row_deleted", Guard::Check(CheckName::Content),
        "one row is gone";
    /// A row twice.
    RowDoubled, "row_doubled", Guard::Check(CheckName::Content),
        "one row is there twice, past any unique index";
    /// A lost large object.
    LargeObjectLost, "large_object_lost", Guard::Check(CheckName::Content),
        "one large object is gone";
    /// A lost table.
    TableDropped, "table_dropped", Guard::Check(CheckName::Completeness),
        "a table is gone, with all that hangs on it";
    /// A lost index.
    IndexDropped, "index_dropped", Guard::Check(CheckName::Completeness),
        "an index is gone";
    /// A lost constraint.
    ConstraintDropped, "constraint_dropped", Guard::Check(CheckName::Completeness),
        "a check or a foreign key is gone";
    /// A function that does something else.
    FunctionChanged, "function_changed", Guard::Check(CheckName::Completeness),
        "a function is defined otherwise";
    /// A lost role.
    RoleMissing, "role_missing", Guard::Check(CheckName::Completeness),
        "a role is gone: it has another name";
    /// A lost grant.
    GrantRevoked, "grant_revoked", Guard::Check(CheckName::Completeness),
        "a grant is revoked";
    /// An index that lacks a row.
    IndexBroken, "index_broken", Guard::Check(CheckName::Amcheck),
        "a B-tree index lacks the entries of some rows of its table";
    /// A sequence that hands out keys again.
    SequenceShifted, "sequence_shifted", Guard::Check(CheckName::Sequences),
        "a sequence stands one step behind, and hands a value out again";
    /// A lost extension.
    ExtensionMissing, "extension_missing", Guard::Check(CheckName::Extensions),
        "an extension is gone, with all that hangs on it";
    /// Another version of an extension.
    ExtensionChanged, "extension_changed", Guard::Check(CheckName::Extensions),
        "an extension has another version";
    /// A sort order of other libraries.
    CollationChanged, "collation_changed", Guard::Check(CheckName::Collations),
        "a collation is recorded with another version of its library";
    /// Another locale.
    LocaleChanged, "locale_changed", Guard::Check(CheckName::Encodings),
        "a database has another locale for the kinds of characters";
    /// A lost setting.
    SettingChanged, "setting_changed", Guard::Check(CheckName::Settings),
        "a setting of a database is another (ALTER DATABASE … SET)";
    /// A hole in the heartbeat.
    HeartbeatLost, "heartbeat_lost", Guard::Check(CheckName::Heartbeat),
        "a row in the middle of the heartbeat is gone, as behind a hole in the log";
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Mutation {
    type Err = String;

    fn from_str(text: &str) -> Result<Mutation, String> {
        Mutation::ALL
            .iter()
            .copied()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a mutation"))
    }
}

/// What can turn red in a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// A check.
    Check(CheckName),
    /// The step that puts the backup back and starts it, or the choice of the backup before it.
    Restore,
    /// The wait for the first useful query.
    Readiness,
    /// The recovery point objective.
    Rpo,
}

impl Guard {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Guard::Check(name) => name.as_str(),
            Guard::Restore => "the restore",
            Guard::Readiness => "readiness",
            Guard::Rpo => "the RPO",
        }
    }
}

/// What a mutation is done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Which object, as findings name it or contain it: `shop.orders`, `base/00003.zst.age`.
    pub name: String,
    /// In which database; none: it belongs to the artifact or to the whole server.
    pub database: Option<String>,
}

/// Something that turned red.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Red {
    /// What.
    pub guard: Guard,
    /// What the user calls it: `content`, or for assertions the question.
    pub title: String,
    /// Whether the drill's verdict depends on it.
    pub required: bool,
    /// Whether one of its findings names the victim.
    pub names_victim: bool,
    /// Its first finding: code and object.
    pub first: String,
}

/// What came of one mutation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Came {
    /// Something that the verdict depends on turned red.
    Caught {
        /// Whether that which is meant for it was among them, and named the victim.
        as_expected: bool,
    },
    /// Nothing did: a finding about the drill.
    Missed {
        /// What the drill said instead.
        why: String,
    },
    /// The mutation could not be done, or the drill broke: says nothing.
    Broke {
        /// What went wrong.
        error: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// One mutation, as it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutated {
    /// Which.
    pub mutation: Mutation,
    /// What it breaks.
    pub breaks: String,
    /// What it was done to.
    pub victim: Victim,
    /// What must turn red.
    pub expected: Guard,
    /// What did.
    pub red: Vec<Red>,
    /// What came of it.
    pub came: Came,
    /// The run of the drill that was mutated.
    pub run: RunId,
    /// How long it took.
    pub took: Span,
}

/// A mutation that was not done, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMutated {
    /// Which.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// How many of the mutations that were done were caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Caught.
    pub caught: usize,
    /// Done, and caught or missed.
    pub applied: usize,
    /// Caught, but not by what is meant for it.
    pub by_others: usize,
    /// Could not be done: neither caught nor missed.
    pub broke: usize,
}

/// The drill without a mutation, on which everything else rests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Its run.
    pub run: RunId,
    /// Its verdict.
    pub verdict: Verdict,
    /// Why.
    pub reasons: Vec<String>,
}

/// A test of a drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillTest {
    /// [`MUTATIONS_SCHEMA`].
    pub schema: String,
    /// Which run.
    pub run: RunId,
    /// Of which policy.
    pub policy: PolicyName,
    /// Which drill.
    pub drill: DrillName,
    /// The backup whose copies were mutated.
    pub backup: Option<BackupId>,
    /// How it was taken.
    pub method: Option<Method>,
    /// What victims were chosen by: the same seed chooses the same from the same backup.
    pub seed: u32,
    /// Only these were asked for; none: all.
    pub only: Option<Vec<Mutation>>,
    /// When it began, by the runner's clock.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The drill without a mutation.
    pub baseline: Baseline,
    /// What was done.
    pub mutations: Vec<Mutated>,
    /// What was not done, and why not.
    pub not_mutated: Vec<NotMutated>,
    /// The detection score; none: not measured, because the drill without a mutation was not proven.
    pub score: Option<Score>,
}
