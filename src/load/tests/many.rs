//! More files than one thread reads.

use super::*;

/// So many policies that several threads read them, with names of their own.
fn many(count: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), CONFIG, &policy(), DRILL);
    std::fs::remove_file(folder.path().join("policies/orders.toml")).unwrap();
    for n in 0..count {
        std::fs::write(file(folder.path(), n), named(n)).unwrap();
    }
    let config = folder.path().join("lifeboat.toml");
    (folder, config)
}

fn file(folder: &Path, n: usize) -> PathBuf {
    folder.join(format!("policies/p{n:03}.toml"))
}

fn named(n: usize) -> String {
    policy().replace("name = \"orders\"", &format!("name = \"p{n:03}\"")).replace(&format!(", \"{KEY_2}\""), "")
}

#[test]
fn many_files_are_read_as_few_are() {
    let (_folder, config) = many(200);
    let loaded = load(&config).unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<String> = loaded.policies.iter().map(|policy| policy.name.to_string()).collect();
    assert_eq!(names, (0..200).map(|n| format!("p{n:03}")).collect::<Vec<_>>());
    let warned: Vec<&String> = loaded.warnings.iter().filter(|text| text.contains("only one recipient")).collect();
    assert_eq!(warned.len(), 200);
    assert!(warned.is_sorted(), "in the order of the files: {warned:?}");
}

#[test]
fn everything_that_is_wrong_in_any_of_many_files_is_told_in_their_order() {
    let (folder, config) = many(200);
    let wrong = |n: usize, text: String| std::fs::write(file(folder.path(), n), text).unwrap();
    wrong(3, named(3).replace("store = \"primary\"", "store = \"primery\""));
    wrong(150, named(3));
    wrong(90, named(90).replace("rpo = \"5m\"", "rpo = \"soon\""));
    wrong(91, "[policy\n".to_owned());
    wrong(199, named(199).replace("use = \"point-in-time\"", "use = \"point-in-tim\""));
    let told = told(&load(&config).unwrap_err());
    let of = |file: &str| told.iter().filter(|line| line.starts_with(file)).collect::<Vec<_>>();
    assert_eq!(told.len(), 5 + of("p091").len() - 1, "{told:#?}");
    assert!(of("p003")[0].contains("no store `primery`") && of("p003")[0].contains("did you mean \"primary\""));
    assert!(of("p150")[0].contains("there is already a policy `p003`, in"), "{told:#?}");
    assert!(of("p090")[0].contains("soon"));
    assert!(!of("p091").is_empty());
    assert!(of("p199")[0].contains("no drill `point-in-tim`"));
}

#[test]
fn a_page_is_some_files_and_what_they_need() {
    let (folder, config) = many(130);
    let names = |from, at_most| {
        let page = load_page(&config, from, at_most).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!((page.of, page.loaded.drills.len()), (130, 1));
        page.loaded.policies.iter().map(|policy| policy.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(0, 2), ["p000", "p001"]);
    assert_eq!(names(128, 50), ["p128", "p129"]);
    assert_eq!(names(130, 50), [""; 0]);
    assert_eq!(names(usize::MAX, usize::MAX), [""; 0]);
    assert_eq!(names(0, usize::MAX).len(), 130);
    // What is wrong elsewhere is the business of who reads all.
    std::fs::write(file(folder.path(), 77), "[policy").unwrap();
    assert_eq!(names(10, 1), ["p010"]);
    assert!(load_page(&config, 77, 1).is_err() && load(&config).is_err());
}
