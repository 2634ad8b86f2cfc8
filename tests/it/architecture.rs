//! The shape of the house, read from its sources: what is pure stays pure, and who may call whom stays so.

use std::path::{Path, PathBuf};

/// Every source file below `src/<room>`, with its text.
fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "sample.rs") {
                // Fixed content for tests: no part of the house.
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in src/{room}");
    found
}

/// The code of a file: comments and its tests left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
}

#[test]
fn pure_rooms_name_no_clock_file_process_environment_or_socket() {
    let forbidden = [
        "tokio",
        "std::fs",
        "std::process",
        "std::env",
        "std::net",
        "std::os",
        "std::time::Instant",
        "SystemTime",
        "Timestamp::now",
        "Zoned::now",
        "crate::clock",
        "std::io",
    ];
    for room in ["domain", "judge", "render"] {
        for (path, text) in sources(room) {
            for (number, line) in code(&text) {
                for word in forbidden {
                    assert!(!line.contains(word), "{}:{number}: a pure room names {word}", path.display());
                }
            }
        }
    }
}

#[test]
fn rooms_call_only_those_below_them() {
    // Which rooms each may name. `domain` is open to all; `programs`, `progress`, `clock` are seams of their own.
    let may: [(&str, &[&str]); 14] = [
        ("domain", &[]),
        ("judge", &[]),
        ("render", &["judge"]),
        ("load", &["judge", "probe", "seal", "store"]),
        ("store", &["clock"]),
        ("seal", &["store", "judge", "progress"]),
        ("probe", &["clock", "judge", "telemetry"]),
        ("telemetry", &["judge"]),
        ("notify", &["clock", "render", "telemetry"]),
        ("web", &["engine", "telemetry"]),
        ("catalog", &["clock", "probe"]),
        ("backup", &["seal", "store", "probe", "programs", "progress", "clock"]),
        ("scratch", &["probe", "programs", "clock", "store"]),
        ("checks", &["probe", "programs", "seal", "judge", "clock"]),
    ];
    for (room, allowed) in may {
        for (path, text) in sources(room) {
            for (number, line) in code(&text) {
                for (at, _) in line.match_indices("crate::") {
                    let rest = &line[at + "crate::".len()..];
                    let named: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    let fine =
                        named.is_empty() || named == room || named == "domain" || allowed.contains(&named.as_str());
                    assert!(fine, "{}:{number}: {room} may not name {named}", path.display());
                }
            }
        }
    }
}

#[test]
fn nothing_is_left_to_be_done_and_no_file_is_a_heap() {
    for (path, text) in sources("") {
        let lines = text.lines().count();
        assert!(lines <= 520, "{}: {lines} lines: split it", path.display());
        for (number, line) in text.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("] {
                assert!(!line.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_closed_enum_of_steps_is_folded_without_a_wildcard() {
    // The compiler demands an arm for each step only where there is no `_`: performed, instructed, narrated.
    for (room, function) in [("engine/drill", "fn perform"), ("render", "fn instruct"), ("render", "fn narrate")] {
        let folds: Vec<_> = sources(room).into_iter().filter(|(_, text)| text.contains(function)).collect();
        assert!(!folds.is_empty(), "no `{function}` in src/{room}");
        for (path, text) in folds {
            let body = text.split(function).nth(1).unwrap();
            let body = body.split("\n}\n").next().unwrap();
            let wildcard = body.lines().any(|line| line.trim_start().starts_with("_ =>"));
            assert!(!wildcard, "{}: `{function}` has a wildcard arm", path.display());
        }
    }
}
