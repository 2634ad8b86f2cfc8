//! How each step of a drill is performed.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::error::SqlState;

use super::super::House;
use super::super::ledger::Record;
use super::replay::{self, Behind, Far};
use super::stage::{RestorePart, Stage};
use crate::backup::{logical, physical};
use crate::checks::{self, Subject};
use crate::domain::artifact::WalRange;
use crate::domain::check::{Broke, CheckName, CheckResult, Finding, Stop};
use crate::domain::drill::{AwaitReady, Check, Restore, Sabotage, ScratchKind, Target};
use crate::domain::heartbeat::BeatTerms;
use crate::domain::ids::SCRATCH_PREFIX;
use crate::domain::policy::{Method, Policy};
use crate::domain::run::Event;
use crate::domain::transcript::{Ended, LogReplayed, Phase, RestoreFacts, ScratchUsed, Transcript};
use crate::domain::units::{ByteSize, Span};
use crate::probe::endpoint::root_cause;
use crate::probe::{self, Endpoint};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::scratch::{Scratch, Started};
use crate::seal::{Opener, SealedManifest, Witness};
use crate::store::Store;

/// What the steps of one drill share.
pub struct Performance<'a> {
    house: &'a House,
    policy: &'a Policy,
    sealed: &'a SealedManifest,
    programs: &'a Programs,
    store: Arc<dyn Store>,
    opener: Opener,
    scratch: Option<Scratch>,
    started: Option<Started>,
    facts: RestoreFacts,
    behind: Option<Behind>,
    log: Option<LogReplayed>,
}

