//! The user's own questions to the restored database.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Subject, trouble};
use crate::domain::check::{Assertion, Broke, Expectation, Finding, Stop};
use crate::domain::inventory::Object;
use crate::domain::units::Span;
use crate::judge::integrity::{self, Comparison};
use crate::probe::{self, Endpoint, ProbeError, session};

/// The latency that counts as ready when none is given.
const READY_WITHIN: Span = Span::from_secs(1);

/// Asks in a read-only transaction and compares the answer.
pub(super) async fn assert(
    subject: &Subject<'_>,
    assertion: Option<&Assertion>,
    limit: Span,
) -> Result<Comparison, Stop> {
    let hint = "write it in the drill: check = { name = \"assert\", sql = \"select …\", is = true }";
    let assertion = assertion.ok_or_else(|| Broke::hinted("the check has no question", hint))?;
    let endpoint = endpoint(subject, assertion);
    let client = connect(&endpoint, limit).await?;
    let mut comparison = Comparison::default();
    comparison.looked(1, "questions");
    match ask(&client, &assertion.sql).await {
        Ok(answer) => comparison.findings.extend(judge(assertion, &answer)?),
        Err(Refused::NoSuchObject(broke)) => match lost(subject, &endpoint, &broke.error).await {
            Some(finding) => comparison.findings.push(finding),
            None => return Err(broke.into()),
        },
        Err(Refused::Otherwise(stop)) => return Err(stop),
    }
    Ok(comparison)
}

/// A table or column that the server did not find, that the source had, and that the copy really has not: then it is not the question that is
/// wrong. None: nothing of that kind can be said.
async fn lost(subject: &Subject<'_>, endpoint: &Endpoint, error: &str) -> Option<Finding> {
    let (before, _) = subject.databases.iter().find(|(_, now)| *now == endpoint.database)?;
    let expected = subject.manifest().fingerprint.databases.iter().find(|one| one.name == *before)?;
    let client = session::read_only(endpoint).await.ok()?;
    let there = probe::objects(&client).await.ok()?;
    let gone = expected.objects.iter().find(|one| {
        let dropped = expected.changed_meanwhile.iter().any(|c| c.kind == one.kind && c.identity == one.identity);
        named(one, error) && !dropped && !there.iter().any(|now| now.kind == one.kind && now.identity == one.identity)
    })?;
    let message = "the question asks for something that the source had and that is not in the restored copy";
    Some(Finding::new("assert_object_missing", format!("{} {}", gone.kind, gone.identity), message))
}

/// Whether the server's words name this table or column: with its schema or table, or without.
fn named(object: &Object, error: &str) -> bool {
    if !matches!(object.kind.as_str(), "table" | "view" | "materialized view" | "foreign table" | "column") {
        return false;
    }
    let bare = object.identity.rsplit('.').next().unwrap_or_default().trim_matches('"');
    let whole = |c: char| !(c.is_alphanumeric() || c == '_');
    !bare.is_empty() && error.split(whole).any(|word| word == bare)
}

/// The rows of the heartbeat, as far as they came back.
pub(super) async fn heartbeat(subject: &Subject<'_>) -> Result<Comparison, Stop> {
    let endpoint = subject.server.with_database(&subject.default_database);
    let client = session::read_only(&endpoint).await.map_err(Broke::from)?;
    let seen = probe::heartbeat::beats(&client).await.map_err(|error| trouble(error, "table lifeboat.heartbeat"))?;
    Ok(integrity::heartbeat(seen.as_ref(), &subject.heartbeat))
}

