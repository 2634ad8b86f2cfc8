//! Runbooks from fixed facts.

use super::{Artifact, Facts, code, database, markdown};
use crate::domain::check::CheckName;
use crate::domain::drill::{Drill, Sabotage, Step};
use crate::domain::policy::Method;
use crate::domain::sample::{self, at};
use crate::render::instruct::{block, quote};

fn physical() -> Drill {
    sample::physical().drill
}

fn logical() -> Drill {
    sample::drill("restore-logical", Method::Logical, &CheckName::ALL)
}

#[test]
fn a_runbook_with_both_methods() {
    let (policy, config) = (sample::policy(), sample::config());
    let (base, dump) = (
        sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12),
        sample::artifact(Method::Logical, "2026-11-20T02:00:00Z", 11),
    );
    let (physical, logical) = (physical(), logical());
    let manifest = sample::manifest();
    let transcripts = [sample::judged(sample::physical())];
    let facts = Facts {
        policy: &policy,
        drills: vec![&physical, &logical],
        artifacts: vec![
            Artifact { record: &base, manifest: Some(&manifest) },
            Artifact { record: &dump, manifest: None },
        ],
        transcripts: &transcripts,
        config: &config,
        now: at("2026-11-21T08:00:00Z"),
    };
    insta::assert_snapshot!(markdown(&facts));
}

#[test]
fn a_runbook_before_the_first_backup() {
    let (policy, config) = (sample::policy(), sample::config());
    let mut drill = physical();
    drill.steps.push(Step::Sabotage(Sabotage { sql: "drop table orders".to_owned(), database: None }));
    let facts = Facts {
        policy: &policy,
        drills: vec![&drill],
        artifacts: Vec::new(),
        transcripts: &[],
        config: &config,
        now: at("2026-11-21T08:00:00Z"),
    };
    let text = markdown(&facts);
    assert!(text.contains("There is no backup yet") && text.contains("never been rehearsed"), "{text}");
    for section in ["Description", "Symptoms", "First assessment", "Steps", "Escalation", "Prevention"] {
        assert!(text.contains(&format!("\n## {section}\n")), "{section}");
    }
}

#[test]
fn names_are_quoted_for_the_shell_and_for_markdown() {
    for (text, quoted) in [
        ("/srv/backups", "/srv/backups"),
        ("/srv/my backups", "'/srv/my backups'"),
        ("it's; rm -rf $HOME", r"'it'\''s; rm -rf $HOME'"),
        ("", "''"),
        ("a\nb", "'a\nb'"),
        ("~", "'~'"),
    ] {
        assert_eq!(quote(text), quoted);
    }
    assert_eq!(code("a`b"), "`` a`b ``");
    assert!(block("echo '```'").starts_with("````sh\n"));
    for (url, name) in [
        ("postgresql://u@/orders?host=/run/x", "orders"),
        ("postgresql://u@h:5432/a", "a"),
        ("postgresql://u@h", "postgres"),
        ("postgresql://u@h/?sslmode=x", "postgres"),
    ] {
        assert_eq!(database(url), name);
    }
}
