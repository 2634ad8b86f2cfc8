//! The verbs themselves: documents, exit codes, wrong inputs, and kill -9.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat::domain::artifact::{StreamKind, WalRange};
use lifeboat::domain::ids::BackupId;
use lifeboat::domain::lsn::Lsn;
use lifeboat::seal::{self, Opener, SealOptions, Sealer, Signer};
use lifeboat::store::FileStore;

use crate::support::artifacts::{blocking, manifest};
use crate::support::home::{Home, POLICY, walk};

/// A home whose store has a backup of each of the last days, the newest last.
pub struct Days {
    pub home: Home,
    pub ids: Vec<BackupId>,
}

impl Days {
    fn new(count: i64, parts: usize) -> Days {
        Days::of(Home::for_url("postgresql://nobody@/orders?host=/nowhere"), count, parts)
    }

    /// The same in a home that is there, with a catalog that is.
    pub fn of(home: Home, count: i64, parts: usize) -> Days {
        home.edit_policy(|text| {
            // No drills, and of the two jobs only the physical one has a retention.
            let text = text.split("[[drill]]").next().unwrap().to_owned();
            let text = text.replace("retention = { keep = \"14d\", weekly = 8, at_least = 3 }\n", "");
            let physical = "method = \"physical\"\n";
            text.replace(physical, &format!("{physical}retention = {{ keep = \"2d\", at_least = 2 }}\n"))
        });
        std::fs::create_dir_all(home.store()).unwrap();
        let now = lifeboat::clock::now();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ids = (0..count).rev().map(|ago| runtime.block_on(take(&home, now, ago, parts))).collect();
        home.run(&["catalog", "rebuild"]).expect(0);
        Days { home, ids }
    }

    fn id(&self, ago: usize) -> &str {
        self.ids[self.ids.len() - 1 - ago].as_str()
    }
}

async fn take(home: &Home, now: Timestamp, ago: i64, parts: usize) -> BackupId {
    let key = |name: &str| home.path().join("keys").join(name);
    let store: std::sync::Arc<dyn lifeboat::store::Store> =
        std::sync::Arc::new(FileStore::open(&home.store()).unwrap());
    let recipients = Opener::read(&[key("working.agekey")]).unwrap().recipients();
    let at = now.checked_sub(SignedDuration::from_hours(24 * ago + 3)).unwrap();
    let id = BackupId::new(at, u32::try_from(ago).unwrap());
    let options = SealOptions { recipients: recipients.clone(), level: 3, part_bytes: 1_000, threads: 2 };
    let sealer = Sealer::new(store.clone(), format!("{POLICY}/{id}"), options).unwrap();
    let stream = blocking(move || {
        let mut writer = sealer.stream("base", StreamKind::Tar);
        writer.write(&vec![7; 1_000 * parts]).unwrap();
        writer.finish().unwrap()
    })
    .await;
    let mut one = manifest(&id, vec![stream], recipients);
    one.job = "physical".parse().unwrap();
    (one.started_at, one.finished_at, one.recovery_point.at) = (at, at, at);
    one.wal = Some(WalRange { timeline: 1, start: Lsn(1 << 24), end: Lsn((1 << 24) + 500) });
    seal::store_manifest(&*store, &one, &Signer::read(&key("signing.pem")).unwrap()).await.unwrap();
    id
}

#[test]
fn the_verbs_say_what_they_do_and_end_as_documented() {
    let days = Days::new(6, 2);
    let home = &days.home;
    let before = walk(&home.store());
    let dry = home.run(&["prune", "--dry-run"]).expect(0);
    for part in [
        "delete",
        days.id(5),
        "it is older than 2d",
        "younger than 2d",
        "would delete 4 backups",
        "nothing was changed",
    ] {
        assert!(dry.stdout.contains(part), "{part}: {}", dry.stdout);
    }
    assert_eq!(walk(&home.store()), before);
    let document = home.run(&["--output", "json", "prune", POLICY, "--dry-run"]).expect(0).json();
    assert_eq!((&document["schema"], &document["dry_run"]), (&"lifeboat.prune/1".into(), &true.into()));
    assert_eq!(document["policies"][0]["stores"][0]["plan"]["backups"][0]["fate"], "delete");

    home.run(&["backup", "hold", days.id(5), "--by", "Ada", "--reason", "case 7"]).expect(0);
    let holds = home.run(&["backup", "holds"]).expect(0);
    assert!(holds.stdout.contains(days.id(5)) && holds.stdout.contains("on hold by Ada"), "{holds:?}");
    let pruned = home.run(&["prune", POLICY]).expect(0);
    assert!(pruned.stdout.contains("deleted 3 backups, removed 0 backups"), "{pruned:?}");
    assert!(pruned.stdout.contains("on hold by Ada"), "{pruned:?}");
    let waits = home.run(&["prune", POLICY, "--store", "primary"]).expect(0);
    assert!(waits.stdout.contains("it can be brought back until"), "{waits:?}");
    home.run(&["verify", POLICY]).expect(0);

    let gone = home.run(&["restore", POLICY, "--backup", days.id(4), "--to", "somewhere"]).expect(1);
    assert!(gone.stderr.contains("is deleted by lifeboat prune") && gone.stderr.contains("undelete"), "{gone:?}");
    let hidden = home.run(&["verify", days.id(4)]).expect(4);
    assert!(hidden.stdout.contains("deleted by lifeboat prune"), "{hidden:?}");
    home.run(&["backup", "undelete", days.id(4), "--by", "Ada"]).expect(0);
    home.run(&["verify", days.id(4)]).expect(0);
    home.run(&["backup", "hold", days.id(4), "--by", "Ada", "--reason", "case 8"]).expect(0);

    let removed = home.run(&["prune", POLICY, "--grace", "0s"]).expect(0);
    assert!(removed.stdout.contains("removed 2 backups"), "{removed:?}");
    let text: Vec<_> = walk(&home.store()).iter().map(|path| path.display().to_string()).collect();
    assert!(!text.iter().any(|path| path.contains(days.id(3)) || path.contains(days.id(2))), "{text:?}");
    home.run(&["verify", POLICY]).expect(0);
    home.run(&["catalog", "rebuild"]).expect(0);
    home.run(&["verify", POLICY]).expect(0);
    let released = home.run(&["--output", "json", "backup", "release", days.id(5), "--by", "Ada"]).expect(0).json();
    assert_eq!(released["marked"]["marks"][0][1]["act"], "release");
    assert!(home.run(&["backup", "release", days.id(5), "--by", "Ada"]).expect(0).stdout.contains("no hold on it"));
}

