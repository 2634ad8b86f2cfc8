//! Pages: nothing from elsewhere, nothing unescaped, nothing left out.

use super::page;
use crate::domain::sample;

#[test]
fn a_table_called_script_comes_out_harmless() {
    let mut transcript = sample::judged(sample::logical_with_findings());
    let evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>";
    transcript.owner = evil.to_owned();
    transcript.drill.description = evil.to_owned();
    transcript.tools.insert(evil.to_owned(), evil.to_owned());
    transcript.steps[0].facts.push(evil.to_owned());
    transcript.checks[0].title = evil.to_owned();
    transcript.objectives.allowances.push((evil.to_owned(), crate::domain::units::Span::from_secs(1)));
    transcript.judgement.reasons.push(evil.to_owned());
    let html = page(&transcript);
    assert!(!html.contains("<script") && !html.contains("<img"));
    assert!(html.contains("&#60;script&#62;alert(1)"), "it is shown, as text");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    for sample in [sample::physical(), sample::logical_with_findings(), sample::broken_start()] {
        let html = page(&sample::judged(sample));
        for outside in ["http:", "https:", " src=", "@import", "url(", "<link", "<script"] {
            let allowed = html.replace("url(#hatch)", "").replace("http://www.w3.org/2000/svg", "");
            assert!(!allowed.contains(outside), "{outside}");
        }
        assert!(html.contains("default-src 'none'"));
    }
}

#[test]
fn verdict_objectives_findings_and_gaps_are_all_there() {
    let html = page(&sample::judged(sample::logical_with_findings()));
    for text in [
        "failed",
        "table public.line_items",
        "table_missing",
        "20000 rows, digest 9c02",
        "not cut off",
        "RTO",
        "out of memory",
    ] {
        assert!(html.contains(text), "{text}");
    }
    let html = page(&sample::judged(sample::physical()));
    for text in ["proven", "157,286 pages", "12m 23s", "amcheck cannot read gin indexes", "holds until 2026-11-27"] {
        assert!(html.contains(text), "{text}");
    }
    let html = page(&sample::judged(sample::broken_start()));
    for text in ["unproven", "pg_cron", "not measured", "the drill did not get that far"] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn a_drill_that_got_nowhere_has_a_page_too() {
    let mut transcript = sample::physical();
    transcript.backup = None;
    transcript.scratch = None;
    transcript.steps.clear();
    transcript.checks.clear();
    transcript.objectives.allowances.clear();
    let html = page(&sample::judged(transcript));
    assert!(html.contains("no backup was brought back") && !html.contains("NaN"));
}
