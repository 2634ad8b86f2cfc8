//! `lifeboat wal stream` in the background, and a source for it.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::data::DATABASE;
use super::home::{Home, POLICY, walk};
use super::recovered::recovered;
use super::server::{Options, Server};

/// A server with small segments, a home whose policy receives its log, and a table of numbers.
pub struct Bench {
    pub server: Server,
    pub home: Home,
}

impl Bench {
    pub fn new(wal: &str) -> Bench {
        Bench::of(None, wal)
    }

    /// The same, of one major version.
    pub fn of(major: Option<u32>, wal: &str) -> Bench {
        let conf = "wal_sender_timeout = 5s".to_owned();
        let locale = if major.is_some() { "--locale=C" } else { "--locale=C.UTF-8" };
        let initdb = vec![locale, "--wal-segsize=1"];
        let server = Server::start_with(Options { conf, initdb, major, ..Options::default() });
        server.sql("postgres", &format!("create database {DATABASE}"));
        server.sql(DATABASE, "create table beat (n int primary key, at timestamptz not null)");
        let home = Home::new(&server, DATABASE);
        home.edit_policy(|text| format!("{text}\n[wal]\nstream = true\n{wal}\n"));
        Bench { server, home }
    }

    pub fn receiver(&self) -> Receiver {
        Receiver::start(&self.home)
    }

    pub fn backup(&self) {
        self.home.run(&["backup", POLICY, "--job", "physical"]).expect(0);
    }

    pub fn beat(&self, from: i32, to: i32) {
        for n in from..=to {
            self.server.sql(DATABASE, &format!("insert into beat values ({n}, clock_timestamp())"));
        }
    }

    /// Waits until everything that the server has written is durable at the receiver.
    pub fn wait_until_durable(&self, receiver: &mut Receiver) {
        let end = self.server.sql(DATABASE, "select pg_current_wal_flush_lsn()");
        let sql = format!(
            "select coalesce(bool_or(flush_lsn >= '{end}'), false) from pg_stat_replication where application_name = 'lifeboat'"
        );
        let begun = Instant::now();
        while self.server.sql(DATABASE, &sql) != "t" {
            receiver.must_run();
            assert!(begun.elapsed() < Duration::from_secs(60), "not durable: {}", receiver.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Restores to the end of the log and gives how many numbers are there; none may be missing in the middle.
    pub fn brought(&self, name: &str) -> i32 {
        recovered(&self.home, &self.server, name, &["--until", "latest"]).0
    }
}

/// `lifeboat wal stream` in the background.
pub struct Receiver {
    pub child: Child,
    said: PathBuf,
}

impl Receiver {
    pub fn start(home: &Home) -> Receiver {
        Receiver::start_with(home, &[])
    }

    pub fn start_with(home: &Home, args: &[&str]) -> Receiver {
        let said = home.path().join(format!("said-{}.txt", walk(home.path()).len()));
        let file = std::fs::File::create(&said).unwrap();
        let mut command = home.command(&[&["wal", "stream", POLICY], args].concat());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let mut receiver = Receiver { child, said };
        receiver.wait_for("receiving the log");
        receiver
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    pub fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the receiver ended with {status}: {}", self.said());
        }
    }

    pub fn wait_for(&mut self, words: &str) {
        let begun = Instant::now();
        while !self.said().contains(words) {
            self.must_run();
            assert!(begun.elapsed() < Duration::from_secs(60), "`{words}` was not said: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to stop, and waits; gives the exit code.
    pub fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        let code = self.child.wait().unwrap().code().unwrap();
        assert_eq!(code, 0, "{}", self.said());
        code
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
