//! Words that all pictures share.

use jiff::Timestamp;

use crate::domain::artifact::Basis;
use crate::domain::check::{CheckName, CheckResult, Outcome};
use crate::domain::drill::{Drill, KeyChoice};
use crate::domain::transcript::{BackupUsed, Judgement, LogReplayed, Transcript, Verdict};
use crate::domain::units::Span;
use crate::judge::drill::{how_known, newest_beat};
use crate::judge::exposure::Window;

/// Text that came from elsewhere (names of tables, messages of servers) without what would steer a terminal or reverse a
/// line: control and direction characters are shown as escapes.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let steering =
            c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steering {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// All that a check looked at.
pub fn looked_at(check: &CheckResult) -> String {
    if check.looked_at.is_empty() {
        "nothing".to_owned()
    } else {
        check.looked_at.iter().map(|measure| plain(&measure.to_string())).collect::<Vec<_>>().join(", ")
    }
}

/// What a check is called in a table: its name, or for an assertion the question.
pub fn title(check: &CheckResult) -> String {
    if check.title.is_empty() || check.title == check.name.as_str() {
        check.name.to_string()
    } else {
        format!("{}: {}", check.name, plain(&check.title))
    }
}

/// `2026-11-20 05:00:26 UTC`.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `3 days ago`, for people who read in a hurry: one unit, rounded down.
pub fn ago(age: Span) -> String {
    let seconds = age.0.as_secs();
    if seconds < 0 {
        return format!("{} from now", Span(age.0.abs()));
    }
    let (n, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" })
}

/// A sign beside each verdict, so that colour is never the only one.
pub fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Proven => "✓",
        Verdict::Failed => "✗",
        Verdict::Unproven => "?",
    }
}

/// A sign beside each outcome.
pub fn outcome_sign(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "✓",
        Outcome::Failed(_) => "✗",
        Outcome::Broke { .. } => "!",
        Outcome::Unchecked(_) => "–",
    }
}

/// What a verdict means, for somebody who has never seen lifeboat.
pub fn explained(transcript: &Transcript) -> String {
    let policy = &transcript.policy;
    match transcript.judgement.verdict {
        Verdict::Proven => format!(
            "The backup of “{policy}” was brought back in a sandbox. Everything that the drill requires was checked and was \
             right, and it was quick and recent enough for what was promised."
        ),
        Verdict::Failed => format!(
            "Something is wrong with this backup of “{policy}”, or it does not keep what was promised. Do not rely on it \
             before what follows is dealt with."
        ),
        Verdict::Unproven => format!(
            "This drill could not show that the backup of “{policy}” works. The backup is not known to be bad, but nobody \
             has seen it work either."
        ),
    }
}

/// How it is known what would have been lost, where more than the backup itself tells of it.
pub fn loss(transcript: &Transcript) -> Option<String> {
    let told = transcript.log.is_some() || newest_beat(transcript).is_some();
    told.then(|| plain(&how_known(transcript)))
}

/// Exposure over a window, in one sentence.
pub fn exposure(window: &Window) -> String {
    let (whole, part) = (window.within / 100, window.within % 100);
    let worst = match window.worst {
        Some(worst) => format!("at worst {worst} of data would have been lost ({})", moment(window.worst_at)),
        None => "for some of it nothing could have been brought back".to_owned(),
    };
    format!("since {}: within the RPO for {whole}.{part:02} % of the time, {worst}", moment(window.from))
}

/// What the log behind a backup added.
pub fn log(log: &LogReplayed) -> String {
    let count = if log.segments == 1 { "1 segment".to_owned() } else { format!("{} segments", log.segments) };
    let last =
        log.last_commit.map_or_else(|| "no transaction".to_owned(), |at| format!("last transaction {}", moment(at)));
    format!("{count} replayed to {} on timeline {}, {last}", log.until, log.timeline)
}

/// How a recovery point is known.
pub fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::SnapshotStart => "the start of the dump's snapshot",
        Basis::EndOfBackup => "the end of the base backup, by the source's own log position",
    }
}

