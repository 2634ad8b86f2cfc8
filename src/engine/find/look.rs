//! One look: a restore to a moment in a scratch of its own, and the question.

use std::sync::Arc;
use std::time::Instant;

use super::super::house::new_run;
use super::super::restore::{Request, vouch};
use super::super::{House, interrupt, process};
use super::ask::{Answer, ask};
use super::survey::{Base, Ground};
use super::{Look, Transaction, Trouble, interrupted};
use crate::backup::physical;
use crate::domain::artifact::Manifest;
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::drill::{IsolationDemand, ScratchKind, ScratchPlan};
use crate::domain::policy::Policy;
use crate::domain::run::{Event, RunOutcome, Work};
use crate::domain::units::Span;
use crate::engine::wal::Bring;
use crate::judge::wal::Reach;
use crate::programs::Programs;
use crate::progress::Progress;
use crate::scratch::{Recovery, Scratch, Started};

/// What all looks of a search share.
pub(super) struct Looker<'a> {
    pub house: &'a House,
    pub policy: &'a Policy,
    pub request: &'a Request,
    pub ground: &'a Ground,
    pub sql: &'a str,
    /// What a person should know, each once.
    pub warnings: Vec<String>,
}

impl Looker<'_> {
    /// Restores to one of the moments and asks. The scratch is gone before this returns, whatever happened.
    pub(super) async fn look(
        &mut self,
        index: u64,
        database: &str,
        number: usize,
        progress: &dyn Progress,
    ) -> Result<Look, Trouble> {
        let ground = self.ground;
        let at = ground.moments.at(index);
        let (base, reach) = ground.base(index).ok_or_else(|| Broke::new(format!("nothing brings {at} back")))?;
        let manifest = &base.chosen.sealed.manifest;
        for warning in vouch(&base.chosen.sealed, self.request)? {
            self.warn(warning, progress);
        }
        let major = manifest.fingerprint.server.major();
        let programs = Programs::find(&self.house.config.bin_dirs, major, &["postgres"]).map_err(Broke::from)?;
        let plan = self.plan()?;
        let (house, policy, run) = (self.house, &self.policy.name, new_run());
        let work = Work::Find { at: Some(at) };
        house.record(policy, run, Event::Planned { work, scheduled_for: None }).await?;
        house.record(policy, run, process::started()).await?;
        let name = run.scratch_name();
        // Written down before it is made: a kill between the two leaves an owed sweep, never an unknown scratch.
        house.record(policy, run, Event::ScratchMade { name: name.clone() }).await?;
        let looked = match Scratch::provision(run, &plan, &house.config.scratch, &programs, &[]).await {
            Err(broke) => Err(broke.into()),
            Ok(mut scratch) => {
                let looked = tokio::select! {
                    looked = self.inside(&mut scratch, index, base, &reach, database, progress) => looked,
                    signal = interrupt::asked_to_stop() => Err(interrupted(signal).into()),
                };
                progress.stage("destroy the scratch");
                match (scratch.destroy().await, looked) {
                    (Ok(()), looked) => {
                        house.record(policy, run, Event::ScratchDestroyed { name, swept: false }).await?;
                        looked
                    }
                    // A copy of production data that is left behind must be known of, whatever the answer was.
                    (Err(broke), Ok(_)) => Err(broke.into()),
                    (Err(broke), Err(trouble)) => {
                        progress.say(&format!("warning: {broke}"));
                        Err(trouble)
                    }
                }
            }
        };
        let outcome = looked.as_ref().map_or_else(Trouble::outcome, |_| RunOutcome::Succeeded);
        house.record(policy, run, Event::Finished { outcome }).await?;
        let look = looked?;
        let answer = match &look.why {
            None => "it holds".to_owned(),
            Some(why) => format!("it does not hold: {why}"),
        };
        let moment =
            if look.end_of_log { format!("{} (the end of the log)", look.moment) } else { look.moment.to_string() };
        progress.say(&format!("{number}: {moment}, from backup {}: {answer} ({})", look.backup, look.took));
        Ok(look)
    }

    async fn inside(
        &mut self,
        scratch: &mut Scratch,
        index: u64,
        base: &Base,
        reach: &Reach,
        database: &str,
        progress: &dyn Progress,
    ) -> Result<Look, Trouble> {
        let began = Instant::now();
        let (ground, request) = (self.ground, self.request);
        let manifest = &base.chosen.sealed.manifest;
        let data_dir = scratch.data_dir().ok_or_else(|| Broke::new("the scratch has no data folder"))?.to_owned();
        progress.stage(&format!("restore to {}", ground.moments.at(index)));
        progress.expect(manifest.plain_bytes().0);
        let what = physical::PutBack {
            store: Arc::clone(&base.chosen.store),
            manifest,
            opener: &request.opener,
            data_dir: data_dir.clone(),
            tablespaces: Vec::new(),
            durable: false,
            parallel: request.parallel,
            progress,
        };
        let facts = physical::put_back(&what).await?;
        if let Some(pages) = facts.pages.filter(|pages| pages.bad_count > 0) {
            let why = format!("{} pages of backup {} have a wrong checksum", pages.bad_count, manifest.backup);
            self.warn(why, progress);
        }
        progress.stage("log");
        let (archive, opener) = (&ground.archive, &request.opener);
        let bring = Bring { reach, archive, opener, into: &data_dir.join("pg_wal"), parallel: request.parallel };
        ground.log.bring(&bring, progress).await?;
        progress.stage("replay");
        let end_of_log = ground.moments.is_end_of_log(index);
        let at = ground.moments.at(index);
        let recovery = Recovery { timeline: reach.timeline, until: (!end_of_log).then_some(at) };
        let started = scratch.start(&manifest.fingerprint, Some(recovery)).await?;
        let isolation = scratch.isolation();
        if !(isolation.network && isolation.files) {
            let why = "the scratch was not cut off from network and files of the machine: what it held could have reached other systems";
            self.warn(why.to_owned(), progress);
        }
        replayed(manifest, reach, end_of_log, &started)?;
        progress.stage("ask");
        let answer = ask(&scratch.server()?, database, self.sql).await?;
        Ok(Look {
            // A commit that lies across two segments is in no record: the server knows of it.
            moment: started.last_replayed.filter(|last| end_of_log && *last > at).unwrap_or(at),
            end_of_log,
            backup: manifest.backup.clone(),
            timeline: reach.timeline,
            segments: reach.segments.len() as u64,
            log_position: started.replayed_to,
            last_replayed: started.last_replayed,
            next: started.stopped_before.map(|stopped| Transaction { xid: stopped.xid, at: stopped.at }),
            holds: answer == Answer::Holds,
            why: match answer {
                Answer::Holds => None,
                Answer::Not(why) => Some(why),
            },
            took: Span::from_std(began.elapsed()),
        })
    }

    /// An own server. Where a drill of the policy demands that scratches are cut off, so does this.
    fn plan(&self) -> Result<ScratchPlan, Broke> {
        let mut isolation = IsolationDemand::Preferred;
        for used in &self.policy.drills {
            if self.house.drill(&used.drill)?.scratch.isolation == IsolationDemand::Required {
                isolation = IsolationDemand::Required;
            }
        }
        Ok(ScratchPlan { kind: ScratchKind::Cluster, server: None, isolation })
    }

    fn warn(&mut self, warning: String, progress: &dyn Progress) {
        if !self.warnings.contains(&warning) {
            progress.say(&format!("warning: {warning}"));
            self.warnings.push(warning);
        }
    }
}

/// A server opens over a hole in the log without a word: what the records say is held against where it came to.
fn replayed(manifest: &Manifest, reach: &Reach, end_of_log: bool, started: &Started) -> Result<(), Stop> {
    let least = match &manifest.wal {
        _ if end_of_log => reach.until,
        Some(wal) => wal.end,
        None => return Err(Broke::new(format!("backup {} holds no log", manifest.backup)).into()),
    };
    if started.replayed_to < least {
        let message = "the restored server came up before it had replayed the log as far as it had to";
        let finding = Finding::new("wal_short", "write-ahead log", message);
        return Err(finding.with(least.to_string(), started.replayed_to.to_string()).into());
    }
    if started.timeline <= reach.timeline {
        let message = "the restored server did not branch off from the timeline that it was to follow";
        let finding = Finding::new("wal_timeline", "write-ahead log", message);
        return Err(finding.with(format!("above {}", reach.timeline), started.timeline.to_string()).into());
    }
    Ok(())
}
