//! The stage itself: a server starts, answers, dies.

use crate::support::server::Server;

#[test]
fn a_test_server_answers_and_can_be_lost() {
    let mut server = Server::start();
    assert_eq!(server.sql("postgres", "select 40 + 2"), "42");
    server.destroy();
    assert!(server.try_sql("postgres", "select 1").is_err());
}
