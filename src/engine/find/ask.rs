//! The question, put to a restored server: read-only, and of its answer only whether it holds.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::Trouble;
use crate::domain::check::{Broke, Finding};
use crate::probe::{Endpoint, Fault, ProbeError, session};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Holds,
    /// And why.
    Not(String),
}

/// Asks. A table, column, function, schema or database that is not there is an answer: it does not hold.
pub(super) async fn ask(server: &Endpoint, database: &str, sql: &str) -> Result<Answer, Trouble> {
    let client = session::read_only(server).await.map_err(trouble)?;
    let doing = "looking for the database";
    let there = client.query_opt("select 1 as there from pg_database where datname = $1", &[&database]).await;
    if there.map_err(|error| trouble(ProbeError::sql(doing, &error)))?.is_none() {
        return Ok(Answer::Not(format!("there is no database {database}")));
    }
    let client = session::read_only(&server.with_database(database)).await.map_err(trouble)?;
    // People write `orders`, not `public.orders`: names are looked up as the database itself says.
    let milliseconds = PATIENCE.as_millis();
    let settings = format!(
        "reset search_path; set statement_timeout = {milliseconds}; set lock_timeout = {milliseconds}; begin transaction read only"
    );
    session::run(&client, "preparing to ask", &settings).await.map_err(trouble)?;
    match answer(&client, sql).await {
        Ok(answer) => Ok(answer),
        Err(Refused::Server(error)) => refused(&error),
        Err(Refused::Shape(broke)) => Err(broke.into()),
    }
}

enum Refused {
    Server(tokio_postgres::Error),
    Shape(Broke),
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Refused {
        Refused::Server(error)
    }
}

/// Preparing first makes sure that it is one statement that gives one truth value: what is run then cannot end the read-only transaction.
async fn answer(client: &Client, sql: &str) -> Result<Answer, Refused> {
    let wrong = |what: String| {
        Refused::Shape(Broke::hinted(what, "ask for one truth value: --holds 'select count(*) > 0 from …'"))
    };
    let prepared = client.prepare(sql).await?;
    match prepared.columns() {
        [column] if *column.type_() == Type::BOOL => {}
        [column] => {
            return Err(wrong(format!(
                "the question gives a value of type {}, and must give a truth value",
                column.type_()
            )));
        }
        columns => return Err(wrong(format!("the question gives {} columns, and must give one", columns.len()))),
    }
    if !prepared.params().is_empty() {
        return Err(wrong("the question has parameters: write its values into it".to_owned()));
    }
    let messages = client.simple_query(sql).await?;
    let mut values = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0)),
        _ => None,
    });
    match (values.next(), values.next()) {
        (Some(Some("t")), None) => Ok(Answer::Holds),
        (Some(Some(_)), None) => Ok(Answer::Not("the answer is false".to_owned())),
        (Some(None), None) => Ok(Answer::Not("the answer is NULL".to_owned())),
        (None, _) => Err(wrong("the question gave no row, and must give one".to_owned())),
        (Some(_), Some(_)) => Err(wrong("the question gave several rows, and must give one".to_owned())),
    }
}

/// What a refusal means.
fn refused(error: &tokio_postgres::Error) -> Result<Answer, Trouble> {
    const NOT_THERE: [SqlState; 5] = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::INVALID_CATALOG_NAME,
    ];
    let words = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
    match error.code() {
        Some(code) if NOT_THERE.contains(code) => Ok(Answer::Not(words)),
        Some(code) if *code == SqlState::SYNTAX_ERROR => {
            let what = format!("the question cannot be asked: {words}");
            Err(Trouble::Misasked(Broke::hinted(what, "write one select of one truth value: --holds 'select …'")))
        }
        _ => Err(trouble(ProbeError::sql("asking the question", error))),
    }
}

/// An error while a restored copy was asked: a finding if the server says that its data are damaged.
fn trouble(error: ProbeError) -> Trouble {
    match error.fault() {
        Fault::Damaged => Finding::new("unreadable", "the asked data", error.to_string()).into(),
        Fault::TooLong => {
            let hint = format!("an answer may take {} minutes: ask for less", PATIENCE.as_secs() / 60);
            Broke::hinted(error.to_string(), hint).into()
        }
        Fault::Denied | Fault::Other => {
            let hint = match &error {
                ProbeError::Sql { code: Some(_), .. } => Some("correct the question".to_owned()),
                _ => error.hint(),
            };
            Broke { error: error.to_string(), hint }.into()
        }
    }
}