#[test]
fn wrong_inputs_are_told_with_a_hint() {
    let days = Days::new(1, 1);
    let home = &days.home;
    let id = days.id(0);
    for (args, code, word) in [
        (vec!["prune", "oders"], 2, "orders"),
        (vec!["prune", "--store", "primry"], 2, "primary"),
        (vec!["backup", "hold", "yesterday", "--by", "a", "--reason", "b"], 2, "backup id"),
        (vec!["backup", "hold", "20200101T000000Z-00000000", "--by", "a", "--reason", "b"], 1, "no store holds"),
        (vec!["backup", "hold", id, "--by", " ", "--reason", "b"], 2, "--by is empty"),
        (vec!["backup", "hold", id, "--by", "a", "--reason", "b\nc"], 2, "more than one line"),
        (vec!["backup", "undelete", id, "--by", ""], 2, "--by is empty"),
    ] {
        let ran = home.run(&args).expect(code);
        assert!(ran.stderr.contains(word) && ran.stderr.contains("hint"), "{args:?}: {ran:?}");
    }
    home.run(&["prune", "--grace", "soon"]).expect(2);
    home.run(&["backup", "hold", id]).expect(2);
    home.run(&["backup"]).expect(2);
    // One backup where two are to be kept at the least.
    assert!(home.run(&["prune"]).expect(3).stdout.contains("retention_shortfall"));
    // Nobody would believe what this key marks.
    home.edit_config(|text| {
        text.lines().filter(|line| !line.contains("trusted_signers")).collect::<Vec<_>>().join("\n")
    });
    let ran = home.run(&["prune"]).expect(1);
    assert!(ran.stderr.contains("none of those that are trusted") && ran.stderr.contains("trusted_signers"), "{ran:?}");
    // The store went away.
    std::fs::rename(home.store(), home.path().join("unmounted")).unwrap();
    let ran = home.run(&["prune", "--dry-run"]).expect(1);
    assert!(ran.stdout.contains("mounted"), "{ran:?}");
}

#[test]
fn a_policy_whose_name_is_a_word_of_the_verb_can_still_be_named() {
    let days = Days::new(1, 1);
    let ran = days.home.run(&["backup", "--", "holds"]);
    assert!(ran.code == 2 && ran.stderr.contains("no policy `holds`"), "{ran:?}");
}

#[test]
fn killed_at_any_moment_the_next_prune_comes_to_the_end() {
    let days = Days::new(5, 40);
    let home = &days.home;
    home.run(&["prune", POLICY]).expect(0);
    let whole = walk(&home.store()).len();
    let mut killed = 0;
    for wait in 0..12 {
        let mut child =
            home.command(&["prune", POLICY, "--grace", "0s"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        // Killed while files go: at another one each time.
        while walk(&home.store()).len() + 20 * wait >= whole && std::time::Instant::now() < deadline {
            if child.try_wait().unwrap().is_some() {
                break;
            }
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        child.wait().unwrap();
        home.run(&["verify", POLICY]).expect(0);
    }
    assert!(killed > 0, "it was never quick enough to kill one");
    home.run(&["prune", POLICY, "--grace", "0s"]).expect(0);
    let left = walk(&home.store());
    let kept = [0, 1].map(|ago| days.id(ago).to_owned());
    assert!(left.iter().all(|path| kept.iter().any(|id| path.display().to_string().contains(id))), "{left:?}");
    home.run(&["verify", POLICY]).expect(0);
}
