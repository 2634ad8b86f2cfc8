//! Copies of real backups: the first store is gone, and the second alone brings everything back.

use serde_json::Value;

use crate::support::data::{self, DATABASE};
use crate::support::home::{Home, POLICY};
use crate::support::server::Server;
use crate::wal::Bench;

const QUESTION: &str = "select sum(total), count(*) from shop.orders";

/// A second store, declared for every job.
fn with_copies(home: &Home) {
    home.edit_config(|text| {
        let far = "[stores.dr-region]\nkind = \"file\"\npath = \"far\"\nsite = \"dublin\"\n\n[keys]\nescrow = [\"keys/escrow.agekey\"]";
        text.replace("[keys]", far)
    });
    home.edit_policy(|text| text.replace("store = \"primary\"", "store = \"primary\"\ncopies = [\"dr-region\"]"));
}

#[test]
fn with_the_first_store_gone_the_second_alone_is_drilled_and_restored_from() {
    let server = Server::start();
    data::fill(&server);
    let expected = server.sql(DATABASE, QUESTION);
    let home = Home::new(&server, DATABASE);
    with_copies(&home);
    let taken = home.run(&["backup", POLICY, "--output", "json"]).expect(0).json();
    for backup in taken["backups"].as_array().unwrap() {
        let copies = backup["copies"].as_array().unwrap();
        assert_eq!((copies.len(), &copies[0]["state"]), (1, &Value::from("copied")), "{backup}");
        assert_eq!((&copies[0]["to"], &backup["copy_troubles"]), (&Value::from("dr-region"), &Value::Array(vec![])));
    }
    home.run(&["copies", POLICY, "--read"]).expect(0);
    let runbook = home.run(&["runbook", POLICY]).expect(0).stdout;
    assert!(runbook.contains(&format!("lifeboat restore {POLICY} --from dr-region")), "{runbook}");
    let status = home.run(&["status", POLICY]);
    assert!(status.stdout.contains("primary, dr-region") || status.stdout.contains("dr-region, primary"), "{status:?}");

    let away = home.path().join("away");
    std::fs::rename(home.store(), &away).unwrap();
    // A drill never falls back on what it was not told to use.
    let refused = home.run(&["drill", POLICY, "--drill", "restore-latest"]).expect(4);
    assert!(!refused.stdout.contains("dr-region"), "{refused:?}");
    let drill = ["drill", POLICY, "--drill", "restore-latest", "--from", "dr-region"];
    let proven = home.run(&[&drill[..], &["--output", "json"]].concat()).expect(0).json();
    assert_eq!(
        (&proven["backup"]["place"], &proven["drill"]["from"]),
        (&Value::from("dr-region"), &"dr-region".into())
    );
    // It is not the drill as it was declared, which is still unproven.
    assert_eq!(proven["drill"]["name"], "restore-latest-from-dr-region");
    let status = home.run(&["status", POLICY]).expect(4);
    assert!(status.stdout.contains("the last drill restore-latest proved nothing"), "{status:?}");
    let said = home.run(&drill).expect(0);
    assert!(said.stdout.contains("dr-region") && said.stdout.contains("no other was opened"), "{said:?}");

    // The same demanded by a drill, with the escrow key alone: the working one is out of reach.
    let text = std::fs::read_to_string(home.path().join("drills/restore-logical.toml")).unwrap();
    let text =
        text.replace("name = \"restore-logical\"", "name = \"far-escrow\"\nfrom = \"dr-region\"\nkeys = \"escrow\"");
    home.write_drill("far-escrow", &text);
    let (working, hidden) = (home.path().join("keys/working.agekey"), home.path().join("keys/hidden"));
    std::fs::rename(&working, &hidden).unwrap();
    let escrow = home.run(&["drill", POLICY, "--drill", "far-escrow", "--output", "json"]).expect(0).json();
    let policy = std::fs::read_to_string(home.path().join(format!("policies/{POLICY}.toml"))).unwrap();
    let opened = escrow["backup"]["opened_by"].as_array().unwrap();
    assert_eq!((opened.len(), &escrow["drill"]["keys"]), (1, &Value::from("escrow")));
    assert!(policy.contains(opened[0].as_str().unwrap()), "{escrow}");
    std::fs::rename(&hidden, &working).unwrap();
    let page = home.run(&["report", escrow["run"].as_str().unwrap()]).stdout;
    assert!(page.contains("the escrow key alone"), "{page}");
    // A key that is named by hand is used alone; one that opens nothing proves nothing good.
    let by_hand = [&drill[..], &["--identity", "keys/escrow.agekey"]].concat();
    assert!(home.run(&by_hand).expect(0).stdout.contains("named by hand"));
    std::fs::write(home.path().join("strange"), lifeboat::seal::generate_identity().0).unwrap();
    let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(home.path().join("strange"), mode).unwrap();
    home.run(&[&drill[..], &["--identity", "strange"]].concat()).expect(3);
    home.run(&[&drill[..], &["--identity", "nowhere"]].concat()).expect(2);
    let nowhere = home.run(&["drill", POLICY, "--from", "dr-regio"]).expect(2);
    assert!(nowhere.stderr.contains("no store `dr-regio`") && nowhere.stderr.contains("dr-region"), "{nowhere:?}");

    // The real day: it is said where there is a copy, and how it is used.
    let target = home.path().join("target");
    let to = target.to_str().unwrap();
    let refused = home.run(&["restore", POLICY, "--to", to]).expect(1);
    assert!(refused.stderr.contains("--from dr-region"), "{refused:?}");
    home.run(&["restore", POLICY, "--to", to, "--from", "dr-region"]).expect(0);
    let mut back = Server::adopt(&server, target);
    back.launch();
    assert_eq!(back.sql(DATABASE, QUESTION), expected);
    let mutate =
        ["drill", POLICY, "--drill", "far-escrow", "--mutate", "--only", "wrong_key,part_missing", "--seed", "7"];
    // A drill of the copies is tested as any other, and its own choice of keys does not hide a wrong one.
    home.run(&mutate).expect(0);
    assert!(!home.store().exists(), "nobody made the first store anew");
}

