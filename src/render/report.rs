//! A drill on a terminal.

use crate::domain::check::{CheckResult, Finding, Outcome};
use crate::domain::observed::Observed;
use crate::domain::transcript::{Ended, Transcript, Verdict};

use super::layout::{Cell, Paint, Tone, hanging, table};
use super::words::{self, plain};

pub use super::narrate::narrate;

/// Findings that are shown of one check; the JSON has all of them.
const FINDINGS_SHOWN: usize = 20;

/// The report; `width` in columns, `color` with ANSI escapes.
pub fn terminal(transcript: &Transcript, width: usize, color: bool) -> String {
    let (width, paint) = (width.clamp(60, 160), Paint(color));
    let mut out = String::new();
    heading(&mut out, transcript, width, paint);
    objectives(&mut out, transcript, width, paint);
    phases(&mut out, transcript, width, paint);
    checks(&mut out, transcript, width, paint);
    not_checked(&mut out, transcript, width, paint);
    steps(&mut out, transcript, width, paint);
    facts(&mut out, transcript, width, paint);
    out
}

fn section(out: &mut String, name: &str, paint: Paint) {
    out.push('\n');
    out.push_str(&paint.paint(Tone::Strong, name));
    out.push('\n');
}

/// The tone of a verdict.
pub(super) fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Proven => Tone::Good,
        Verdict::Failed => Tone::Bad,
        Verdict::Unproven => Tone::Doubt,
    }
}

fn heading(out: &mut String, transcript: &Transcript, width: usize, paint: Paint) {
    let verdict = transcript.judgement.verdict;
    let word = format!("{} {}", words::sign(verdict), verdict.as_str().to_uppercase());
    out.push_str(&paint.paint(tone(verdict), &word));
    let head = format!(
        "   {} · drill {} · {}\n",
        transcript.policy,
        transcript.drill.name,
        words::moment(transcript.finished_at)
    );
    out.push_str(&head);
    hanging(out, "", &words::explained(transcript), width);
    out.push('\n');
    for reason in &transcript.judgement.reasons {
        hanging(out, "  - ", &plain(reason), width);
    }
}

fn objectives(out: &mut String, transcript: &Transcript, width: usize, paint: Paint) {
    section(out, "Demanded and measured", paint);
    let mut rows: Vec<Vec<Cell>> = words::measured(transcript)
        .iter()
        .map(|objective| {
            let tone = match objective.word() {
                "met" => Tone::Good,
                "missed" => Tone::Bad,
                _ => Tone::Doubt,
            };
            vec![
                (objective.name.to_owned(), None),
                (format!("at most {}", objective.demanded), None),
                (objective.actual_text(), None),
                (objective.word().to_owned(), Some(tone)),
            ]
        })
        .collect();
    let until = transcript.judgement.valid_until.map_or("there is no proof".to_owned(), words::moment);
    rows.push(vec![
        ("Proof holds until".to_owned(), None),
        (format!("for {}", transcript.objectives.proof_max_age), None),
        (until, None),
        (String::new(), None),
    ]);
    table(out, &["", "demanded", "measured", ""], &rows, width, paint);
}

fn phases(out: &mut String, transcript: &Transcript, width: usize, paint: Paint) {
    section(out, "Recovery time, phase by phase", paint);
    let measured =
        transcript.judgement.phases.iter().map(|(phase, took)| (phase.as_str().to_owned(), *took, "measured"));
    let declared =
        transcript.objectives.allowances.iter().map(|(name, span)| (words::allowance(name), *span, "declared"));
    let rows: Vec<_> = measured.chain(declared).collect();
    let longest = rows.iter().map(|(_, span, _)| span.as_secs_f64()).fold(0.0, f64::max);
    let room = width.saturating_sub(60).clamp(10, 40) as f64;
    let rows: Vec<Vec<Cell>> = rows
        .into_iter()
        .map(|(name, span, how)| {
            let share = if longest > 0.0 { (span.as_secs_f64() / longest * room).ceil() } else { 0.0 };
            let stroke = if how == "measured" { "█" } else { "░" };
            vec![
                (name, None),
                (span.to_string(), None),
                (how.to_owned(), Some(Tone::Faint)),
                (stroke.repeat(share as usize), None),
            ]
        })
        .collect();
    table(out, &["", "took", "", ""], &rows, width, paint);
}

