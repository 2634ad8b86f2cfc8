//! How the demo tells what it does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::output;
use super::{red, spell};
use crate::domain::check::CheckName;
use crate::domain::transcript::{Transcript, Verdict};

/// A narrator with a clock.
pub struct Story {
    began: Instant,
}

impl Story {
    /// Once upon a time.
    pub fn begin() -> Story {
        Story { began: Instant::now() }
    }

    /// A new chapter.
    pub fn chapter(&self, title: &str) {
        let (bold, plain) = if output::color_on_stdout() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        output::print(&format!("\n[{:>5.1} s] {bold}{title}{plain}", self.began.elapsed().as_secs_f64()));
    }

    /// A sentence.
    pub fn say(&self, sentence: &str) {
        output::print(&format!("          {sentence}"));
    }

    /// Tells whether a planted fault was found, by the check that must find it.
    pub fn planted(&self, transcript: &Transcript, name: CheckName) -> bool {
        let verdict = transcript.judgement.verdict;
        match red(transcript, name).filter(|_| verdict == Verdict::Failed) {
            Some(finding) => {
                self.say(&format!("found: verdict {}, check {name} turned red", verdict.as_str()));
                self.say(&finding);
                true
            }
            None => {
                self.say(&format!("NOT FOUND: verdict {}, check {name} did not turn red", verdict.as_str()));
                transcript.judgement.reasons.iter().for_each(|reason| self.say(reason));
                false
            }
        }
    }

    /// The last page.
    pub fn sum_up(&self, proofs: &[(Transcript, PathBuf)], since_loss: Duration) {
        for (transcript, page) in proofs {
            let judgement = &transcript.judgement;
            let method = transcript.backup.as_ref().map_or("none", |backup| backup.method.as_str());
            let measured =
                |span: Option<crate::domain::units::Span>| span.map_or("not measured".to_owned(), |s| s.to_string());
            self.say(&format!(
                "{method}: {} · RPO achieved {} of {} · RTO achieved {} of {} (allowances included)",
                judgement.verdict.as_str(),
                measured(judgement.rpa),
                transcript.objectives.rpo,
                measured(judgement.rta),
                transcript.objectives.rto,
            ));
            for check in &transcript.checks {
                let looked: Vec<String> = check.looked_at.iter().map(ToString::to_string).collect();
                self.say(&format!("    {:<15} {:<9} {}", check.name, check.outcome.word(), looked.join(", ")));
            }
            self.say(&format!("    report: {}", page.display()));
        }
        self.say(&format!(
            "{} after the disaster, {} after the start of this demo",
            spell(since_loss),
            spell(self.began.elapsed())
        ));
    }
}