/// Asks, and the answer must come within the check's time and be as expected.
pub(super) async fn readiness(
    subject: &Subject<'_>,
    assertion: Option<&Assertion>,
    within: Option<Span>,
) -> Result<Comparison, Stop> {
    let within = within.unwrap_or(READY_WITHIN);
    let plain = Assertion { sql: "select true".to_owned(), database: None, expect: Expectation::Is(true) };
    let assertion = assertion.unwrap_or(&plain);
    let endpoint = endpoint(subject, assertion);
    // A late answer is waited for, within reason: how late it was is worth knowing.
    let patience = Span::from_std(within.to_std().saturating_mul(10).max(Duration::from_secs(10)));
    let client = connect(&endpoint, patience).await?;
    let began = Instant::now();
    let answer = ask(&client, &assertion.sql).await;
    let took = Span::from_std(began.elapsed());
    let mut comparison = Comparison::default();
    comparison.looked(1, "questions");
    if took > within {
        let message = "the answer did not come within the latency that counts as ready";
        let finding = Finding::new("readiness_slow", format!("database {}", endpoint.database), message);
        comparison.findings.push(finding.with(format!("within {within}"), format!("after {took}")));
        return Ok(comparison);
    }
    comparison.findings.extend(judge(assertion, &answer.map_err(Stop::from)?)?);
    Ok(comparison)
}

fn endpoint(subject: &Subject<'_>, assertion: &Assertion) -> Endpoint {
    let now = assertion.database.as_ref().map(|name| {
        let renamed = subject.databases.iter().find(|(before, _)| before == name);
        renamed.map_or(name.as_str(), |(_, now)| now.as_str())
    });
    subject.server.with_database(now.unwrap_or(&subject.default_database))
}

/// Values print under fixed settings, names are looked up as the database itself says: people write `orders`, not `public.orders`.
async fn connect(endpoint: &Endpoint, limit: Span) -> Result<Client, Stop> {
    let client = session::read_only(endpoint).await.map_err(|error| trouble(error, "database"))?;
    let milliseconds = limit.0.as_millis().clamp(1, i128::from(i32::MAX));
    let settings = format!(
        "reset search_path; set statement_timeout = {milliseconds}; set lock_timeout = {milliseconds}; \
         begin transaction read only"
    );
    session::run(&client, "preparing to ask", &settings).await.map_err(|error| trouble(error, "database"))?;
    Ok(client)
}

/// What came back. Nothing of it is ever shown as it is, unless it is a number or a truth value.
#[derive(Debug, PartialEq)]
struct Answer {
    /// Whether the column is a boolean.
    truth: bool,
    /// The rows' one value, as PostgreSQL prints it; the first two rows are enough to know.
    values: Vec<Option<String>>,
}

/// Why there is no answer.
enum Refused {
    /// A table or a column is not there.
    NoSuchObject(Broke),
    /// Anything else.
    Otherwise(Stop),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Stop {
        match refused {
            Refused::NoSuchObject(broke) => broke.into(),
            Refused::Otherwise(stop) => stop,
        }
    }
}

impl From<Broke> for Refused {
    fn from(broke: Broke) -> Refused {
        Refused::Otherwise(broke.into())
    }
}

/// Preparing first makes sure that it is one statement that gives one column: what is run then cannot end the read-only transaction.
async fn ask(client: &Client, sql: &str) -> Result<Answer, Refused> {
    let doing = "asking the question";
    let failed = |error: tokio_postgres::Error| {
        let error = ProbeError::sql(doing, &error);
        let nothing_there = error.is_of_no_such_object();
        match trouble(error, "the asked data") {
            Stop::Broke(broke) => {
                let broke = Broke { hint: Some("correct the question in the drill".to_owned()), ..broke };
                if nothing_there { Refused::NoSuchObject(broke) } else { Refused::Otherwise(broke.into()) }
            }
            found @ Stop::Found(_) => Refused::Otherwise(found),
        }
    };
    let prepared = client.prepare(sql).await.map_err(failed)?;
    let [column] = prepared.columns() else {
        let error = format!("the question gives {} columns, and must give one", prepared.columns().len());
        return Err(Broke::hinted(error, "write a single select of one value").into());
    };
    if !prepared.params().is_empty() {
        return Err(Broke::hinted("the question has parameters", "write its values into it").into());
    }
    let messages = client.simple_query(sql).await.map_err(failed)?;
    let values = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    });
    Ok(Answer { truth: *column.type_() == Type::BOOL, values: values.take(2).collect() })
}

