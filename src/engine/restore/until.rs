//! To a moment of the log: which backup, along which timeline, how far; and what the server is told.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;
use std::sync::Arc;

use super::choose::Chosen;
use super::{Request, refuse_without_room};
use crate::domain::artifact::Manifest;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::units::ByteSize;
use crate::engine::wal::{Bring, Log, owner_of};
use crate::judge::wal::{self, Archive, Follow, Reach, Until};
use crate::progress::Progress;

/// To where, and along which timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// To where.
    pub until: Until,
    /// Stop just before it.
    pub before: bool,
    /// Along which timeline.
    pub follow: Follow,
}

/// What the log adds to a backup.
pub(super) struct Course {
    wanted: Wanted,
    log: Arc<Log>,
    archive: Archive,
    reach: Reach,
    pub warnings: Vec<String>,
}

/// What a backup cannot do for a target, and how near it comes.
enum Fit {
    Good(Box<Course>),
    No {
        why: String,
        /// Whether it tells how near anything comes.
        tells: bool,
    },
}

/// Whether a backup can be brought to the target, by what the stores hold: known before anything is written.
async fn fit(request: &Request, wanted: &Wanted, manifest: &Manifest, log: &Arc<Log>) -> Result<Fit, Stop> {
    let Some(range) = &manifest.wal else {
        return Ok(Fit::No { why: format!("backup {} holds no log", manifest.backup), tells: false });
    };
    let too_late =
        |what: &str| Ok(Fit::No { why: format!("backup {} ends after {what}", manifest.backup), tells: false });
    match &wanted.until {
        Until::Time(at) if manifest.ended() > *at => return too_late(&at.to_string()),
        Until::Lsn(lsn) if range.end > *lsn => return too_late(&lsn.to_string()),
        Until::Latest | Until::Time(_) | Until::Lsn(_) | Until::Name(_) | Until::Xid(_) => {}
    }
    let (archive, findings) = log.behind(manifest, &request.opener, None).await?;
    let reach = match wal::reach(range, &archive, wanted.follow) {
        Ok(reach) => reach,
        Err(no) => return Ok(Fit::No { why: no.0, tells: false }),
    };
    let said = |finding: &Finding| format!("passed over: {}: {}", finding.object, finding.message);
    let mut warnings: Vec<String> = findings.iter().map(said).collect();
    if let Err(why) = wal::within(&reach, &wanted.until, wanted.before) {
        let why = std::iter::once(why).chain(warnings).collect::<Vec<_>>().join("; ");
        return Ok(Fit::No { why, tells: true });
    }
    if let (Until::Latest | Until::Xid(_), Some(hole)) = (&wanted.until, reach.hole) {
        let who = reach.acknowledged.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
        warnings.push(format!(
            "the log stops at {}: {} is missing or not whole, and {} is there again{who}; what was committed from there on does not come back",
            reach.until, hole.from, hole.next
        ));
    }
    Ok(Fit::Good(Box::new(Course { wanted: wanted.clone(), log: Arc::clone(log), archive, reach, warnings })))
}

/// The whole log of a backup's policy: listed once, however many backups are looked at.
async fn listed(request: &Request, manifest: &Manifest) -> Result<Arc<Log>, Broke> {
    Log::list(&request.stores, &manifest.policy, &request.trusted).await.map(Arc::new)
}

/// What a restore of the backup alone leaves behind, if the stores hold a log that goes on from it: somebody who does not know must hear of it.
pub(super) async fn left_behind(request: &Request, manifest: &Manifest) -> Option<String> {
    let wanted = Wanted { until: Until::Latest, before: false, follow: Follow::Latest };
    let fitted = async { fit(request, &wanted, manifest, &listed(request, manifest).await?).await };
    match fitted.await {
        Ok(Fit::Good(course)) if course.reach.segments.is_empty() => None,
        Ok(Fit::Good(course)) => Some(format!(
            "the log behind this backup is not replayed; --until latest brings it back too: {}",
            course.words()
        )),
        Ok(Fit::No { tells: false, .. }) => None,
        Ok(Fit::No { why, .. }) => Some(format!("the log behind this backup is not replayed: {why}")),
        // It was not asked for, and must not keep the backup from being brought back.
        Err(stop) => {
            let why = match stop {
                Stop::Broke(broke) => broke.error,
                Stop::Found(findings) => findings.first().map_or(String::new(), |one| one.message.clone()),
            };
            Some(format!("whether a log goes on from this backup could not be seen: {why}"))
        }
    }
}

impl Course {
    /// In one sentence: what it brings.
    pub fn words(&self) -> String {
        let far = match self.reach.last_commit {
            Some(last) => format!("{} ({})", self.reach.until, last.at),
            None => self.reach.until.to_string(),
        };
        let to = match &self.wanted.until {
            Until::Latest => format!("to its end at {far}"),
            Until::Time(at) => format!("to {at}; it goes to {far}"),
            Until::Lsn(lsn) => format!("to {lsn}; it goes to {far}"),
            Until::Name(name) => format!("to the restore point {name}; it goes to {far}"),
            Until::Xid(xid) => format!("to transaction {xid}, if it is there; it goes to {far}"),
        };
        let before = if self.wanted.before { "just before; " } else { "" };
        format!("{} segments of the log on timeline {}, {before}{to}", self.reach.segments.len(), self.reach.timeline)
    }