/// What each check proves, in one sentence.
pub fn purpose(check: CheckName) -> &'static str {
    match check {
        CheckName::Manifest => "Every stored part is there and unchanged, and a trusted key signed it.",
        CheckName::PageChecksums => "Every page of every table and index carries the right checksum.",
        CheckName::Amcheck => "Tables and B-tree indexes are sound inside, as PostgreSQL's own checker sees them.",
        CheckName::Completeness => "Every table, index, function, role and grant of the source is there.",
        CheckName::Content => "The rows are those that the source had, table by table.",
        CheckName::Sequences => "Counters go on where the source's stood.",
        CheckName::Extensions => "The same extensions in the same versions.",
        CheckName::Collations => "Text sorts as it did at the source; if not, indexes are suspect.",
        CheckName::Encodings => "The same encodings and locales.",
        CheckName::Settings => "The same settings of server, databases and roles.",
        CheckName::Heartbeat => {
            "The rows that lifeboat commits every few seconds are there without a gap, up to the moment and no further."
        }
        CheckName::Assert => "The answer that the owner of the data expects.",
        CheckName::Readiness => "The application's own query is answered quickly enough.",
        CheckName::ControlPlane => {
            "lifeboat's own configuration is valid, its catalog is whole, and it knows every backup that is in the stores."
        }
    }
}

/// One objective beside what was measured.
pub struct Measured {
    /// For people.
    pub name: &'static str,
    /// What the name means.
    pub meaning: &'static str,
    /// What was demanded.
    pub demanded: Span,
    /// What was measured; none: it was not.
    pub actual: Option<Span>,
    /// Whether the required checks passed: before that, even a recovery point is only what the backup claims.
    pub shown: bool,
}

impl Measured {
    /// `met`, `missed`, `not measured`, or `not shown` for a good number about data that were not seen to be right.
    pub fn word(&self) -> &'static str {
        match self.actual {
            Some(actual) if actual > self.demanded => "missed",
            Some(_) if self.shown => "met",
            Some(_) => "not shown",
            None => "not measured",
        }
    }

    /// What was measured, in words.
    pub fn actual_text(&self) -> String {
        self.actual.map_or_else(|| "not measured".to_owned(), |actual| actual.to_string())
    }
}

/// The objectives that a drill measures.
pub fn measured(transcript: &Transcript) -> [Measured; 2] {
    let Judgement { rpa, rta, .. } = &transcript.judgement;
    let shown = rta.is_some();
    [
        Measured {
            name: "Data lost (RPO)",
            meaning: "how far back the newest restorable moment lay when the loss happened",
            demanded: transcript.objectives.rpo,
            actual: *rpa,
            shown,
        },
        Measured {
            name: "Time to recover (RTO)",
            meaning: "from the loss to a checked, answering database",
            demanded: transcript.objectives.rto,
            actual: *rta,
            shown,
        },
    ]
}

/// The sum of the measured phases.
pub fn measured_time(transcript: &Transcript) -> Span {
    transcript.judgement.phases.iter().map(|(_, took)| *took).sum()
}

/// `cut_over` as people write it.
pub fn allowance(name: &str) -> String {
    plain(name).replace(['_', '-'], " ")
}

/// Where a backup lay: the store's name, if it was told, and how people name the place.
pub fn store(backup: &BackupUsed) -> String {
    match &backup.place {
        Some(place) => format!("{place} ({})", plain(&backup.store)),
        None => plain(&backup.store),
    }
}

/// With which keys it was opened; none: not told. What a drill demanded is said, for it proves that this suffices.
pub fn keys(drill: &Drill, backup: &BackupUsed) -> Option<String> {
    let opened: Vec<String> = backup.opened_by.iter().map(|key| plain(key)).collect();
    let with = if opened.is_empty() { "none that it was sealed for".to_owned() } else { opened.join(", ") };
    match &drill.keys {
        KeyChoice::Working if opened.is_empty() => None,
        KeyChoice::Working => Some(with),
        KeyChoice::Escrow => Some(format!("the escrow key alone: {with}")),
        KeyChoice::Given(_) => Some(format!("a key that was named by hand, alone: {with}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_well() {
        for (seconds, text) in [
            (5, "just now"),
            (60, "1 minute ago"),
            (7_300, "2 hours ago"),
            (3 * 86_400 + 5, "3 days ago"),
            (-90, "1m 30s from now"),
        ] {
            assert_eq!(ago(Span::from_secs(seconds)), text);
        }
    }

    #[test]
    fn nothing_in_a_name_steers_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d é 表"), "a\\u{1b}[2Jb\\nc\\u{202e}d é 表");
    }
}