fn checks(out: &mut String, transcript: &Transcript, width: usize, paint: Paint) {
    section(out, "Checks", paint);
    if transcript.checks.is_empty() {
        out.push_str("  none\n");
        return;
    }
    let rows: Vec<Vec<Cell>> = transcript
        .checks
        .iter()
        .map(|check| {
            let tone = match &check.outcome {
                Outcome::Passed => Tone::Good,
                Outcome::Failed(_) => Tone::Bad,
                Outcome::Broke { .. } | Outcome::Unchecked(_) => Tone::Doubt,
            };
            vec![
                (format!("{} {}", words::outcome_sign(&check.outcome), check.outcome.word()), Some(tone)),
                (words::title(check), None),
                (if check.required { "required" } else { "optional" }.to_owned(), Some(Tone::Faint)),
                (check.took.to_string(), Some(Tone::Faint)),
                (words::looked_at(check), None),
            ]
        })
        .collect();
    table(out, &["outcome", "check", "", "took", "looked at"], &rows, width, paint);
    for check in &transcript.checks {
        if let Outcome::Failed(found) = &check.outcome {
            out.push('\n');
            hanging(out, "  ", &format!("Found by {}:", words::title(check)), width);
            findings(out, found, width);
        }
    }
}

fn findings(out: &mut String, findings: &[Finding], width: usize) {
    for finding in findings.iter().take(FINDINGS_SHOWN) {
        let text = format!("{}: {} [{}]", plain(&finding.object), plain(&finding.message), plain(&finding.code));
        hanging(out, "    ✗ ", &text, width);
        if let (Some(expected), Some(found)) = (&finding.expected, &finding.found) {
            hanging(out, "      expected  ", &plain(expected), width);
            hanging(out, "      found     ", &plain(found), width);
        }
    }
    if findings.len() > FINDINGS_SHOWN {
        out.push_str(&format!("    and {} more (all of them: --output json)\n", findings.len() - FINDINGS_SHOWN));
    }
}

fn not_checked(out: &mut String, transcript: &Transcript, width: usize, paint: Paint) {
    section(out, "Not checked", paint);
    let lines = unchecked(&transcript.checks);
    if lines.is_empty() {
        out.push_str("  nothing that the drill names\n");
    }
    for (what, why) in lines.iter().take(FINDINGS_SHOWN) {
        hanging(out, "  – ", &format!("{what}: {why}"), width);
    }
    if lines.len() > FINDINGS_SHOWN {
        out.push_str(&format!("  and {} more (all of them: --output json)\n", lines.len() - FINDINGS_SHOWN));
    }
}

/// What was not looked at, and why: whole checks first.
pub(super) fn unchecked(checks: &[CheckResult]) -> Vec<(String, String)> {
    let whole = checks.iter().filter_map(|check| match &check.outcome {
        Outcome::Unchecked(why) => Some((format!("all of {}", words::title(check)), plain(why))),
        Outcome::Broke { error, hint } => {
            let hint = hint.as_ref().map(|hint| format!(" (hint: {})", plain(hint))).unwrap_or_default();
            Some((format!("{} broke", words::title(check)), format!("{}{hint}", plain(error))))
        }
        Outcome::Passed | Outcome::Failed(_) => None,
    });
    let parts = checks.iter().flat_map(|check| {
        check.unchecked.iter().map(|part| (format!("{} ({})", plain(&part.object), check.name), plain(&part.why)))
    });
    whole.chain(parts).collect()
}

fn steps(out: &mut String, transcript: &Transcript, width: usize, paint: Paint) {
    section(out, "Steps", paint);
    let rows: Vec<Vec<Cell>> = transcript
        .steps
        .iter()
        .map(|record| {
            let tone = match &record.ended {
                Ended::Done => None,
                Ended::Found(_) => Some(Tone::Bad),
                Ended::Broke { .. } | Ended::Skipped => Some(Tone::Doubt),
            };
            vec![
                (format!("+{}", record.began), Some(Tone::Faint)),
                (record.took.to_string(), Some(Tone::Faint)),
                (super::narrate::ended(&record.ended).to_owned(), tone),
                (narrate(&record.step, record), None),
            ]
        })
        .collect();
    table(out, &["at", "took", "", ""], &rows, width, paint);
}