impl<'a> Performance<'a> {
    /// Before the first step. What opens the artifact is asked for here: without it nothing need be begun.
    pub fn new(
        house: &'a House,
        policy: &'a Policy,
        sealed: &'a SealedManifest,
        programs: &'a Programs,
        store: Arc<dyn Store>,
        record: &Arc<Record>,
    ) -> Result<Performance<'a>, Broke> {
        let opener = house.opener()?.watched(Arc::clone(record) as Arc<dyn Witness>);
        let facts = RestoreFacts::default();
        let (scratch, started, behind, log) = (None, None, None, None);
        Ok(Performance { house, policy, sealed, programs, store, opener, scratch, started, facts, behind, log })
    }

    /// System identifiers that a scratch server must not have: those of all artifacts, and of all sources that answer. A database
    /// is not made anywhere while a source is known by neither: the server might be that very source.
    async fn sources(&self, kind: ScratchKind) -> Result<Vec<String>, Broke> {
        let mut identifiers = vec![self.sealed.manifest.fingerprint.server.system_identifier.clone()];
        for policy in self.house.policies.iter().filter(|policy| !policy.is_of_control_plane()) {
            let artifacts = self.house.catalog.artifacts(&policy.name).await?;
            let known = artifacts.into_iter().map(|record| record.system_identifier);
            let mut known: Vec<String> = known.filter(|identifier| !identifier.is_empty()).collect();
            match self.identify(policy).await {
                Ok(identifier) => known.push(identifier),
                Err(broke) if known.is_empty() && kind == ScratchKind::Database => {
                    return Err(Broke::hinted(
                        format!(
                            "the source of policy {} cannot be told apart from the scratch server: {}",
                            policy.name, broke.error
                        ),
                        "let its role call pg_control_system(), take a backup of it, or drill with kind = \"cluster\"",
                    ));
                }
                Err(_) => {}
            }
            identifiers.extend(known);
        }
        identifiers.sort();
        identifiers.dedup();
        Ok(identifiers)
    }

    async fn identify(&self, policy: &Policy) -> Result<String, Broke> {
        let client = self.house.source(&policy.source)?.connect().await?;
        Ok(probe::server(&client).await?.system_identifier)
    }

    async fn start(&mut self) -> Result<Vec<String>, Stop> {
        let manifest = &self.sealed.manifest;
        let scratch = self.scratch.as_mut().ok_or_else(no_scratch)?;
        if manifest.method == Method::Logical {
            scratch.prepare_empty(&manifest.fingerprint).await?;
        }
        let started = scratch.start(&manifest.fingerprint, self.behind.as_ref().map(Behind::recovery)).await?;
        // PostgreSQL starts over a hole in the log without a word; what was recorded when the backup was taken knows better.
        match (&self.behind, &manifest.wal) {
            (Some(behind), _) => {
                behind.replayed(&started)?;
                self.log = Some(behind.told(&started));
            }
            (None, Some(wal)) => replayed_far_enough(wal, &started)?,
            (None, None) => {}
        }
        let facts = started.facts.clone();
        self.started = Some(started);
        Ok(facts)
    }

    async fn put_back(&mut self, with_log: Option<Far>, progress: &dyn Progress) -> Result<Vec<String>, Stop> {
        let manifest = &self.sealed.manifest;
        let parallel = self.house.config.limits.parallel;
        let scratch = self.scratch.as_ref().ok_or_else(no_scratch)?;
        progress.expect(manifest.plain_bytes().0);
        let began = Instant::now();
        self.facts = match manifest.method {
            Method::Physical => {
                let data_dir = scratch.data_dir().ok_or_else(no_scratch)?.to_owned();
                let what = physical::PutBack {
                    store: Arc::clone(&self.store),
                    manifest,
                    opener: &self.opener,
                    data_dir,
                    tablespaces: Vec::new(),
                    durable: false,
                    parallel,
                    progress,
                };
                physical::put_back(&what).await?
            }
            Method::Logical => {
                let names: Vec<String> =
                    manifest.fingerprint.databases.iter().map(|database| database.name.clone()).collect();
                let what = logical::PutBack {
                    store: Arc::clone(&self.store),
                    manifest,
                    opener: &self.opener,
                    server: scratch.server()?,
                    whole_server: scratch.data_dir().is_some(),
                    with_roles: false,
                    rename: scratch.rename(&names),
                    work_dir: scratch.work_dir(),
                    programs: self.programs,
                    wrap: scratch.wrap(),
                    parallel,
                    progress,
                };
                logical::put_back(&what).await?
            }
            Method::RdsSnapshot | Method::Pgbackrest | Method::Barman | Method::Dump | Method::ControlPlane => {
                let error =
                    format!("backups of method {} cannot be restored by this version", manifest.method.as_str());
                return Err(Broke::new(error).into());
            }
        };
        let seconds = began.elapsed().as_secs_f64().max(0.001);
        let plain = ByteSize(self.facts.plain_bytes);
        let rate = ByteSize((self.facts.plain_bytes as f64 / seconds) as u64);
        let mut facts = vec![format!(
            "{} parts fetched, verified, decrypted: {} stored, {plain} written, {rate}/s",
            self.facts.parts,
            ByteSize(self.facts.sealed_bytes)
        )];
        if !self.facts.superuser_entries.is_empty() {
            facts.push(format!("{} entries needed the superuser", self.facts.superuser_entries.len()));
        }
        facts.extend(self.facts.warnings.iter().take(20).cloned());
        if let (Some(far), Some(data_dir)) = (with_log, scratch.data_dir()) {
            self.behind = replay::behind(self.house, self.policy, self.sealed, &self.opener, far).await?;
            facts.push(match &self.behind {
                Some(behind) => behind.bring(data_dir, &self.opener, parallel, progress).await?,
                None => "the stores hold no log that goes on from it".to_owned(),
            });
        }
        Ok(facts)
    }

    fn subject(&self, heartbeat: BeatTerms) -> Result<Subject<'_>, Broke> {
        let scratch = self.scratch.as_ref().ok_or_else(no_scratch)?;
        let names: Vec<String> =
            self.sealed.manifest.fingerprint.databases.iter().map(|database| database.name.clone()).collect();
        let renamed = scratch.rename(&names);
        let databases = if renamed.is_empty() { names.iter().cloned().zip(names.clone()).collect() } else { renamed };
        Ok(Subject {
            sealed: self.sealed,
            restored: &self.facts,
            server: scratch.server()?,
            default_database: self.database_now(None)?,
            databases,
            whole_server: scratch.data_dir().is_some(),
            own_from: match self.sealed.manifest.method {
                Method::Physical => self.started.as_ref().map(|started| started.next_xid),
                Method::Logical
                | Method::RdsSnapshot
                | Method::Pgbackrest
                | Method::Barman
                | Method::Dump
                | Method::ControlPlane => None,
            },
            heartbeat,
            programs: self.programs,
            wrap: scratch.wrap(),
            parallel: self.house.config.limits.parallel,
        })
    }

    fn server(&self) -> Result<Endpoint, Broke> {
        self.scratch.as_ref().ok_or_else(no_scratch)?.server()
    }

    /// The name that a database has in the scratch; without a name, that of the policy's URL, or the first of the backup.
    fn database_now(&self, wanted: Option<&str>) -> Result<String, Broke> {
        let databases = &self.sealed.manifest.fingerprint.databases;
        let url = Endpoint::parse(&self.policy.source.url)?.database;
        let held = |name: &str| databases.iter().any(|database| database.name == name);
        let name = match wanted {
            Some(name) => name.to_owned(),
            None if held(&url) => url,
            None => databases.first().map_or(url, |database| database.name.clone()),
        };
        let renamed = match &self.scratch {
            Some(scratch) => {
                scratch.rename(&databases.iter().map(|database| database.name.clone()).collect::<Vec<_>>())
            }
            None => Vec::new(),
        };
        Ok(renamed.into_iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new))
    }
}

