//! Every policy and drill that is shipped loads, and says nothing that this version does not do.

use std::path::Path;

use lifeboat::domain::check::CheckName;
use lifeboat::domain::drill::{IsolationDemand, ScratchKind, Step};
use lifeboat::domain::policy::Method;
use lifeboat::load::{Loaded, load};

/// What the shipped files need of `lifeboat.toml`.
const CONFIG: &str = "\
[stores.primary]
kind = \"file\"
path = \"store\"

[scratch.servers.spare]
url = \"postgresql://lifeboat_scratch@/postgres?host=/run/postgresql&port=5433\"
";

fn shipped() -> (usize, Loaded) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let mut files = 0;
    for name in ["policies", "drills"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        for entry in std::fs::read_dir(root.join(name)).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(path.extension().unwrap(), "toml", "{}: what is it doing there?", path.display());
            std::fs::copy(&path, folder.path().join(name).join(path.file_name().unwrap())).unwrap();
            files += 1;
        }
    }
    let config = folder.path().join("lifeboat.toml");
    std::fs::write(&config, CONFIG).unwrap();
    (files, load(&config).unwrap_or_else(|errors| panic!("{}", errors.render(false))))
}

#[test]
fn every_shipped_file_loads_without_a_warning() {
    let (files, loaded) = shipped();
    assert_eq!(loaded.policies.len() + loaded.drills.len(), files);
    assert!(loaded.policies.len() >= 2 && loaded.drills.len() >= 3);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn shipped_drills_look_at_everything_that_applies() {
    let (_, loaded) = shipped();
    let drill = |name: &str| loaded.drills.iter().find(|drill| drill.name.as_str() == name).unwrap();
    let checks = |name: &str| -> Vec<CheckName> {
        let steps = drill(name).steps.iter();
        steps.filter_map(|step| if let Step::Check(check) = step { Some(check.name) } else { None }).collect()
    };
    for name in CheckName::of_servers() {
        // The first is the user's own; the second is a step.
        // And the heartbeat is there only where a policy wants it.
        let own = matches!(name, CheckName::Assert | CheckName::Readiness | CheckName::Heartbeat);
        assert_eq!(checks("restore-latest").contains(&name), !own, "restore-latest: {name}");
        // A dump has no pages.
        let applies = !own && name != CheckName::PageChecksums;
        assert_eq!(checks("restore-logical").contains(&name), applies, "restore-logical: {name}");
        assert_eq!(checks("scratch-database").contains(&name), applies, "scratch-database: {name}");
    }
    assert_eq!(checks("control-plane-loss"), [CheckName::Manifest, CheckName::ControlPlane]);
    let latest = drill("restore-latest");
    assert_eq!((latest.method, latest.scratch.kind), (Some(Method::Physical), ScratchKind::Cluster));
    assert_eq!(latest.scratch.isolation, IsolationDemand::Required);
    assert_eq!(drill("restore-logical").method, Some(Method::Logical));
    assert_eq!(drill("scratch-database").scratch.kind, ScratchKind::Database);
    // Behind lifeboat itself there is no server to be asked.
    for drill in loaded.drills.iter().filter(|drill| drill.scratch.kind != ScratchKind::Folder) {
        let ready =
            drill.steps.iter().find_map(|step| if let Step::AwaitReady(ready) = step { Some(ready) } else { None });
        assert_eq!(ready.unwrap().query, "select 1", "{}: no table that a user may not have", drill.name);
    }
}