fn facts(out: &mut String, transcript: &Transcript, width: usize, paint: Paint) {
    section(out, "Backup", paint);
    match &transcript.backup {
        None => out.push_str("  none was chosen\n"),
        Some(backup) => {
            let signed = match &backup.signed_by {
                Observed::Known(key) if backup.signer_trusted => format!("by {} (trusted)", plain(key)),
                Observed::Known(key) => format!("by {} (NOT trusted)", plain(key)),
                Observed::Absent => "not signed".to_owned(),
                Observed::Unknown(why) => format!("not known to be right: {}", plain(why)),
            };
            for (name, text) in [
                ("id", format!("{} ({}, server {})", backup.id, backup.method.as_str(), plain(&backup.server_version))),
                ("chosen", plain(&backup.why)),
                (
                    "recovery point",
                    format!("{} ({})", words::moment(backup.recovery_point), words::basis(backup.basis)),
                ),
                ("log behind it", transcript.log.as_ref().map_or_else(|| "not replayed".to_owned(), words::log)),
                ("size", format!("{}, {} stored in {}", backup.plain_bytes, backup.sealed_bytes, words::store(backup))),
                ("signed", signed),
                ("manifest", format!("sha256 {}", plain(&backup.manifest_sha256))),
            ] {
                hanging(out, &format!("  {name:<16}"), &text, width);
            }
            if transcript.drill.from.is_some() {
                hanging(out, &format!("  {:<16}", "stores"), "this one alone: no other was opened", width);
            }
            if let Some(keys) = words::keys(&transcript.drill, backup) {
                hanging(out, &format!("  {:<16}", "opened with"), &keys, width);
            }
            if let Some(how) = words::loss(transcript) {
                hanging(out, &format!("  {:<16}", "data lost"), &how, width);
            }
        }
    }
    section(out, "Where it ran", paint);
    match &transcript.scratch {
        None => out.push_str("  no scratch was made\n"),
        Some(scratch) => {
            let isolation = &scratch.isolation;
            let yes = |had: bool| if had { "own" } else { "NOT its own" };
            for (name, text) in [
                ("scratch", plain(&scratch.name)),
                (
                    "isolation",
                    format!(
                        "network: {}, processes: {}, files of the machine: {}, user {}, by {}",
                        yes(isolation.network),
                        yes(isolation.processes),
                        if isolation.files { "hidden" } else { "NOT hidden" },
                        plain(&isolation.user),
                        plain(&isolation.means)
                    ),
                ),
                ("destroyed", scratch.destroyed_at.map_or("NOT destroyed".to_owned(), words::moment)),
            ] {
                hanging(out, &format!("  {name:<16}"), &text, width);
            }
        }
    }
    for finding in &transcript.environment {
        hanging(out, "  ! ", &format!("{}: {}", plain(&finding.object), plain(&finding.message)), width);
    }
    let tools: Vec<String> =
        transcript.tools.iter().map(|(name, version)| format!("{} {}", plain(name), plain(version))).collect();
    hanging(out, "  versions        ", &tools.join(", "), width);
    out.push_str(&format!("  run             {}\n", transcript.run));
}

#[cfg(test)]
mod tests {
    use super::terminal;
    use crate::domain::sample;

    #[test]
    fn a_proven_drill() {
        insta::assert_snapshot!(terminal(&sample::judged(sample::physical()), 100, false));
    }

    #[test]
    fn a_failed_drill() {
        insta::assert_snapshot!(terminal(&sample::judged(sample::logical_with_findings()), 100, false));
    }

    #[test]
    fn an_unproven_drill() {
        insta::assert_snapshot!(terminal(&sample::judged(sample::broken_start()), 80, false));
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_colour_only_adds_escapes() {
        for sample in [sample::physical(), sample::logical_with_findings(), sample::broken_start()] {
            let transcript = sample::judged(sample);
            for width in [80, 100, 120] {
                let plain = terminal(&transcript, width, false);
                let long: Vec<&str> = plain.lines().filter(|line| line.chars().count() > width).collect();
                assert!(long.is_empty(), "{width}: {long:#?}");
                assert!(!plain.contains('\u{1b}'));
                let mut painted = terminal(&transcript, width, true);
                assert!(painted.contains('\u{1b}'));
                for code in ["1;32", "1;31", "1;33", "1", "2", "0"] {
                    painted = painted.replace(&format!("\u{1b}[{code}m"), "");
                }
                assert_eq!(painted, plain);
            }
        }
    }

    #[test]
    fn a_table_name_cannot_steer_the_terminal() {
        let mut transcript = sample::judged(sample::logical_with_findings());
        if let crate::domain::check::Outcome::Failed(findings) = &mut transcript.checks[1].outcome {
            findings[0].object = "table \u{1b}[2J\u{7}x".to_owned();
        }
        let text = terminal(&transcript, 100, false);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'));
    }
}
