//! Metrics, health, logs, traces, alarms and letters.

mod deployed;
mod letters;
mod logs;
mod outbox;
mod peers;
mod seen;
mod served;
mod traces;

pub use outbox::{deliver_what_waits, leave_alarms_and_letters};

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use lifeboat::catalog::{self, Opened};
use lifeboat::domain::config::CatalogPlace;
use lifeboat::domain::policy::Method;
use lifeboat::domain::run::{Event, RunOutcome, Work};
use lifeboat::domain::transcript::{Transcript, Verdict};
use lifeboat::domain::units::Span;

use crate::support::home::{Ran, ran};
use crate::support::sample;

/// A folder with a configuration, and a catalog in which things have happened: no server is needed to watch it.
pub struct Bench {
    pub folder: tempfile::TempDir,
}

/// The drill that the policy names.
pub const DRILL: &str = "restore-latest";

impl Bench {
    /// With this at the end of `lifeboat.toml`.
    pub fn new(config: &str) -> Bench {
        let bench = Bench { folder: tempfile::Builder::new().prefix("lb-watch-").tempdir().unwrap() };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = bench.folder.path().join("scratch");
        let scratch = format!("[scratch]\ndir = \"{}\"\n", dir.display());
        bench.write(
            "lifeboat.toml",
            &format!("[stores.primary]\nkind = \"file\"\npath = \"store\"\n{scratch}{config}\n"),
        );
        bench.write("policies/orders.toml", &policy("orders", "critical"));
        let drill = std::fs::read_to_string(root.join(format!("drills/{DRILL}.toml"))).unwrap();
        bench.write(&format!("drills/{DRILL}.toml"), &drill);
        bench
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
        command.args(args).current_dir(self.folder.path()).stdin(std::process::Stdio::null());
        command.env_remove("LIFEBOAT_CONFIG").env_remove("RUST_LOG").env("NO_COLOR", "1").env("USER", "tester");
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(&mut self.command(args))
    }

    pub fn opened(&self) -> Opened {
        catalog::open(&CatalogPlace::Sqlite(self.path("lifeboat.db"))).unwrap()
    }

    /// A backup was taken a while ago.
    pub async fn backed_up(&self, opened: &Opened, policy: &str, ago: Span) {
        let at = lifeboat::clock::now() - ago.0;
        let mut record = sample::artifact(Method::Physical, &at.to_string(), 1);
        record.policy = policy.parse().unwrap();
        record.job = "nightly".parse().unwrap();
        let run = lifeboat::domain::ids::RunId(uuid::Uuid::now_v7());
        let work = Work::Backup { job: record.job.clone() };
        let name = record.policy.clone();
        for event in [
            Event::Planned { work, scheduled_for: None },
            Event::Committed(record),
            Event::Finished { outcome: RunOutcome::Succeeded },
        ] {
            opened.catalog.append(at, &name, run, event).await.unwrap();
        }
    }

    /// A drill was judged just now.
    pub async fn drilled(&self, opened: &Opened, policy: &str, verdict: Verdict) -> Transcript {
        let now = lifeboat::clock::now();
        let mut transcript = sample::judged(sample::physical());
        transcript.run = lifeboat::domain::ids::RunId(uuid::Uuid::now_v7());
        transcript.policy = policy.parse().unwrap();
        (transcript.started_at, transcript.finished_at) = (now - SignedDuration::from_secs(60), now);
        transcript.judgement.verdict = verdict;
        transcript.judgement.valid_until = Some(now + SignedDuration::from_hours(24));
        let work = Work::Drill { drill: transcript.drill.name.clone() };
        for event in [
            Event::Planned { work, scheduled_for: None },
            Event::Drilled(Box::new(transcript.clone())),
            Event::Finished { outcome: RunOutcome::Judged(verdict) },
        ] {
            opened.catalog.append(now, &transcript.policy, transcript.run, event).await.unwrap();
        }
        transcript
    }
}

/// A policy with one job and one drill.
pub fn policy(name: &str, tier: &str) -> String {
    format!(
        "[policy]\nname = \"{name}\"\nowner = \"dba\"\ntier = \"{tier}\"\n\
         [source]\nurl = \"postgresql://nobody@/nothing?host=/nowhere\"\n\
         [objectives]\nrpo = \"1d\"\nrto = \"30m\"\nproof_max_age = \"7d\"\n\
         [[backup]]\nname = \"nightly\"\nmethod = \"physical\"\nschedule = \"0 3 * * *\"\nstore = \"primary\"\n\
         [encryption]\nrecipients = [\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"]\n\
         [[drill]]\nuse = \"{DRILL}\"\nschedule = \"0 5 * * 0\"\n"
    )
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
