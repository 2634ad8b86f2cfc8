//! The user's own questions to a restored copy.

use super::*;

#[test]
fn questions_are_asked_read_only_and_answers_compared() {
    let source = Server::start();
    source.sql("postgres", "create database shop");
    source.sql(
        "shop",
        "create schema app; alter database shop set search_path = app; create table app.orders (id int, status text);
        insert into app.orders values (1, 'paid'), (2, 'secret words')",
    );
    let case = Case::logical(&source);
    let ask = |sql: &str, expect: Expectation| {
        let assertion = Assertion { sql: sql.to_owned(), database: Some("shop".to_owned()), expect };
        let timeout = Some(Span::from_secs(2));
        let result = case.run(&Check { assertion: Some(assertion), timeout, ..plain(CheckName::Assert) });
        match result.outcome {
            Outcome::Failed(findings) => format!("failed: {}", findings[0].found.clone().unwrap()),
            Outcome::Broke { error, .. } => format!("broke: {error}"),
            other => other.word().to_owned(),
        }
    };
    let is = Expectation::Is;
    assert_eq!(ask("select count(*) = 2 from orders", is(true)), "passed");
    assert_eq!(ask("select count(*) = 2 from orders;", is(false)), "failed: true");
    assert_eq!(ask("select count(*) from orders", Expectation::Within(2.0, 2.0)), "passed");
    assert_eq!(ask("select count(*) from orders", Expectation::Within(3.0, 9.0)), "failed: 2");
    assert_eq!(ask("select status from orders where id = 1", Expectation::Equals("paid".to_owned())), "passed");
    let other = ask("select status from orders where id = 2", Expectation::Equals("paid".to_owned()));
    assert_eq!(other, "failed: another text, of 12 characters", "no row's content is shown");
    assert_eq!(ask("select status from orders where id = 3", Expectation::Equals("paid".to_owned())), "failed: no row");
    assert!(ask("select status from nowhere", is(true)).starts_with("broke"));
    assert!(ask("select id, status from orders", is(true)).contains("2 columns"));
    assert!(ask("select id > 0 from orders", is(true)).contains("several rows"));
    assert!(ask("commit; drop table orders", is(true)).starts_with("broke"));
    assert!(ask("commit", is(true)).contains("0 columns"));
    assert!(
        ask("with gone as (delete from orders returning 1) select count(*) > 0 from gone", is(true))
            .starts_with("broke")
    );
    assert!(ask("select pg_sleep(60)::text = ''", is(true)).starts_with("broke"));
    assert_eq!(case.copy.sql("shop", "select count(*) from app.orders"), "2");

    // What the source had and the copy lost is not the question's fault; what neither ever had is.
    case.sql("alter table app.orders drop column status");
    let asked = |sql: &str| {
        let assertion = Assertion { sql: sql.to_owned(), database: Some("shop".to_owned()), expect: is(true) };
        case.run(&Check { assertion: Some(assertion), ..plain(CheckName::Assert) })
    };
    let column = "column app.orders.status";
    assert!(has(&asked("select o.status = 'paid' from orders o limit 1"), "assert_object_missing", column));
    assert!(matches!(asked("select nothing from orders").outcome, Outcome::Broke { .. }));
    case.sql("create table app.kept as table app.orders; drop table app.orders");
    assert!(has(&asked("select count(*) > 0 from orders"), "assert_object_missing", "table app.orders"));
    assert!(matches!(asked("select count(*) > 0 from orderz").outcome, Outcome::Broke { .. }));
    case.sql("alter table app.kept rename to orders");

    let ready = |sql: &str, within: i64| {
        let assertion = Assertion { sql: sql.to_owned(), database: None, expect: is(true) };
        case.run(&Check {
            assertion: Some(assertion),
            timeout: Some(Span::from_millis(within)),
            ..plain(CheckName::Readiness)
        })
    };
    assert_eq!(ready("select count(*) > 0 from orders", 2000).outcome, Outcome::Passed);
    assert!(has(&ready("select pg_sleep(0.4) is not null", 100), "readiness_slow", "database shop"));
    assert!(matches!(ready("select x from nowhere", 2000).outcome, Outcome::Broke { .. }));
}
