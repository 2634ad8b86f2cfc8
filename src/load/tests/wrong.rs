//! Wrong files, and what is said about them: each case changes a good file in one place.

use super::{CONFIG, DRILL, KEY_1, KEY_2, load_texts, policy, told};

#[test]
fn a_wrong_policy_is_told_with_place_and_hint() {
    let mut missed = Vec::new();
    for (good, bad, place, message, hint) in [
        ("rpo = ", "rop = ", "orders.toml:11:1", "unknown key `rop`", "did you mean `rpo`?"),
        ("rpo = ", "rop = ", "orders.toml:10:1", "`rpo` is missing in [objectives]", "rpo = \"5m\""),
        ("\"5m\"\nrto", "5\nrto", "orders.toml:11:7", "`rpo` must be a string; this is an integer", "in quotes"),
        ("\"5m\"\nrto", "\"5 minuets\"\nrto", "orders.toml:11:7", "not a duration", "14d"),
        ("\"5m\"\nrto", "\"0s\"\nrto", "orders.toml:11:7", "no time at all", "5m"),
        ("name = \"orders\"", "name = \"Orders_DB\"", "orders.toml:2:8", "is not a name", "`orders-db`"),
        ("owner = \"payments-dba\"", "owner = \"\"", "orders.toml:3:9", "empty", "say something"),
        ("owner = \"payments-dba\"\n", "", "orders.toml:1:1", "`owner` is missing in [policy]", "owner ="),
        (
            "kind = \"postgres\"",
            "kind = \"postgre\"",
            "orders.toml:7:8",
            "`postgre` is no value of `kind`",
            "\"postgres\"",
        ),
        ("[source]\n", "[source]\npassword = \"hunter2\"\n", "orders.toml:7:1", "unknown key `password`", "passfile"),
        ("url = \"p", "url = \"q", "orders.toml:8:7", "not a PostgreSQL connection URL", "postgresql://"),
        ("lifeboat@/", "lifeboat:hunter2@/", "orders.toml:8:7", "holds a password", "take it out"),
        (
            "[source]\n",
            "[source]\npassfile = \"a\"\npassword_env = \"B\"\n",
            "orders.toml:8:1",
            "second place",
            "keep one",
        ),
        (
            "[source]\n",
            "[source]\ndatabases = \"some\"\n",
            "orders.toml:7:13",
            "`some` is no value of `databases`",
            "all",
        ),
        ("[source]\n", "[source]\ndatabases = 3\n", "orders.toml:7:13", "must be a string or an array", "quotes"),
        ("[[backup]]", "[backup]", "orders.toml:16:1", "`backup` must be an array; this is a table", "[[backup]]"),
        ("[policy]", "[[policy]]", "orders.toml:1:1", "`policy` must be a table; this is an array", "[policy]"),
        ("\"physical\"", "\"phisical\"", "orders.toml:18:10", "`phisical` is no value of `method`", "\"physical\""),
        ("\"0 3 * * *\"", "\"0 25 * * *\"", "orders.toml:19:12", "hour `25`", "five fields"),
        ("Europe/Berlin", "Europe/Berln", "orders.toml:20:12", "not a time zone", "Europe/Berlin"),
        ("schedule = \"0 3 * * *\"\n", "", "orders.toml:19:1", "`timezone` without `schedule`", "by hand"),
        ("store = \"primary\"", "store = \"primry\"", "orders.toml:21:9", "no store `primry`", "\"primary\""),
        ("[\"dr-region\"]", "[\"primary\"]", "orders.toml:22:11", "a copy in the same store", "another"),
        ("[\"dr-region\"]", "[\"dr-region\", \"dr-region\"]", "orders.toml:22:24", "twice", "leave one"),
        ("copies = [\"dr-region\"]", "copy_within = \"6h\"", "orders.toml:22:1", "without `copies`", "copies = ["),
        ("retention", "copy_within = \"0s\"\nretention", "orders.toml:23:15", "no time at all", "5m"),
        ("[\"dr-region\"]", "\"dr-region\"", "orders.toml:22:10", "must be an array", "brackets"),
        (
            "{ keep = \"14d\", weekly = 8, monthly = 12, at_least = 3 }",
            "{ weekly = 0, keep = \"0s\" }",
            "orders.toml:23:1",
            "this retention keeps nothing",
            "at_least = 3",
        ),
        ("stream = true", "stream = true\nkeep = \"0s\"", "orders.toml:27:8", "no time at all", "5m"),
        ("weekly = 8", "weekly = -8", "orders.toml:23:38", "`weekly` is -8", "from 0"),
        ("weekly = 8", "weekly = \"8\"", "orders.toml:23:38", "must be an integer", "without quotes"),
        (
            "store = \"primary\"\n",
            "store = \"primary\"\nlevel = 22\n",
            "orders.toml:22:9",
            "`level` is 22",
            "from 1 to 19",
        ),
        ("stream = true", "stream = \"yes\"", "orders.toml:26:10", "must be true or false", "without quotes"),
        (KEY_2, KEY_1, "orders.toml:30:81", "twice", "escrow"),
        (KEY_2, "age1nonsense", "orders.toml:30:81", "not an age recipient", "age-keygen"),
        (
            "use = \"point-in-time\"",
            "use = \"point-in-tim\"",
            "orders.toml:33:7",
            "no drill `point-in-tim`",
            "point-in-time",
        ),
        ("\"physical\"", "\"logical\"\nread = \"local\"", "orders.toml:19:1", "physical backup", "leave it out"),
        ("[wal]", "[content]\nsample_percent = 5\n[wal]", "orders.toml:26:1", "samples nothing", "sample_over"),
        (
            "[wal]",
            "[content]\nsample_over = \"1 GiB\"\nsample_percent = 0\n[wal]",
            "orders.toml:27:18",
            "is 0",
            "from 1 to 100",
        ),
        ("\"critical\"", "2026-01-01", "orders.toml:4:8", "a date or time", "quotes"),
        ("\"critical\"", "\"critical", "orders.toml:4:", "this is not TOML", "quotes"),
        ("tier = ", "name = \"x\"\ntier = ", "orders.toml:4:1", "duplicate", "remove"),
    ] {
        let text = policy();
        assert!(text.contains(good), "{good}");
        let errors = load_texts(CONFIG, &text.replacen(good, bad, 1), DRILL).expect_err(bad);
        let told = told(&errors);
        let found = told.iter().any(|line| line.starts_with(place) && line.contains(message) && line.contains(hint));
        if !found {
            missed.push(format!("{bad}: wanted {place} {message} · {hint}, told {told:#?}"));
        }
        for text in [errors.render(false), errors.render(true), errors.json().to_string(), errors.to_string()] {
            assert!(!text.contains("hunter2"), "a password is shown: {text}");
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_wrong_drill_is_told_with_place_and_hint() {
    let mut missed = Vec::new();
    for (good, bad, place, message, hint) in [
        ("until = \"latest\"", "until = \"2026-01-01\"", "pit.toml:12:17", "no value of `until`", "\"latest\""),
        ("\"now\" ", "\"someday\" ", "pit.toml:5:8", "not a moment of loss", "\"now\""),
        ("pick = \"latest\"", "pick = \"newest\"", "pit.toml:4:19", "picks no backup", "oldest"),
        (
            "kind = \"cluster\"",
            "kind = \"rds\"",
            "pit.toml:8:8",
            "`rds` is no value of `kind`",
            "\"cluster\", \"database\"",
        ),
        ("loss = ", "from = \"dr-regio\"\nloss = ", "pit.toml:5:8", "no store `dr-regio`", "\"dr-region\""),
        ("loss = ", "keys = \"escrow\"\nloss = ", "pit.toml:5:8", "no escrow key", "escrow ="),
        ("loss = ", "keys = \"mine\"\nloss = ", "pit.toml:5:8", "`mine` is no value of `keys`", "\"escrow\""),
        ("kind = \"cluster\"", "kind = \"database\"", "pit.toml:7:1", "`server` is missing", "scratch.servers"),
        (
            "kind = \"cluster\"",
            "kind = \"database\"\nserver = \"spare\"",
            "pit.toml:10:13",
            "cannot be cut off",
            "preferred",
        ),
        (
            "isolation = \"required\"",
            "server = \"spare\"",
            "pit.toml:9:1",
            "goes with kind = \"database\"",
            "leave it out",
        ),
        ("isolation", "izolation", "pit.toml:9:1", "unknown key `izolation`", "`isolation`"),
        ("restore.until = \"latest\"\n[[steps]]\n", "", "pit.toml:12:1", "before anything is restored", "begin with"),
        ("restore.until", "restor.until", "pit.toml:12:1", "unknown key `restor` in steps", "`restore`"),
        ("restore.until = \"latest\"", "provision = {}", "pit.toml:12:1", "unknown key `provision`", "leave it out"),
        (
            "restore.until = \"latest\"",
            "restore.until = \"latest\"\ncheck.name = \"content\"",
            "pit.toml:13:1",
            "second key",
            "[[steps]]",
        ),
        ("\"page_checksums\"", "\"page_checksum\"", "pit.toml:16:14", "is not a check", "page_checksums"),
        ("\"page_checksums\"", "\"readiness\"", "pit.toml:16:14", "step of its own", "await-ready"),
        (
            "\"page_checksums\"",
            "\"content\"\ncheck.sql = \"select 1\"",
            "pit.toml:17:7",
            "goes with the check `assert`",
            "leave it out",
        ),
        (
            "\"page_checksums\"",
            "\"content\"\ncheck.heapallindexed = true",
            "pit.toml:17:7",
            "goes with the check `amcheck`",
            "leave",
        ),
        (
            "loss = \"now\" ",
            "steps = 5\nloss = \"now\" ",
            "pit.toml:5:9",
            "5 steps are declared, and the file has 4: the end",
            "on purpose",
        ),
        (
            "loss = \"now\" ",
            "steps = 3\nloss = \"now\" ",
            "pit.toml:5:9",
            "3 steps are declared, and the file has 4",
            "added",
        ),
        ("loss = \"now\" ", "steps = -1\nloss = \"now\" ", "pit.toml:5:9", "0", "0"),
        ("within = \"200ms\"", "within = \"0s\"", "pit.toml:14:66", "`within` is no time at all", "5m"),
        (", is = true", "", "pit.toml:18:9", "does not say what the answer must be", "equals"),
        (", is = true", ", is = true, equals = \"t\"", "pit.toml:18:80", "second answer", "keep one"),
        (", is = true", ", within = [2, 1]", "pit.toml:18:79", "nothing lies from 2 to 1", "smaller"),
        (", is = true", ", within = [2]", "pit.toml:18:78", "holds 1, not 2", "write 2"),
        ("sql = \"select count(*) > 0 from orders\", ", "", "pit.toml:18:9", "`assert` needs `sql`", "sql ="),
        ("query = \"select 1 from orders limit 1\", ", "", "pit.toml:14:15", "`query` is missing", "query ="),
        ("[[steps]]\nrestore", "[[steps]]\n[[steps]]\nrestore", "pit.toml:11:1", "empty table", "possible"),
        (
            "[[steps]]\nawait",
            "[[steps]]\nrestore.until = \"latest\"\n[[steps]]\nawait",
            "pit.toml:14:1",
            "a second restore",
            "another",
        ),
    ] {
        assert!(DRILL.contains(good), "{good}");
        let errors = load_texts(CONFIG, &policy(), &DRILL.replacen(good, bad, 1)).expect_err(bad);
        let told = told(&errors);
        let found = told.iter().any(|line| line.starts_with(place) && line.contains(message) && line.contains(hint));
        if !found {
            missed.push(format!("{bad}: wanted {place} {message} · {hint}, told {told:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_wrong_configuration_is_told_with_place_and_hint() {
    let mut missed = Vec::new();
    for (good, bad, place, message, hint) in [
        ("[stores.primary]", "[stores.Primary_1]", "lifeboat.toml:1:9", "is not a name", "`primary-1`"),
        ("kind = \"file\"", "kind = \"s4\"", "lifeboat.toml:2:8", "`s4` is no value of `kind`", "\"s3\""),
        ("path = \"store\"\n", "", "lifeboat.toml:1:1", "`path` is missing in [stores.primary]", "path ="),
        ("\"store\"", "\"~/store\"", "lifeboat.toml:3:8", "literally", "whole path"),
        (
            "path = \"store\"",
            "path = \"store\"\nregion = \"eu\"",
            "lifeboat.toml:4:1",
            "`region` is for stores of kind \"s3\"",
            "kind",
        ),
        (
            "kind = \"file\"\npath = \"store\"",
            "kind = \"s3\"",
            "lifeboat.toml:1:1",
            "`bucket` is missing",
            "acme-backups",
        ),
        (
            "kind = \"file\"\npath = \"store\"",
            "kind = \"s3\"\nbucket = \"a/b\"",
            "lifeboat.toml:3:10",
            "not the name of a bucket",
            "prefix",
        ),
        (
            "kind = \"file\"\npath = \"store\"",
            "kind = \"s3\"\nbucket = \"a\"\nendpoint = \"localhost:9000\"",
            "lifeboat.toml:4:12",
            "http",
            "scheme, host and port",
        ),
        (
            "kind = \"file\"\npath = \"store\"",
            "kind = \"s3\"\nbucket = \"a\"\npiece = \"1 MiB\"",
            "lifeboat.toml:4:9",
            "not possible",
            "5 MiB",
        ),
        (
            "kind = \"file\"\npath = \"store\"",
            "kind = \"s3\"\nbucket = \"a\"\nlogin = { key_env = \"A\" }",
            "lifeboat.toml:4:21",
            "go together",
            "both",
        ),
        (
            "kind = \"file\"\npath = \"store\"",
            "kind = \"s3\"\nbucket = \"a\"\nkms_key = \"k\"",
            "lifeboat.toml:4:11",
            "does nothing",
            "encryption",
        ),
        ("\"/mnt/dr\"", "\"store\"", "lifeboat.toml:6:8", "same folder as store `primary`", "its own"),
        ("[stores.primary]", "[sores]\n[stores.primary]", "lifeboat.toml:1:2", "unknown key `sores`", "`stores`"),
        (
            "[stores.primary]",
            "[limits]\nparallel = 0\n[stores.primary]",
            "lifeboat.toml:2:12",
            "`parallel` is 0",
            "from 1 to 64",
        ),
        (
            "[stores.primary]",
            "[limits]\nparallel = 99999999999999999999\n[stores.primary]",
            "lifeboat.toml:2:12",
            "beyond 64 bits",
            "integer",
        ),
        (
            "[scratch.servers.spare]",
            "[scratch.servers.spare]\ntls = \"on\"",
            "lifeboat.toml:8:7",
            "`on` is no value of `tls`",
            "require",
        ),
    ] {
        assert!(CONFIG.contains(good), "{good}");
        let errors = load_texts(&CONFIG.replacen(good, bad, 1), &policy(), DRILL).expect_err(bad);
        let told = told(&errors);
        let found = told.iter().any(|line| line.starts_with(place) && line.contains(message) && line.contains(hint));
        if !found {
            missed.push(format!("{bad}: wanted {place} {message} · {hint}, told {told:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