#[test]
fn a_backup_whose_copy_cannot_be_made_is_a_backup_and_no_success() {
    let server = Server::start();
    data::fill(&server);
    let home = Home::new(&server, DATABASE);
    with_copies(&home);
    std::fs::write(home.path().join("far"), "no folder").unwrap();
    let taken = home.run(&["backup", POLICY, "--job", "logical"]).expect(1);
    assert!(taken.stdout.contains("logical backup") && taken.stderr.contains("NOT ALL OF ITS COPIES"), "{taken:?}");
    std::fs::remove_file(home.path().join("far")).unwrap();
    home.run(&["verify", POLICY]).expect(4);
    home.run(&["copy", POLICY]).expect(0);
    home.run(&["verify", POLICY]).expect(0);
    // The drill of the first store is what it always was, and says which store it was.
    let proven = home.run(&["drill", POLICY, "--drill", "restore-logical", "--output", "json"]).expect(0).json();
    assert_eq!(proven["backup"]["place"], "primary");
    assert!(proven["drill"].get("from").is_none());
}

#[test]
fn the_log_is_copied_too_and_a_moment_comes_back_from_the_copy() {
    let bench = Bench::new();
    with_copies(&bench.home);
    bench.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    bench.beat(1, 10);
    bench.archive();
    let moment = bench.beat(11, 20);
    bench.beat(21, 30);
    let names = bench.archive();
    let copied = bench.home.run(&["copy", POLICY, "--output", "json"]).expect(0).json();
    let log = &copied["policies"][0]["logs"][0];
    assert_eq!(log["state"], "copied", "{log}");
    bench.home.run(&["copies", POLICY, "--read"]).expect(0);
    let again = bench.home.run(&["copy", POLICY, "--output", "json"]).expect(0).json();
    assert_eq!(again["policies"][0]["logs"][0]["state"], "already");
    bench.home.run(&["verify", POLICY, "--wal", "--store", "dr-region"]).expect(0);

    // One object gone, one changed: each told by its name, the first mended.
    let segments: Vec<&String> = names.iter().filter(|name| name.len() == 24).collect();
    let far = |name: &str| bench.home.path().join(format!("far/{POLICY}/wal/{}/{name}.zst.age", &name[..8]));
    let (lost, changed) = (far(segments[0]), far(segments[1]));
    let good = std::fs::read(&changed).unwrap();
    std::fs::remove_file(&lost).unwrap();
    let mut bytes = good.clone();
    bytes[100] ^= 1;
    std::fs::write(&changed, &bytes).unwrap();
    let compared = bench.home.run(&["copies", POLICY, "--read", "--output", "json"]).expect(3).json();
    let told: Vec<(&str, &str)> = compared["policies"][0]["drift"]
        .as_array()
        .unwrap()
        .iter()
        .map(|drift| (drift["code"].as_str().unwrap(), drift["object"].as_str().unwrap()))
        .filter(|(code, _)| code.starts_with("copy_"))
        .collect();
    let object = |name: &str| format!("log {name} in dr-region");
    assert_eq!(
        told,
        [("copy_object_missing", object(segments[0]).as_str()), ("copy_corrupt", object(segments[1]).as_str())]
    );
    bench.home.run(&["copy", POLICY]).expect(0);
    assert!(lost.is_file());
    assert_eq!(std::fs::read(&changed).unwrap(), bytes, "nothing is replaced");
    std::fs::write(&changed, &good).unwrap();
    // A record that somebody else signed is not spread.
    let record = bench.objects(segments[0]).1;
    let signed = std::fs::read(&record).unwrap();
    let mut forged = signed.clone();
    forged[40] ^= 1;
    std::fs::write(&record, &forged).unwrap();
    for side in [".jsonl", ".zst.age"] {
        let path = lost.to_str().unwrap().replace(".zst.age", side);
        std::fs::remove_file(path).unwrap();
    }
    let refused = bench.home.run(&["copy", POLICY]).expect(3);
    assert!(refused.stdout.contains("wal_signature") && !lost.exists(), "{refused:?}");
    std::fs::write(&record, &signed).unwrap();
    bench.home.run(&["copy", POLICY]).expect(0);

    std::fs::rename(bench.home.store(), bench.home.path().join("away")).unwrap();
    let until = ["--until", &moment, "--from", "dr-region"];
    assert_eq!(bench.brought("until", &until).0, 20);
    let latest = ["--until", "latest", "--from", "dr-region"];
    assert_eq!(bench.brought("latest", &latest).0, 30);
    bench.home.write_drill(
        "far",
        "[drill]\nname = \"far\"\nfrom = \"dr-region\"\n\n[scratch]\nkind = \"cluster\"\n\n[[steps]]\nrestore.until = \"latest\"\n\
         [[steps]]\nawait-ready = { query = \"select 1\" }\n\
         [[steps]]\ncheck = { name = \"assert\", sql = \"select count(*) from beat\", equals = \"30\" }\n",
    );
    let drill = bench.home.run(&["drill", POLICY, "--drill", "far", "--output", "json"]).expect(0).json();
    assert!(drill["log"]["segments"].as_u64().unwrap() > 0, "{drill}");
}