#[async_trait]
impl Stage for Performance<'_> {
    async fn provision(&mut self, transcript: &Transcript) -> Result<Vec<String>, Stop> {
        let plan = &transcript.drill.scratch;
        if plan.kind == ScratchKind::Database && self.sealed.manifest.method != Method::Logical {
            let error =
                format!("backup {} is physical: it cannot be restored into a database", self.sealed.manifest.backup);
            return Err(
                Broke::hinted(error, "use scratch kind `cluster`, or pick method `logical` in the drill").into()
            );
        }
        let name = transcript.run.scratch_name();
        // Written down before it is made: a kill between the two leaves an owed sweep, never an unknown scratch.
        self.house.record(&self.policy.name, transcript.run, Event::ScratchMade { name: name.clone() }).await?;
        let sources = self.sources(plan.kind).await?;
        let config = &self.house.config.scratch;
        let scratch = Scratch::provision(transcript.run, plan, config, self.programs, &sources).await?;
        let isolation = scratch.isolation();
        let facts = vec![
            format!("scratch {name}"),
            match (plan.kind, isolation.network) {
                (ScratchKind::Database | ScratchKind::Folder, _) => "a database on a scratch server".to_owned(),
                (ScratchKind::Cluster, true) => format!("cut off from the network ({})", isolation.means),
                (ScratchKind::Cluster, false) => "not cut off from the network".to_owned(),
            },
        ];
        self.scratch = Some(scratch);
        Ok(facts)
    }

    async fn restore(&mut self, restore: &Restore, lost_at: Timestamp, progress: &dyn Progress) -> Vec<RestorePart> {
        let with_log = match restore.until {
            Target::Backup => None,
            Target::Latest => Some(Far::SealedBy(lost_at)),
            Target::Moment => Some(Far::Moment(lost_at)),
        };
        let mut parts = Vec::new();
        let order = match self.sealed.manifest.method {
            Method::Physical => [Phase::Restore, Phase::Start],
            Method::Logical
            | Method::RdsSnapshot
            | Method::Pgbackrest
            | Method::Barman
            | Method::Dump
            | Method::ControlPlane => [Phase::Start, Phase::Restore],
        };
        for phase in order {
            let began = Instant::now();
            let done = match phase {
                Phase::Restore => self.put_back(with_log, progress).await,
                _ => self.start().await,
            };
            let part = RestorePart::ended(phase, began, done);
            let bad = part.ended != Ended::Done;
            parts.push(part);
            if bad {
                break;
            }
        }
        parts
    }

    async fn await_ready(&self, ready: &AwaitReady) -> Result<Vec<String>, Stop> {
        let database = self.database_now(ready.database.as_deref())?;
        let endpoint = self.server()?.with_database(&database);
        let began = Instant::now();
        let mut last = String::from("it was never asked");
        let mut tries = 0_u32;
        while began.elapsed() < ready.timeout.to_std() {
            tries += 1;
            match ask(&endpoint, &ready.query, ready.timeout).await {
                Ok(latency) if latency <= ready.within => {
                    return Ok(vec![format!(
                        "answered in {latency} (within {}), after {} and {tries} tries",
                        ready.within,
                        Span::from_std(began.elapsed())
                    )]);
                }
                Ok(latency) => last = format!("it answered in {latency}"),
                Err(Silence::Wrong(why)) => {
                    let hint = "correct `await-ready.query` in the drill";
                    return Err(Broke::hinted(format!("the readiness query cannot be asked: {why}"), hint).into());
                }
                Err(Silence::NotYet(why)) => last = why,
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let message = format!("the readiness query was not answered as demanded within {}", ready.timeout);
        let finding = Finding::new("not_ready", format!("database {database}"), message);
        Err(finding.with(format!("an answer within {}", ready.within), last).into())
    }

    async fn check(&self, check: &Check) -> CheckResult {
        let began = Instant::now();
        let terms = match check.name {
            CheckName::Heartbeat => {
                replay::beat_terms(self.house, self.policy, self.behind.as_ref().and_then(Behind::moment)).await
            }
            _ => BeatTerms::default(),
        };
        let subject = match self.subject(terms) {
            Ok(subject) => subject,
            Err(broke) => {
                return CheckResult {
                    name: check.name,
                    title: check.title(),
                    required: check.required,
                    outcome: crate::domain::check::Outcome::Broke { error: broke.error, hint: broke.hint },
                    looked_at: Vec::new(),
                    unchecked: Vec::new(),
                    beat: None,
                    took: Span::from_std(began.elapsed()),
                };
            }
        };
        let mut result = checks::run(check, &subject).await;
        result.title = check.title();
        if self.log.is_some() { replay::weigh(result) } else { result }
    }

    fn log_replayed(&self) -> Option<LogReplayed> {
        self.log.clone()
    }

    async fn sabotage(&self, sabotage: &Sabotage) -> Result<Vec<String>, Stop> {
        let database = self.database_now(sabotage.database.as_deref())?;
        let client = self.server()?.with_database(&database).connect().await.map_err(Broke::from)?;
        client.batch_execute(&sabotage.sql).await.map_err(|error| {
            Broke::hinted(format!("the sabotage failed: {}", root_cause(&error)), "correct `sabotage.sql` in the drill")
        })?;
        Ok(vec![format!("ran in {database}: {}", sabotage.sql)])
    }

    fn scratch_used(&self) -> Option<ScratchUsed> {
        let scratch = self.scratch.as_ref()?;
        Some(ScratchUsed {
            kind: if scratch.data_dir().is_some() { ScratchKind::Cluster } else { ScratchKind::Database },
            name: scratch.name().to_owned(),
            server_version: self.started.as_ref().map(|started| started.server_version.clone()),
            isolation: scratch.isolation(),
            destroyed_at: None,
        })
    }

    fn scratch_name(&self) -> Option<String> {
        self.scratch.as_ref().map(|scratch| scratch.name().to_owned())
    }

    async fn destroy(self: Box<Self>) -> Result<(), Broke> {
        match self.scratch {
            Some(scratch) => scratch.destroy().await,
            None => Ok(()),
        }
    }
}

/// Whether the server replayed the log to the backup's end, on the backup's timeline.
fn replayed_far_enough(wal: &WalRange, started: &Started) -> Result<(), Finding> {
    if started.replayed_to < wal.end {
        let message = "the restored server came up before it had replayed the log to the end of the backup";
        let finding = Finding::new("log_short", "write-ahead log", message);
        return Err(finding.with(wal.end.to_string(), started.replayed_to.to_string()));
    }
    if started.timeline != wal.timeline {
        let message = "the restored server is on another timeline than the backup";
        let finding = Finding::new("timeline", "write-ahead log", message);
        return Err(finding.with(wal.timeline.to_string(), started.timeline.to_string()));
    }
    Ok(())
}

fn no_scratch() -> Broke {
    Broke::hinted(
        format!("there is no scratch ({SCRATCH_PREFIX}…) to do this in"),
        "a drill provisions one before anything else: see its first step",
    )
}

/// Why there was no answer.
enum Silence {
    /// The question itself is wrong: asking again does not help, and it says nothing about the backup.
    Wrong(String),
    /// There may be one later.
    NotYet(String),
}

/// Asks once, on a connection of its own; gives the time from the question to the answer.
async fn ask(endpoint: &Endpoint, query: &str, timeout: Span) -> Result<Span, Silence> {
    let client = endpoint.connect().await.map_err(|error| Silence::NotYet(error.to_string()))?;
    let asked = Instant::now();
    match tokio::time::timeout(timeout.to_std(), client.simple_query(query)).await {
        Ok(Ok(_)) => Ok(Span::from_std(asked.elapsed())),
        Ok(Err(error)) if error.code() == Some(&SqlState::SYNTAX_ERROR) => Err(Silence::Wrong(root_cause(&error))),
        Ok(Err(error)) => Err(Silence::NotYet(root_cause(&error))),
        Err(_) => Err(Silence::NotYet(format!("no answer within {timeout}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lsn::Lsn;

    #[test]
    fn a_log_that_was_not_replayed_to_its_end_is_a_finding() {
        let wal = WalRange { timeline: 1, start: Lsn(100), end: Lsn(200) };
        for (replayed_to, timeline, code) in
            [(200, 1, None), (900, 1, None), (199, 1, Some("log_short")), (200, 2, Some("timeline"))]
        {
            let started = Started {
                server_version: String::new(),
                facts: Vec::new(),
                next_xid: 3,
                replayed_to: Lsn(replayed_to),
                timeline,
                last_replayed: None,
                stopped_before: None,
            };
            let found = replayed_far_enough(&wal, &started).err().map(|finding| finding.code);
            assert_eq!(found.as_deref(), code, "{replayed_to} on {timeline}");
        }
    }
}
