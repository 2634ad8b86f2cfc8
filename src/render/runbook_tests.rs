//! Runbooks from fixed facts.

use super::{Artifact, Facts, admin, code, database, markdown};
use crate::domain::check::CheckName;
use crate::domain::drill::{Drill, Sabotage, Step};
use crate::domain::inventory::Role;
use crate::domain::observed::Observed;
use crate::domain::policy::Method;
use crate::domain::sample::{self, at};
use crate::render::instruct::{block, quote};

fn physical() -> Drill {
    sample::physical().drill
}

fn logical() -> Drill {
    sample::drill("restore-logical", Method::Logical, &CheckName::of_servers())
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

#[test]
fn who_may_do_everything_is_a_superuser_that_can_log_in() {
    let role = |name: &str, attributes: &str| Role {
        name: name.to_owned(),
        attributes: attributes.to_owned(),
        has_password: Observed::Absent,
        member_of: Vec::new(),
    };
    let url = "postgresql://backup@/orders?host=/run/postgresql";
    let mut manifest = sample::manifest();
    let records =
        [Method::Physical, Method::Logical].map(|method| sample::artifact(method, "2026-11-20T03:00:00Z", 12));
    let admin = |manifest: &crate::domain::artifact::Manifest, which: usize, url: &str| {
        admin(Artifact { record: &records[which], manifest: Some(manifest) }, url)
    };
    assert_eq!(admin(&manifest, 0, url), "backup");
    assert_eq!(admin(&manifest, 1, url), "postgres");
    assert_eq!(admin(&manifest, 0, "postgresql:///orders"), "postgres");
    manifest.fingerprint.roles = vec![
        role("postgres", "superuser inherit"),
        role("app", "inherit login set x=superuser set y superuser"),
        role("dba one", "superuser inherit createrole login"),
    ];
    assert_eq!(admin(&manifest, 0, url), "dba one");
    manifest.fingerprint.roles[0].attributes.push_str(" login");
    assert_eq!(admin(&manifest, 0, url), "postgres");
    manifest.fingerprint.roles.rotate_left(1);
    assert_eq!(admin(&manifest, 0, url), "postgres");

    let (policy, config, drill) = (sample::policy(), sample::config(), physical());
    let record = sample::artifact(Method::Physical, "2026-11-20T03:00:00Z", 12);
    manifest.fingerprint.roles = vec![role("dba one", "superuser login")];
    let mut broken = sample::judged(sample::physical());
    broken.drill.steps.push(Step::Sabotage(Sabotage { sql: "drop table orders".to_owned(), database: None }));
    let transcripts = [broken];
    let facts = Facts {
        policy: &policy,
        drills: vec![&drill],
        artifacts: vec![Artifact { record: &record, manifest: Some(&manifest) }],
        transcripts: &transcripts,
        config: &config,
        now: at("2026-11-21T08:00:00Z"),
    };
    let text = markdown(&facts);
    assert!(text.contains("ADMIN='dba one'") && !text.contains("-U postgres"), "{text}");
    assert!(text.contains("never been rehearsed") && !text.contains("Times of the last drill"), "{text}");
}
