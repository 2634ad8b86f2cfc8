//! Letters: to real receivers, when those are down, and when lifeboat dies in between.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lifeboat::catalog::Opened;
use lifeboat::domain::transcript::Verdict;
use lifeboat::domain::units::Span;
use lifeboat::domain::watch::Notifier;
use lifeboat::engine::watch::{Delivery, Outcome, deliver};
use serde_json::Value;

use super::{Bench, policy};
use crate::support::ears::{Ears, Heard};

/// An SMTP server from Debian (python3-aiosmtpd) that prints the mails that it takes.
struct Postman {
    child: Child,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Postman {
    fn here() -> bool {
        let found = Command::new("/usr/bin/python3").args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        let here = found.is_ok_and(|status| status.success());
        if !here {
            eprintln!("SKIPPED: python3-aiosmtpd is not here: run deploy/watchers.sh");
        }
        here
    }

    fn start(port: u16) -> Postman {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-u", "-m", "aiosmtpd", "-n", "-l", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                to.lock().unwrap().push(line);
            }
        });
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the SMTP server did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Postman { child, port, said }
    }

    /// The `Message-ID` of every mail that was taken.
    fn ids(&self, wanted: usize) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let lines = self.said.lock().unwrap().clone();
            let ends = lines.iter().filter(|line| line.starts_with("------------ END MESSAGE")).count();
            if ends >= wanted {
                return lines.iter().filter_map(|line| line.strip_prefix("Message-ID: ").map(str::to_owned)).collect();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{wanted} mails were not seen: {lines:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn text(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }
}

impl Drop for Postman {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn webhook(ears: &Ears) -> String {
    format!("[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}/in\"\nsecret_env = \"HOOK_KEY\"\n", ears.url())
}

fn alarms_of(heard: &Heard) -> Vec<(String, String)> {
    let document = heard.json();
    let alarms = document["alarms"].as_array().unwrap();
    alarms
        .iter()
        .map(|one| (one["news"].as_str().unwrap().to_owned(), one["alarm"].as_str().unwrap().to_owned()))
        .collect()
}

fn openssl_says(key: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signed");
    std::fs::write(&file, text).unwrap();
    let out = Command::new("openssl").args(["dgst", "-sha256", "-hmac", key, "-r"]).arg(&file).output().unwrap();
    String::from_utf8_lossy(&out.stdout).split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_failed_drill_is_told_signed_taken_on_and_resolved() {
    let ears = Ears::open();
    let bench = Bench::new(&format!(
        "{}[[notify]]\nname = \"pager\"\nkind = \"pagerduty\"\nurl = \"{}\"\nsecret_file = \"pager.key\"\n\
         [[notify]]\nname = \"chat\"\nkind = \"slack\"\nurl_env = \"SLACK\"\n\
         [[route]]\nto = [\"hook\", \"chat\", \"pager\"]\n",
        webhook(&ears),
        ears.url()
    ));
    bench.write("pager.key", "R0UTINGKEY\n");
    std::fs::set_permissions(bench.path("pager.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let slack = format!("{}/services/T000/SECRETPART", ears.url());
    let run = |args: &[&str]| {
        let mut command = bench.command(args);
        crate::support::home::ran(command.env("HOOK_KEY", "k3y").env("SLACK", &slack))
    };
    let opened = bench.opened();
    bench.backed_up(&opened, "orders", Span::from_secs(3_600)).await;
    let failed = bench.drilled(&opened, "orders", Verdict::Failed).await;

    run(&["notify", "--once"]).expect(0);
    let heard = ears.heard();
    assert_eq!(
        heard.iter().map(|one| one.path.as_str()).collect::<BTreeSet<_>>(),
        ["/in", "/services/T000/SECRETPART", "/v2/enqueue"].into()
    );
    assert_eq!(heard.len(), 3);
    let hook = heard.iter().find(|one| one.path == "/in").unwrap();
    let key = format!("orders/drill_failed/{}", super::DRILL);
    assert_eq!(alarms_of(hook), [("opened".to_owned(), key.clone())]);
    assert!(hook.text().contains(&failed.run.to_string()));
    assert_eq!(hook.header("idempotency-key"), hook.json()["id"].as_str());
    // The signature, as an outsider verifies it.
    let (at, mac) = hook.header("lifeboat-signature").unwrap().split_once(",v1=").unwrap();
    assert_eq!(mac, openssl_says("k3y", &format!("{}.{}", at.strip_prefix("t=").unwrap(), hook.text())));
    let page = heard.iter().find(|one| one.path == "/v2/enqueue").unwrap().json();
    assert_eq!((&page["event_action"], &page["routing_key"]), (&"trigger".into(), &"R0UTINGKEY".into()));
    assert_eq!(page["dedup_key"], format!("lifeboat/{key}"));

    // Nothing is told twice.
    run(&["notify", "--once"]).expect(0);
    assert_eq!(ears.heard().len(), 3);
    let listed = run(&["alarms", "--output", "json"]).expect(3).json();
    assert_eq!(listed["alarms"][0]["state"], "open");

    // Somebody takes it on; who is told of it hears that.
    let wrong = run(&["ack", "ordres"]).expect(2);
    assert!(wrong.stderr.contains("there is no alarm") && wrong.stderr.contains("hint:"), "{}", wrong.stderr);
    run(&["ack", "orders", "--by", "ann", "--why", "on it", "--for", "4h"]).expect(0);
    run(&["notify", "--once"]).expect(0);
    let page = ears.heard().into_iter().rfind(|one| one.path == "/v2/enqueue").unwrap().json();
    assert_eq!((&page["event_action"], &page["dedup_key"]), (&"acknowledge".into(), &format!("lifeboat/{key}").into()));
    let listed = run(&["alarms", "--output", "json"]).expect(0).json();
    assert_eq!(
        (&listed["alarms"][0]["state"], &listed["alarms"][0]["acknowledged"]["by"]),
        (&"acknowledged".into(), &"ann".into())
    );

    // A later pass resolves it.
    bench.drilled(&opened, "orders", Verdict::Proven).await;
    run(&["notify", "--once"]).expect(0);
    let last = ears.heard().into_iter().rfind(|one| one.path == "/in").unwrap();
    assert_eq!(alarms_of(&last), [("resolved".to_owned(), key.clone())]);
    let page = ears.heard().into_iter().rfind(|one| one.path == "/v2/enqueue").unwrap().json();
    assert_eq!(page["event_action"], "resolve");
    assert!(run(&["ack", "orders"]).expect(2).stderr.contains("no alarm of the policy orders is open"));
    // No secret is in what was told, in the catalog, or on the screen.
    let catalog = std::fs::read(bench.path("lifeboat.db")).unwrap();
    for secret in ["k3y", "R0UTINGKEY", "SECRETPART"] {
        assert!(!catalog.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        for heard in ears.heard().iter().filter(|one| one.path == "/in") {
            assert!(!heard.text().contains(secret), "{secret}");
        }
    }
}

/// The notifiers of a bench, and an outbox to deliver from.
fn delivering(bench: &Bench) -> (Opened, Vec<Notifier>) {
    (bench.opened(), lifeboat::load::load(&bench.path("lifeboat.toml")).unwrap().config.watch.notifiers)
}

async fn at_time(opened: &Opened, notifiers: &[Notifier], now: Timestamp) -> Vec<Delivery> {
    deliver(&*opened.outbox, notifiers, &move || now).await.unwrap()
}

#[tokio::test]
async fn with_both_receivers_down_for_an_hour_nothing_is_lost_and_nothing_doubled() {
    if !Postman::here() {
        return;
    }
    let ears = Ears::open();
    let port = free_port();
    let bench = Bench::new(&format!(
        "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}/in\"\n\
         [[notify]]\nname = \"mail\"\nkind = \"email\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         from = \"lifeboat <lifeboat@example.com>\"\nto = [\"ann@example.com\"]\ntimeout = \"5s\"\n",
        ears.url()
    ));
    let opened = bench.opened();
    bench.backed_up(&opened, "orders", Span::from_secs(3_600)).await;
    // An hour in steps of a minute, in which things happen; the receiver over HTTP is ill, that of mail is not there at all.
    ears.answer_with(503);
    let (_, notifiers) = delivering(&bench);
    let begin = lifeboat::clock::now();
    let mut happened = 0;
    for minute in 0..60 {
        if minute % 20 == 0 {
            let verdict = if (minute / 20) % 2 == 0 { Verdict::Failed } else { Verdict::Proven };
            bench.drilled(&opened, "orders", verdict).await;
            // What waits for its time is not tried.
            bench.run(&["notify", "--once"]);
            happened += 1;
        }
        for one in at_time(&opened, &notifiers, begin + SignedDuration::from_mins(minute)).await {
            assert!(matches!(one.outcome, Outcome::PutOff { .. }), "{one:?}");
        }
    }
    assert_eq!(happened, 3);
    assert_eq!(opened.outbox.waiting(100).await.unwrap().len(), 6, "three letters to each");
    // It is tried more and more rarely: in an hour a dozen times, and not sixty.
    assert!((5..25).contains(&ears.heard().len()), "{}", ears.heard().len());
    assert!(bench.run(&["alarms"]).expect(3).stdout.contains("waits     a letter to mail"));

    // Both come back.
    ears.answer_with(200);
    let postman = Postman::start(port);
    let after = begin + SignedDuration::from_hours(2);
    for _ in 0..5 {
        at_time(&opened, &notifiers, after).await;
    }
    let taken: Vec<Vec<(String, String)>> = ears.taken().iter().map(alarms_of).collect();
    let key = format!("orders/drill_failed/{}", super::DRILL);
    let told = |news: &str| vec![(news.to_owned(), key.clone())];
    assert_eq!(taken, [told("opened"), told("resolved"), told("opened")], "all, once, in order");
    let ids = postman.ids(3);
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (3, 3), "all, once: {ids:?}");
    assert!(postman.text().contains("lifeboat ack") && postman.text().contains("CRITICAL"), "{}", postman.text());
    assert!(postman.port == port && opened.outbox.waiting(1).await.unwrap().is_empty());
    let post = opened.outbox.post().await.unwrap();
    assert!(post.by_notifier.values().all(|count| (count.delivered, count.given_up) == (3, 0)), "{post:?}");
}

#[tokio::test]
async fn killed_between_sending_and_marking_the_same_letter_goes_again_under_the_same_name() {
    let ears = Ears::open();
    let bench = Bench::new(&webhook(&ears));
    let opened = bench.opened();
    bench.backed_up(&opened, "orders", Span::from_secs(3_600)).await;
    bench.drilled(&opened, "orders", Verdict::Failed).await;
    // The receiver hears it and never answers for it; lifeboat is killed while it waits.
    ears.answer_with(0);
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let hung = format!("http://{}/in", slow.local_addr().unwrap());
    let before = std::fs::read_to_string(bench.path("lifeboat.toml")).unwrap();
    bench.write("lifeboat.toml", &before.replace(&format!("{}/in", ears.url()), &hung));
    let mut child = bench.command(&["notify", "--once"]).env("HOOK_KEY", "k3y").spawn().unwrap();
    let (stream, _) = slow.accept().unwrap();
    let mut first = String::new();
    let mut reader = BufReader::new(stream);
    while !first.to_ascii_lowercase().contains("idempotency-key") || !first.ends_with("\r\n") {
        reader.read_line(&mut first).unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let name = first
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("idempotency-key:").map(|id| id.trim().to_owned()))
        .unwrap();

    bench.write("lifeboat.toml", &before);
    ears.answer_with(200);
    let (_, notifiers) = delivering(&bench);
    let now = lifeboat::clock::now();
    assert_eq!(at_time(&opened, &notifiers, now).await, [], "who was killed may still be at it");
    let unsigned: Vec<Notifier> = lifeboat::load::load(&{
        bench.write("lifeboat.toml", &before.replace("secret_env = \"HOOK_KEY\"\n", ""));
        bench.path("lifeboat.toml")
    })
    .unwrap()
    .config
    .watch
    .notifiers;
    let later = now + SignedDuration::from_secs(120);
    let done = at_time(&opened, &unsigned, later).await;
    assert!(matches!(done.as_slice(), [Delivery { outcome: Outcome::Delivered(_), .. }]), "{done:?}");
    assert_eq!(ears.taken().len(), 1);
    assert_eq!(ears.taken()[0].header("idempotency-key"), Some(name.as_str()));
    assert_eq!(at_time(&opened, &unsigned, later + SignedDuration::from_hours(1)).await, []);
}

#[tokio::test]
async fn what_is_given_up_is_an_alarm_itself() {
    let (bad, good) = (Ears::open(), Ears::open());
    bad.answer_with(400);
    let hook = |name: &str, ears: &Ears| {
        format!("[[notify]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{}\"\n", ears.url())
    };
    let bench = Bench::new(&format!("{}{}", hook("bad", &bad), hook("good", &good)));
    let opened = bench.opened();
    bench.backed_up(&opened, "orders", Span::from_secs(3_600)).await;
    bench.drilled(&opened, "orders", Verdict::Failed).await;
    let said = bench.run(&["notify", "--once"]).expect(3);
    assert!(said.stdout.contains("given up"), "{}", said.stdout);
    bench.run(&["notify", "--once"]);
    let told: Vec<(String, String)> = good.taken().iter().flat_map(alarms_of).collect();
    assert!(told.contains(&("opened".to_owned(), "lifeboat/letter_given_up/bad".to_owned())), "{told:?}");
    let listed = bench.run(&["alarms", "--output", "json"]).expect(3).json();
    assert!(!listed["letters_given_up"].as_array().unwrap().is_empty());
    // A letter that arrives again resolves it.
    bad.answer_with(200);
    bench.drilled(&opened, "orders", Verdict::Proven).await;
    bench.run(&["notify", "--once"]).expect(0);
    bench.run(&["notify", "--once"]).expect(0);
    let told: Vec<(String, String)> = good.taken().iter().flat_map(alarms_of).collect();
    assert!(told.contains(&("resolved".to_owned(), "lifeboat/letter_given_up/bad".to_owned())), "{told:?}");
}

#[test]
fn a_test_letter_says_who_answered_what() {
    let ears = Ears::open();
    let bench = Bench::new(&format!(
        "[[notify]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\n\
         [[notify]]\nname = \"dead\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{}\"\n",
        ears.url(),
        free_port()
    ));
    let said = bench.run(&["notify", "--test", "--output", "json"]).expect(3).json();
    let tested: Vec<(&Value, &Value)> =
        said["tested"].as_array().unwrap().iter().map(|one| (&one["notifier"], &one["delivered"])).collect();
    assert_eq!(tested, [(&"hook".into(), &true.into()), (&"dead".into(), &false.into())]);
    assert!(ears.heard()[0].json()["subject"].as_str().unwrap().contains("TEST"));
    bench.run(&["notify", "--test", "hook"]).expect(0);
    assert!(bench.run(&["notify", "--test", "hok"]).expect(2).stderr.contains("did you mean `hook`?"));
    // A test is no alarm.
    bench.run(&["alarms"]).expect(0);
}

#[test]
fn bad_watching_is_told_with_its_place() {
    for (config, parts) in [
        ("[serve]\nlisten = \"0.0.0.0:9464\"", vec!["can be reached from other machines", "exposed = true"]),
        ("[serve]\nlisten = \"nowhere\"", vec!["is not an address with a port"]),
        (
            "[[notify]]\nname = \"a\"\nkind = \"slack\"\nurl = \"https://hooks.slack.com/x\"",
            vec!["is a secret", "url_env"],
        ),
        ("[[notify]]\nname = \"a\"\nkind = \"pagerduty\"", vec!["routing key"]),
        ("[[notify]]\nname = \"a\"\nkind = \"pager\"", vec!["did you mean \"pagerduty\"?"]),
        (
            "[[notify]]\nname = \"a\"\nkind = \"email\"\nhost = \"mail.example.com\"\nfrom = \"a@b.c\"\nto = [\"x\"]\ntls = \"none\"",
            vec!["in the clear", "is not a mail address"],
        ),
        ("[[notify]]\nname = \"a\"\nkind = \"webhook\"\nurl = \"http://u:hunter2@h/\"", vec!["holds a log-in"]),
        ("[[route]]\nto = [\"chat\"]", vec!["there is no notifier `chat`"]),
        (
            "[[route]]\nto = []\nquiet = [{ from = \"25:00\", to = \"7\" }]",
            vec!["`25:00` is not a time of day", "`7` is not"],
        ),
        ("[telemetry]\notlp = \"localhost:4318\"", vec!["http:// or https://"]),
        ("[log]\nformat = \"xml\"", vec!["`xml` is no value of `format`"]),
    ] {
        let bench = Bench::new(config);
        let said = bench.run(&["status"]).expect(2).stderr;
        for part in parts {
            assert!(said.contains(part), "{config}\n{said}");
        }
        assert!(said.contains("hint:") && !said.contains("hunter2"), "{said}");
    }
    assert!(
        Bench::new("[serve]\nlisten = \"0.0.0.0:9464\"\nexposed = true")
            .run(&["check", "--offline"])
            .stdout
            .contains("policy")
    );
    let bench = Bench::new("");
    assert!(bench.run(&["notify", "--once"]).expect(2).stderr.contains("nobody is configured"));
    assert!(bench.run(&["ack", "orders", "--for", "0s"]).expect(2).stderr.contains("no time at all"));
    assert!(bench.run(&["metrics", "--textfile", "x.txt"]).expect(2).stderr.contains(".prom"));
    assert!(bench.run(&["metrics", "--serve", "0.0.0.0:1"]).expect(2).stderr.contains("exposed = true"));
    assert!(policy("orders", "x").contains("orders"));
}
