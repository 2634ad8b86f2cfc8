//! Roles, memberships and settings. The script is never given to psql, which would run a program for `\!`: each statement
//! is looked at, and only those that `pg_dumpall --globals-only` writes are run.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::statements::{Piece, Token, split, tokens};
use crate::domain::check::{Broke, Finding, Stop};

/// What to do with a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Deed {
    /// It is run as it is.
    Run,
    /// It is about the session of who reads the script, and not needed.
    Skip,
    /// A tablespace: made inside of the data folder.
    Tablespace { name: String, owner: Option<String> },
    /// Not one of pg_dumpall's.
    Refuse,
}

fn deed(statement: &str) -> Result<Deed, String> {
    let tokens = tokens(statement)?;
    let word = |at: usize| match tokens.get(at) {
        Some((Token::Word(word), ..)) => word.as_str(),
        _ => "",
    };
    let raw = |at: usize| tokens.get(at).map(|(_, from, to)| statement[*from..*to].to_owned());
    let has = |wanted: &str| tokens.iter().position(|(token, ..)| *token == Token::Word(wanted.to_owned()));
    // A second statement inside of one cannot be: the semicolon would have ended it.
    Ok(match (word(0), word(1)) {
        ("create" | "alter", "role") => Deed::Run,
        ("create", "tablespace") => {
            let owner = has("owner").and_then(|at| raw(at + 1));
            raw(2).map_or(Deed::Refuse, |name| Deed::Tablespace { name, owner })
        }
        ("alter", "tablespace") => Deed::Run,
        ("alter", "database") if has("set").is_some() => Deed::Run,
        ("comment", "on") if matches!(word(2), "role" | "tablespace") => Deed::Run,
        ("security", "label") if has("on").is_some_and(|at| matches!(word(at + 1), "role" | "tablespace")) => Deed::Run,
        ("grant" | "revoke", _) => match has("on") {
            // A membership.
            None => Deed::Run,
            Some(at) if matches!(word(at + 1), "parameter" | "tablespace") => Deed::Run,
            Some(_) => Deed::Refuse,
        },
        ("set", "role" | "session" | "local") => Deed::Refuse,
        ("set", _) => Deed::Skip,
        ("select", "pg_catalog") if word(3) == "set_config" => Deed::Skip,
        _ => Deed::Refuse,
    })
}

/// The first words of a statement: what it is about, without what could be a password.
fn title(statement: &str) -> String {
    let end = tokens(statement).ok().and_then(|tokens| tokens.get(2).map(|token| token.2)).unwrap_or(0);
    statement.get(..end).unwrap_or_default().to_owned()
}

/// What came of the globals.
#[derive(Debug, Default)]
pub(super) struct Globals {
    /// For people.
    pub notes: Vec<String>,
    /// Whether tablespaces were left out.
    pub no_tablespaces: bool,
}

