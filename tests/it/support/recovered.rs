//! Servers over restored folders, once they have left recovery.

use std::path::{Path, PathBuf};

use super::data::DATABASE;
use super::home::{Home, POLICY};
use super::server::Server;

/// A server over a restored folder, once it has left recovery. It archives nothing.
pub fn started(like: &Server, folder: PathBuf) -> Server {
    let conf = folder.join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&conf).unwrap_or_default();
    std::fs::write(&conf, text + "archive_mode = off\n").unwrap();
    let mut back = Server::adopt(like, folder);
    back.launch();
    out_of_recovery(&back);
    back
}

/// Waits until a server has left recovery.
pub fn out_of_recovery(server: &Server) {
    for _ in 0..1500 {
        if server.try_sql(DATABASE, "select pg_is_in_recovery()").is_ok_and(|answer| answer == "f") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("recovery did not end: {}", server.log());
}

/// Restores with these arguments, starts a server on it, and gives how many numbers are there, of which none is missing in the middle.
pub fn recovered(home: &Home, like: &Server, name: &str, args: &[&str]) -> (i32, Server) {
    let to = home.path().join(name);
    restored(home, &to, args);
    let back = started(like, to);
    (numbers(&back), back)
}

/// Restores with these arguments.
pub fn restored(home: &Home, to: &Path, args: &[&str]) {
    home.run(&[&["restore", POLICY, "--to", to.to_str().unwrap()], args].concat()).expect(0);
}

/// How many numbers there are in `beat`, from 1 on without a gap.
pub fn numbers(server: &Server) -> i32 {
    let seen = server.sql(DATABASE, "select count(*), coalesce(max(n), 0) from beat");
    let (count, greatest) = seen.split_once('|').unwrap();
    assert_eq!(count, greatest, "a number is missing in the middle");
    count.parse().unwrap()
}
