//! A drill as one self-contained HTML page that prints well: no script, no font, no picture from elsewhere. The page says
//! so itself in its content security policy, and every text in it is escaped by the template.

use askama::Template;

use crate::domain::check::{CheckResult, Finding, Outcome};
use crate::domain::drill::ScratchKind;
use crate::domain::observed::Observed;
use crate::domain::transcript::{Ended, Phase, Transcript, Verdict};
use crate::domain::units::Span;

use super::narrate;
use super::report::unchecked;
use super::words::{self, plain};

/// Findings, and objects that were not checked, that a page shows at most of one kind; the JSON has all of them.
const SHOWN: usize = 50;

/// The page.
pub fn page(transcript: &Transcript) -> String {
    // Rendering writes into memory; the only error is one of formatting, which nothing here returns.
    Page::of(transcript)
        .render()
        .unwrap_or_else(|error| format!("<!doctype html><p>the report cannot be shown: {error}</p>"))
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page {
    policy: String,
    drill: String,
    description: String,
    owner: String,
    run: String,
    started: String,
    finished: String,
    lost: String,
    word: &'static str,
    class: &'static str,
    sign: &'static str,
    explained: String,
    reasons: Vec<String>,
    objectives: Vec<Objective>,
    bar: Bar,
    zoom: Option<Bar>,
    rta: String,
    measured: String,
    rta_known: bool,
    declared: bool,
    checks: Vec<Check>,
    passed: usize,
    unchecked: Vec<(String, String)>,
    unchecked_more: usize,
    backup: Vec<(&'static str, String)>,
    scratch: Vec<(&'static str, String)>,
    environment: Vec<(String, String, String)>,
    steps: Vec<Step>,
    tools: Vec<(String, String)>,
    schema: String,
}

/// One objective beside what was measured, and the bar of it. Lengths are in hundredths of the bar.
struct Objective {
    name: &'static str,
    meaning: &'static str,
    demanded: String,
    actual: String,
    word: &'static str,
    class: &'static str,
    sign: &'static str,
    fill: Option<f64>,
    limit: f64,
}

/// A stacked bar; lengths in thousandths of it.
struct Bar {
    segments: Vec<Segment>,
    alt: String,
}

struct Segment {
    key: String,
    name: String,
    took: String,
    share: String,
    from: f64,
    width: f64,
    label: bool,
    class: &'static str,
    declared: bool,
}

struct Check {
    title: String,
    purpose: &'static str,
    demand: &'static str,
    word: &'static str,
    class: &'static str,
    sign: &'static str,
    looked_at: String,
    took: String,
    note: Option<String>,
    findings: Vec<Found>,
    more: usize,
}

struct Found {
    code: String,
    object: String,
    message: String,
    expected: Option<String>,
    found: Option<String>,
}

struct Step {
    name: String,
    phase: &'static str,
    began: String,
    took: String,
    ended: &'static str,
    class: &'static str,
    told: String,
}

impl Page {
    fn of(transcript: &Transcript) -> Page {
        let judgement = &transcript.judgement;
        let mut unchecked = unchecked(&transcript.checks);
        let unchecked_more = unchecked.len().saturating_sub(SHOWN);
        unchecked.truncate(SHOWN);
        let (bar, zoom) = bars(transcript);
        Page {
            policy: transcript.policy.to_string(),
            drill: transcript.drill.name.to_string(),
            description: plain(&transcript.drill.description),
            owner: plain(&transcript.owner),
            run: transcript.run.to_string(),
            started: words::moment(transcript.started_at),
            finished: words::moment(transcript.finished_at),
            lost: words::moment(transcript.lost_at),
            word: judgement.verdict.as_str(),
            class: class(judgement.verdict),
            sign: words::sign(judgement.verdict),
            explained: words::explained(transcript),
            reasons: judgement.reasons.iter().map(|reason| plain(reason)).collect(),
            objectives: objectives(transcript),
            bar,
            zoom,
            rta: judgement.rta.map_or("not measured: the clock had not stopped".to_owned(), |rta| rta.to_string()),
            rta_known: judgement.rta.is_some(),
            declared: !transcript.objectives.allowances.is_empty(),
            measured: words::measured_time(transcript).to_string(),
            passed: transcript.checks.iter().filter(|check| check.outcome == Outcome::Passed).count(),
            checks: transcript.checks.iter().map(check).collect(),
            unchecked,
            unchecked_more,
            backup: backup(transcript),
            scratch: scratch(transcript),
            environment: transcript
                .environment
                .iter()
                .map(|finding| (plain(&finding.object), plain(&finding.message), plain(&finding.code)))
                .collect(),
            steps: transcript.steps.iter().map(step).collect(),
            tools: transcript.tools.iter().map(|(name, version)| (plain(name), plain(version))).collect(),
            schema: plain(&transcript.schema),
        }
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Proven => "good",
        Verdict::Failed => "bad",
        Verdict::Unproven => "doubt",
    }
}

fn objectives(transcript: &Transcript) -> Vec<Objective> {
    let judgement = &transcript.judgement;
    let mut rows: Vec<Objective> = words::measured(transcript)
        .into_iter()
        .map(|objective| {
            // The bar ends a quarter beyond the larger of the two, so that both the limit and the excess are seen.
            let demanded = objective.demanded.as_secs_f64();
            let actual = objective.actual.map_or(0.0, Span::as_secs_f64);
            let end = demanded.max(actual).max(0.001) * 1.25;
            Objective {
                name: objective.name,
                meaning: objective.meaning,
                demanded: format!("at most {}", objective.demanded),
                actual: objective.actual_text(),
                word: objective.word(),
                class: match objective.word() {
                    "met" => "good",
                    "missed" => "bad",
                    _ => "doubt",
                },
                sign: match objective.word() {
                    "met" => "✓",
                    "missed" => "✗",
                    _ => "?",
                },
                fill: objective.actual.map(|_| (actual / end * 100.0).max(0.6)),
                limit: demanded / end * 100.0,
            }
        })
        .collect();
    rows.push(Objective {
        name: "Age of the proof",
        meaning: "how long this result may be relied on before the drill must be repeated",
        demanded: format!("at most {}", transcript.objectives.proof_max_age),
        actual: judgement
            .valid_until
            .map_or("there is no proof".to_owned(), |until| format!("holds until {}", words::moment(until))),
        word: if judgement.valid_until.is_some() { "fresh" } else { "no proof" },
        class: if judgement.valid_until.is_some() { "good" } else { class(judgement.verdict) },
        sign: if judgement.valid_until.is_some() { "✓" } else { words::sign(judgement.verdict) },
        fill: None,
        limit: 0.0,
    });
    rows
}

/// All of the recovery, and the measured part on its own where the declared part would hide it.
fn bars(transcript: &Transcript) -> (Bar, Option<Bar>) {
    let measured: Vec<(String, Span, &'static str)> = transcript
        .judgement
        .phases
        .iter()
        .map(|(phase, took)| (phase.as_str().to_owned(), *took, phase_class(*phase)))
        .collect();
    let declared: Vec<(String, Span, &'static str)> = transcript
        .objectives
        .allowances
        .iter()
        .map(|(name, span)| (words::allowance(name), *span, "declared"))
        .collect();
    let seconds = |rows: &[(String, Span, &str)]| rows.iter().map(|(_, span, _)| span.as_secs_f64()).sum::<f64>();
    let hidden = !measured.is_empty() && seconds(&measured) < seconds(&declared) / 2.0;
    let zoom = hidden.then(|| bar(&measured, "the measured part"));
    let all: Vec<_> = measured.into_iter().chain(declared).collect();
    (bar(&all, "the whole recovery"), zoom)
}

fn phase_class(phase: Phase) -> &'static str {
    match phase {
        Phase::Provision => "p1",
        Phase::Restore => "p2",
        Phase::Start => "p3",
        Phase::Ready => "p4",
        Phase::Checks => "p5",
    }
}

fn bar(rows: &[(String, Span, &'static str)], what: &str) -> Bar {
    let total: f64 = rows.iter().map(|(_, span, _)| span.as_secs_f64()).sum::<f64>().max(0.001);
    // A sliver that cannot be seen still gets three thousandths.
    let widths: Vec<f64> = rows.iter().map(|(_, span, _)| (span.as_secs_f64() / total * 1000.0).max(3.0)).collect();
    let scale = 1000.0 / widths.iter().sum::<f64>().max(1.0);
    let mut from = 0.0;
    let mut letters = 'a'..='z';
    let mut digits = 1..;
    let segments: Vec<Segment> = rows
        .iter()
        .zip(widths)
        .map(|((name, span, class), width)| {
            let declared = *class == "declared";
            let key = if declared { letters.next().map(String::from) } else { digits.next().map(|n| n.to_string()) };
            let segment = Segment {
                key: key.unwrap_or_default(),
                name: name.clone(),
                took: span.to_string(),
                share: match span.as_secs_f64() / total * 100.0 {
                    share if share < 0.5 => "under 1 %".to_owned(),
                    share => format!("{share:.0} %"),
                },
                from,
                width: width * scale,
                label: width * scale > 22.0,
                class,
                declared,
            };
            from += width * scale;
            segment
        })
        .collect();
    let parts: Vec<String> = segments.iter().map(|segment| format!("{} {}", segment.name, segment.took)).collect();
    Bar { alt: format!("{what}: {}", parts.join(", ")), segments }
}

fn check(check: &CheckResult) -> Check {
    let (class, note, found): (_, _, &[Finding]) = match &check.outcome {
        Outcome::Passed => ("good", None, &[]),
        Outcome::Failed(findings) => ("bad", None, findings),
        Outcome::Broke { error, hint } => {
            let hint = hint.as_ref().map(|hint| format!(" What to do: {}", plain(hint))).unwrap_or_default();
            ("doubt", Some(format!("The check itself broke: {}.{hint}", plain(error).trim_end_matches('.'))), &[])
        }
        Outcome::Unchecked(why) => ("doubt", Some(format!("Not checked: {}", plain(why))), &[]),
    };
    Check {
        title: words::title(check),
        purpose: words::purpose(check.name),
        demand: if check.required { "required" } else { "optional" },
        word: check.outcome.word(),
        class,
        sign: words::outcome_sign(&check.outcome),
        looked_at: words::looked_at(check),
        took: check.took.to_string(),
        note,
        findings: found
            .iter()
            .take(SHOWN)
            .map(|finding| Found {
                code: plain(&finding.code),
                object: plain(&finding.object),
                message: plain(&finding.message),
                expected: finding.expected.as_deref().map(plain),
                found: finding.found.as_deref().map(plain),
            })
            .collect(),
        more: found.len().saturating_sub(SHOWN),
    }
}

fn backup(transcript: &Transcript) -> Vec<(&'static str, String)> {
    let Some(backup) = &transcript.backup else { return Vec::new() };
    let signature = match &backup.signed_by {
        Observed::Known(_) if backup.signer_trusted => "right, by a key that is trusted",
        Observed::Known(_) => "right, but by a key that is NOT trusted",
        Observed::Absent => "none",
        Observed::Unknown(_) => "not known to be right",
    };
    let signer = match &backup.signed_by {
        Observed::Known(key) => plain(key),
        Observed::Absent => "nobody".to_owned(),
        Observed::Unknown(why) => plain(why),
    };
    let mut rows = vec![
        ("Backup", backup.id.to_string()),
        ("Chosen because", plain(&backup.why)),
        ("Method", backup.method.as_str().to_owned()),
        ("Taken", format!("{} to {}", words::moment(backup.started_at), words::moment(backup.finished_at))),
        ("Recovery point", words::moment(backup.recovery_point)),
        ("Known from", words::basis(backup.basis).to_owned()),
        ("Size", format!("{} of data, {} stored", backup.plain_bytes, backup.sealed_bytes)),
        ("Store", words::store(backup)),
        ("Server of the source", format!("PostgreSQL {}", plain(&backup.server_version))),
        ("Signature", signature.to_owned()),
        ("Signed by", signer),
        ("Manifest (SHA-256)", plain(&backup.manifest_sha256)),
    ];
    if transcript.drill.from.is_some() {
        rows.push(("Other stores", "none was opened".to_owned()));
    }
    rows.extend(words::keys(&transcript.drill, backup).map(|keys| ("Opened with", keys)));
    rows.extend(transcript.log.as_ref().map(|log| ("Log behind it", words::log(log))));
    rows.extend(words::loss(transcript).map(|how| ("Data lost", how)));
    rows
}

fn scratch(transcript: &Transcript) -> Vec<(&'static str, String)> {
    let Some(scratch) = &transcript.scratch else { return Vec::new() };
    let isolation = &scratch.isolation;
    let kind = match scratch.kind {
        ScratchKind::Cluster => "a server of its own, made for this drill",
        ScratchKind::Database => "a fresh database on a scratch server",
        ScratchKind::Folder => "an empty folder, made for this drill",
    };
    let had = |had: bool, good: &str, bad: &str| if had { good.to_owned() } else { bad.to_owned() };
    let skew = match &transcript.clock_skew {
        Observed::Known(skew) => format!("{skew} apart"),
        Observed::Absent => "not compared".to_owned(),
        Observed::Unknown(why) => format!("not known: {}", plain(why)),
    };
    vec![
        ("Scratch", plain(&scratch.name)),
        ("Kind", kind.to_owned()),
        (
            "Server",
            scratch
                .server_version
                .as_ref()
                .map_or("it did not start".to_owned(), |v| format!("PostgreSQL {}", plain(v))),
        ),
        ("Network", had(isolation.network, "cut off: a network namespace with nothing in it", "NOT cut off")),
        ("Processes", had(isolation.processes, "a process namespace of its own", "not separate")),
        ("Files", had(isolation.files, "the machine's sockets and files are out of its sight", "NOT hidden from it")),
        ("Ran as", plain(&isolation.user)),
        ("Isolated by", plain(&isolation.means)),
        ("Destroyed", scratch.destroyed_at.map_or("NOT destroyed".to_owned(), words::moment)),
        ("Clocks of runner and source", skew),
    ]
}

fn step(record: &crate::domain::transcript::StepRecord) -> Step {
    Step {
        name: narrate::name(&record.step, record.phase),
        phase: record.phase.map_or("not counted", |phase| phase.as_str()),
        began: format!("+{}", record.began),
        took: record.took.to_string(),
        ended: narrate::ended(&record.ended),
        class: match &record.ended {
            Ended::Done => "good",
            Ended::Found(_) => "bad",
            Ended::Broke { .. } | Ended::Skipped => "doubt",
        },
        told: narrate::narrate(&record.step, record),
    }
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
