//! One step of a drill, told as it went. With `engine::drill` (perform) and `render::runbook` (instruct), the third of the
//! three folds over [`Step`]: no arm is a wildcard.

use crate::domain::drill::{Step, Target};
use crate::domain::transcript::{Ended, Phase, StepRecord};

use super::words::plain;

/// What a step was, in a few words.
pub fn name(step: &Step, phase: Option<Phase>) -> String {
    match step {
        Step::Provision => "Make the scratch".to_owned(),
        Step::Restore(restore) => match (phase, &restore.until) {
            (Some(Phase::Start), Target::Backup | Target::Latest | Target::Moment) => {
                "Start and replay the log".to_owned()
            }
            (_, Target::Backup) => "Restore as far as the backup goes".to_owned(),
            (_, Target::Latest) => "Restore as far as it goes".to_owned(),
            (_, Target::Moment) => "Restore to the moment".to_owned(),
        },
        Step::AwaitReady(_) => "Wait for the first useful query".to_owned(),
        Step::Check(check) => format!("Check {}", check.name),
        Step::Sabotage(_) => "Break the scratch on purpose".to_owned(),
        Step::Destroy => "Destroy the scratch".to_owned(),
    }
}

/// What happened in a step, in sentences.
pub fn narrate(step: &Step, record: &StepRecord) -> String {
    let mut sentences = Vec::new();
    match &record.ended {
        Ended::Done => sentences.push(match step {
            Step::Provision => "An empty, private place was made.".to_owned(),
            Step::Restore(_) if record.phase == Some(Phase::Start) => "The restored server was started.".to_owned(),
            Step::Restore(_) => "The backup was fetched, verified, decrypted and put back.".to_owned(),
            Step::AwaitReady(ready) => {
                format!("“{}” was answered within {}.", plain(&ready.query), ready.within)
            }
            Step::Check(check) => format!("The check {} was made.", check.name),
            Step::Sabotage(sabotage) => format!("“{}” was run to see whether the checks notice.", plain(&sabotage.sql)),
            Step::Destroy => "The scratch and the copy of the data in it are gone.".to_owned(),
        }),
        Ended::Found(findings) => {
            let what = match step {
                Step::Provision => "The place could not be made for this backup",
                Step::Restore(_) if record.phase == Some(Phase::Start) => "The restored server did not come up",
                Step::Restore(_) => "The backup could not be put back",
                Step::AwaitReady(_) => "The query was not answered as it should be",
                Step::Check(_) => "The check found the backup bad",
                Step::Sabotage(_) => "The scratch could not be broken",
                Step::Destroy => "The scratch was not as it should be when it was destroyed",
            };
            let found: Vec<String> =
                findings.iter().take(3).map(|f| format!("{}: {}", plain(&f.object), plain(&f.message))).collect();
            sentences.push(format!("{what}: {}.", found.join("; ")));
            if findings.len() > 3 {
                sentences.push(format!("There are {} findings in all.", findings.len()));
            }
        }
        Ended::Broke { error, hint } => {
            let what = match step {
                Step::Provision => "The place could not be made",
                Step::Restore(_) if record.phase == Some(Phase::Start) => "The server could not be started here",
                Step::Restore(_) => "The restore could not be done",
                Step::AwaitReady(_) => "The server did not become ready",
                Step::Check(_) => "The check could not be made",
                Step::Sabotage(_) => "The scratch could not be broken",
                Step::Destroy => "The scratch could not be destroyed",
            };
            sentences.push(format!("{what}: {}.", plain(error)));
            sentences.extend(hint.as_ref().map(|hint| format!("Hint: {}.", plain(hint))));
        }
        Ended::Skipped => sentences.push("Skipped, because an earlier step ended badly.".to_owned()),
    }
    sentences.extend(record.facts.iter().map(|fact| sentence(&plain(fact))));
    sentences.join(" ")
}

/// How a step ended, in one word.
pub fn ended(ended: &Ended) -> &'static str {
    match ended {
        Ended::Done => "done",
        Ended::Found(_) => "found bad",
        Ended::Broke { .. } => "broke",
        Ended::Skipped => "skipped",
    }
}

/// A capital at the start and a full stop at the end.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let head = chars.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    let stop = if text.ends_with(['.', '!', '?']) || text.is_empty() { "" } else { "." };
    format!("{head}{}{stop}", chars.as_str())
}