fn judge(assertion: &Assertion, answer: &Answer) -> Result<Option<Finding>, Broke> {
    let expected = match &assertion.expect {
        Expectation::Is(truth) => truth.to_string(),
        Expectation::Equals(text) => text.clone(),
        Expectation::Within(low, high) => format!("{low} to {high}"),
    };
    let failed = |message: &str, found: String| {
        Some(
            Finding::new("assert_failed", format!("answer of {}", one_line(&assertion.sql)), message)
                .with(&expected, found),
        )
    };
    let value = match answer.values.as_slice() {
        [] => return Ok(failed("the question has no answer: it gave no row", "no row".to_owned())),
        [None] => return Ok(failed("the answer is NULL", "NULL".to_owned())),
        [Some(value)] => value.as_str(),
        [_, _, ..] => {
            return Err(Broke::hinted(
                "the question gave several rows, and must give one",
                "add an aggregate or LIMIT 1",
            ));
        }
    };
    let right = match &assertion.expect {
        Expectation::Is(truth) if answer.truth => (value == "t") == *truth,
        Expectation::Is(_) => {
            return Err(Broke::hinted("the answer is not a truth value", "ask for one: select count(*) > 0 from …"));
        }
        Expectation::Equals(text) => value == text,
        Expectation::Within(low, high) => match value.parse::<f64>() {
            Ok(number) => (*low..=*high).contains(&number),
            Err(_) => return Err(Broke::hinted("the answer is not a number", "ask for one: select count(*) from …")),
        },
    };
    Ok(if right { None } else { failed("the answer is not the expected one", shown(value, answer.truth)) })
}

/// Reports hold no row's content: a text is described, not shown.
fn shown(value: &str, truth: bool) -> String {
    if truth {
        return if value == "t" { "true" } else { "false" }.to_owned();
    }
    if value.len() <= 40 && value.parse::<f64>().is_ok() {
        return value.to_owned();
    }
    format!("another text, of {} characters", value.chars().count())
}

fn one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        let answer = |truth, values: &[Option<&str>]| Answer {
            truth,
            values: values.iter().map(|value| value.map(str::to_owned)).collect(),
        };
        let is = Expectation::Is;
        let equals = |text: &str| Expectation::Equals(text.to_owned());
        for (expect, answer, word) in [
            (is(true), answer(true, &[Some("t")]), "right"),
            (is(true), answer(true, &[Some("f")]), "false"),
            (is(false), answer(true, &[Some("f")]), "right"),
            (is(true), answer(true, &[None]), "NULL"),
            (is(true), answer(true, &[]), "no row"),
            (is(true), answer(true, &[Some("t"), Some("t")]), "broke"),
            (is(true), answer(false, &[Some("true")]), "broke"),
            (equals("42"), answer(false, &[Some("42")]), "right"),
            (equals("42"), answer(false, &[Some("43")]), "43"),
            (equals("Ann"), answer(false, &[Some("Bob Secret")]), "another text, of 10 characters"),
            (Expectation::Within(1.0, 10.0), answer(false, &[Some("10")]), "right"),
            (Expectation::Within(1.0, 10.0), answer(false, &[Some("10.01")]), "10.01"),
            (Expectation::Within(1.0, 10.0), answer(false, &[Some("NaN")]), "NaN"),
            (Expectation::Within(1.0, 10.0), answer(false, &[Some("many")]), "broke"),
        ] {
            let says = format!("{expect:?} of {answer:?}");
            let assertion = Assertion { sql: "select 1".to_owned(), database: None, expect };
            let found = match judge(&assertion, &answer) {
                Ok(None) => "right".to_owned(),
                Ok(Some(finding)) => finding.found.unwrap(),
                Err(_) => "broke".to_owned(),
            };
            assert_eq!(found, word, "{says}");
        }
    }
}
