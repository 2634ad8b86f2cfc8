//! How a source is set up, as far as a recovery depends on it.

use jiff::Timestamp;

use super::units::ByteSize;

/// What a source says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posture {
    /// Of which cluster; none: the role may not ask.
    pub system_identifier: Option<String>,
    /// Whether it is a standby: its log is its primary's.
    pub in_recovery: bool,
    /// `minimal`, `replica`, `logical`.
    pub wal_level: String,
    /// Whether a crash of the machine leaves the data whole.
    pub fsync: bool,
    /// Whether a page that was half written at a crash can be mended.
    pub full_page_writes: bool,
    /// Whether damaged pages can be seen.
    pub data_checksums: bool,
    /// What its archiver does; none: it archives nothing.
    pub archiver: Option<Archiver>,
    /// Databases that accept connections, but templates.
    pub databases: Vec<String>,
    /// The database that the policy's URL names.
    pub database: String,
    /// Its replication slots.
    pub slots: Vec<Slot>,
}

/// An archiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archiver {
    /// Whether its command is `lifeboat wal push` for this policy.
    pub is_ours: bool,
    /// The last file that it was told is archived, and when.
    pub last: Option<(String, Timestamp)>,
    /// The last file that it was told is not, and when.
    pub failed: Option<(String, Timestamp)>,
}

impl Archiver {
    /// The file at which it fails; none: the last word was of success, or there was none.
    pub fn fails_at(&self) -> Option<&str> {
        let (name, failed) = self.failed.as_ref()?;
        self.last.as_ref().is_none_or(|(_, last)| failed > last).then_some(name)
    }
}

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Whether somebody uses it now.
    pub active: bool,
    /// How much of the log the source keeps for it; none: nothing.
    pub holds: Option<ByteSize>,
    /// Whether the source has given it up.
    pub lost: bool,
}