/// Runs the globals as the superuser that `client` is.
pub(super) async fn run(client: &Client, script: &str, superuser: &str, major: u32) -> Result<Globals, Stop> {
    let object = || "globals.sql".to_owned();
    let pieces = split(script).map_err(|why| Finding::new("globals_damaged", object(), why))?;
    let (mut findings, mut globals) = (Vec::new(), Globals::default());
    for piece in pieces {
        let statement = match piece {
            Piece::Backslash(line) if line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ") => continue,
            Piece::Backslash(line) => {
                let word = line.split_whitespace().next().unwrap_or_default();
                let message = format!("it holds a command for psql ({word}), which pg_dumpall does not write");
                findings.push(Finding::new("globals_statement", object(), message));
                continue;
            }
            Piece::Sql(statement) => statement,
        };
        let deed = deed(&statement).map_err(|why| Finding::new("globals_damaged", object(), why))?;
        let run = match deed {
            Deed::Skip => continue,
            Deed::Run => statement.clone(),
            Deed::Tablespace { name, .. } if major < 15 => {
                globals
                    .notes
                    .push(format!("tablespace {name} was left out: before version 15 it needs a folder of its own"));
                globals.no_tablespaces = true;
                continue;
            }
            Deed::Tablespace { name, owner } => {
                globals.notes.push(format!("tablespace {name} was made inside of the scratch's data folder"));
                let allow = client.simple_query("set allow_in_place_tablespaces = on").await;
                allow.map_err(|error| gone(&error).unwrap_or_else(|| Broke::new(error.to_string())))?;
                let owner = owner.map(|owner| format!(" owner {owner}")).unwrap_or_default();
                format!("create tablespace {name}{owner} location ''")
            }
            Deed::Refuse => {
                let message = "it holds a statement that pg_dumpall does not write; it was not run";
                findings.push(Finding::new("globals_statement", title(&statement), message));
                continue;
            }
        };
        if let Err(error) = client.simple_query(&run).await {
            if let Some(broke) = gone(&error) {
                return Err(broke.into());
            }
            // The cluster was made with this one.
            let own = error.code() == Some(&SqlState::DUPLICATE_OBJECT) && creates(&statement, superuser);
            if !own {
                let said = crate::probe::endpoint::root_cause(&error);
                findings.push(Finding::new("globals_statement", title(&statement), format!("it was refused: {said}")));
            }
        }
    }
    if findings.is_empty() { Ok(globals) } else { Err(Stop::Found(findings)) }
}

fn creates(statement: &str, role: &str) -> bool {
    let tokens = tokens(statement).unwrap_or_default();
    let name = tokens.get(2).map(|(token, ..)| token);
    matches!(name, Some(Token::Word(name) | Token::Quoted(name)) if name == role)
        && tokens.first().is_some_and(|(token, ..)| *token == Token::Word("create".to_owned()))
}

/// The connection is lost: says nothing about the backup.
pub(super) fn gone(error: &tokio_postgres::Error) -> Option<Broke> {
    let lost = error.is_closed() || error.as_db_error().is_none();
    lost.then(|| {
        let why = crate::probe::endpoint::root_cause(error);
        Broke::hinted(format!("the connection to the server was lost: {why}"), "see the server's log")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_pg_dumpall_writes_is_run() {
        for (statement, expected) in [
            ("CREATE ROLE a", Deed::Run),
            ("ALTER ROLE a WITH SUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x'", Deed::Run),
            ("ALTER ROLE a SET search_path TO 'x'", Deed::Run),
            ("GRANT a TO b GRANTED BY c", Deed::Run),
            ("GRANT SET ON PARAMETER work_mem TO a", Deed::Run),
            ("COMMENT ON ROLE a IS 'x'", Deed::Run),
            ("SET standard_conforming_strings = on", Deed::Skip),
            ("SELECT pg_catalog.set_config('search_path', '', false)", Deed::Skip),
            (
                "CREATE TABLESPACE \"t s\" OWNER o LOCATION '/x'",
                Deed::Tablespace { name: "\"t s\"".into(), owner: Some("o".into()) },
            ),
            ("GRANT ALL ON TABLE pg_authid TO a", Deed::Refuse),
            ("COPY (select 1) TO PROGRAM 'x'", Deed::Refuse),
            ("SELECT pg_read_file('x')", Deed::Refuse),
            ("SET ROLE a", Deed::Refuse),
            ("SET SESSION AUTHORIZATION a", Deed::Refuse),
            ("DO $$ begin end $$", Deed::Refuse),
            ("ALTER SYSTEM SET archive_command = 'x'", Deed::Refuse),
            ("DROP ROLE a", Deed::Refuse),
            ("\"create\" role a", Deed::Refuse),
        ] {
            assert_eq!(deed(statement).unwrap(), expected, "{statement}");
        }
    }

    #[test]
    fn a_password_is_not_in_a_title() {
        assert_eq!(title("ALTER ROLE a PASSWORD 'hush'"), "ALTER ROLE a");
    }
}