    /// The bytes that it writes.
    pub fn bytes(&self) -> ByteSize {
        ByteSize((self.reach.segments.len() as u64).saturating_mul(self.archive.segment_bytes))
    }

    /// Puts the log into the restored folder, and tells the server how far to go.
    pub async fn prepare(&self, request: &Request, dir: &Path, progress: &dyn Progress) -> Result<(), Stop> {
        refuse_without_room(dir, self.bytes(), "the log")?;
        progress.stage("log");
        progress.expect(self.bytes().0);
        progress.say(&self.words());
        let owner = owner_of(dir)?;
        let into = dir.join("pg_wal");
        let Course { log, reach, archive, .. } = self;
        let (opener, parallel) = (&request.opener, request.parallel);
        log.bring(&Bring { reach, archive, opener, into: &into, parallel }, progress).await?;
        let instruct = || -> std::io::Result<()> {
            let mut conf =
                File::options().append(true).create(true).mode(0o600).open(dir.join("postgresql.auto.conf"))?;
            std::io::Write::write_all(&mut conf, self.settings().as_bytes())?;
            conf.sync_all()?;
            let signal = File::options().write(true).create_new(true).mode(0o600).open(dir.join("recovery.signal"))?;
            signal.sync_all()?;
            if let Some((uid, gid)) = owner {
                fchown(&conf, Some(uid), Some(gid))?;
                fchown(&signal, Some(uid), Some(gid))?;
            }
            File::open(&into)?.sync_all()?;
            File::open(dir)?.sync_all()
        };
        instruct().map_err(|error| Broke::new(format!("{} cannot be written into: {error}", dir.display())))?;
        Ok(())
    }

    /// Everything that the log can be asked for lies in `pg_wal` already: there is nowhere else to look.
    fn settings(&self) -> String {
        let target = match &self.wanted.until {
            Until::Latest => None,
            Until::Time(at) => Some(("time", at.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string())),
            Until::Lsn(lsn) => Some(("lsn", lsn.to_string())),
            Until::Name(name) => Some(("name", name.clone())),
            Until::Xid(xid) => Some(("xid", xid.to_string())),
        };
        let mut text = String::from(
            "\n# added by lifeboat restore: the log to be replayed lies in pg_wal\nrestore_command = 'exit 1'\nrecovery_target = ''\n",
        );
        let mut set = |name: &str, value: &str| {
            // A String takes all that is written to it.
            let _ = writeln!(text, "{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''"));
        };
        // A server refuses a second target, even an empty one, behind one that is not: the one that counts stands last.
        for name in ["time", "lsn", "name", "xid"] {
            if target.as_ref().is_none_or(|(wanted, _)| *wanted != name) {
                set(&format!("recovery_target_{name}"), "");
            }
        }
        if let Some((name, value)) = &target {
            set(&format!("recovery_target_{name}"), value);
        }
        set("recovery_target_inclusive", if self.wanted.before { "off" } else { "on" });
        set("recovery_target_timeline", &self.reach.timeline.to_string());
        set("recovery_target_action", "promote");
        text
    }
}

/// Of several backups, newest first, the first that can be brought to the target; or why none can.
pub(super) async fn search(
    request: &Request,
    wanted: &Wanted,
    candidates: Vec<Chosen>,
) -> Result<Result<(Chosen, Box<Course>), String>, Stop> {
    let mut nearest: Option<String> = None;
    let Some(first) = candidates.first() else { return Ok(Err("there is no physical backup".to_owned())) };
    let log = listed(request, &first.sealed.manifest).await?;
    for candidate in candidates {
        match fit(request, wanted, &candidate.sealed.manifest, &log).await? {
            Fit::Good(course) => {
                let place = candidate.store.url();
                let why = format!("the newest physical one from which the target can be reached, in {place}");
                return Ok(Ok((Chosen { why, ..candidate }, course)));
            }
            // The newest one says how far anything reaches; one that was taken after the target says nothing.
            Fit::No { why, tells: true } => return Ok(Err(why)),
            Fit::No { why, tells: false } => drop(nearest.get_or_insert(why)),
        }
    }
    Ok(Err(nearest.unwrap_or_else(|| "there is no physical backup".to_owned())))
}

/// The same, and none is an error.
pub(super) async fn choose(
    request: &Request,
    wanted: &Wanted,
    candidates: Vec<Chosen>,
) -> Result<(Chosen, Box<Course>), Stop> {
    let count = candidates.len();
    search(request, wanted, candidates).await?.map_err(|why| {
        let hint = match wanted.until {
            Until::Time(_) | Until::Lsn(_) => "restore to an earlier or later moment, or to `latest`; `lifeboat verify POLICY --wal` shows what there is",
            Until::Latest | Until::Name(_) | Until::Xid(_) => "see what there is with `lifeboat verify POLICY --wal`",
        };
        Broke::hinted(format!("none of {count} backups can be brought there: {why}"), hint).into()
    })
}
