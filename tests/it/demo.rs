//! `lifeboat demo` is what a visitor sees first: it must end well, within its time, and leave nothing but its reports.

use std::process::Command;

use crate::support::home::ran;

#[test]
fn the_demo_proves_both_methods_and_finds_both_planted_faults() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("lifeboat"));
    command.arg("demo").current_dir(folder.path()).env("TMPDIR", temporary.path()).env("NO_COLOR", "1");
    let told = ran(&mut command).expect(0);
    for word in ["physical: proven", "logical: proven", "RPO achieved", "check manifest turned red", "line_item"] {
        assert!(told.stdout.contains(word), "`{word}`: {}", told.stdout);
    }
    let reports: Vec<_> = std::fs::read_dir(folder.path().join("demo-reports")).unwrap().flatten().collect();
    assert_eq!(reports.len(), 3, "{reports:?}");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
