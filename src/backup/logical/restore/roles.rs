//! Roles for a server that is not ours: those that it lacks are made, those that it has are never touched.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::statements::{Piece, Token, split, tokens};
use super::{column, quoted, run};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::transcript::RestoreFacts;
use crate::probe::endpoint::root_cause;

const HINT: &str = "restore as a superuser, or make the roles by hand and leave --with-roles out";
/// What a new role is without being told, and what only a superuser may say.
const SAID_IN_VAIN: [&str; 3] = ["nosuperuser", "noreplication", "nobypassrls"];

/// What is to be made.
pub(super) struct Roles {
    statements: Vec<String>,
    /// The roles that the server lacked.
    missing: Vec<String>,
    superuser: bool,
}

impl Roles {
    /// Reads the script of globals, and what the server has. Nothing is written yet.
    pub(super) async fn read(client: &Client, script: &str) -> Result<Roles, Stop> {
        let there: BTreeSet<String> = column(client, "select rolname from pg_roles").await?.into_iter().collect();
        let answer = column(client, "select rolsuper or rolcreaterole from pg_roles where rolname = current_user");
        let may = answer.await?.first().is_some_and(|answer| answer == "t");
        let answer = column(client, "select rolsuper from pg_roles where rolname = current_user").await?;
        let superuser = answer.first().is_some_and(|answer| answer == "t");
        let damaged = |why: String| Stop::from(Finding::new("globals_damaged", "globals.sql", why));
        let (mut statements, mut missing) = (Vec::new(), Vec::<String>::new());
        for piece in split(script).map_err(damaged)? {
            let Piece::Sql(statement) = piece else { continue };
            match deed(&statement).map_err(damaged)? {
                Deed::Create(role) if !there.contains(&role) => missing.push(role),
                Deed::About(role) if missing.contains(&role) => {}
                Deed::Member(roles) if roles.iter().any(|role| missing.contains(role)) => {}
                Deed::Create(_) | Deed::About(_) | Deed::Member(_) | Deed::Nothing => continue,
            }
            statements.push(if superuser { statement } else { without_vain(&statement).map_err(damaged)? });
        }
        if !missing.is_empty() && !may {
            let list = missing.join(", ");
            return Err(
                Broke::hinted(format!("the role may not make the roles that this server lacks: {list}"), HINT).into()
            );
        }
        Ok(Roles { statements, missing, superuser })
    }

    /// Makes them. That the server refuses one says nothing about the backup.
    pub(super) async fn make(&self, client: &Client, facts: &mut RestoreFacts) -> Result<(), Broke> {
        for statement in &self.statements {
            if let Err(error) = client.simple_query(statement).await {
                let title: Vec<&str> = statement.split_whitespace().take(3).collect();
                let why = root_cause(&error);
                return Err(Broke::hinted(format!("the server refused `{} …`: {why}", title.join(" ")), HINT));
            }
        }
        if !self.superuser {
            for role in &self.missing {
                run(client, &format!("grant {} to current_user", quoted(role))).await?;
            }
        }
        facts.warnings.push(match self.missing.as_slice() {
            [] => "the server had all roles already; they were left as they were".to_owned(),
            made => format!("roles made, with the passwords and rights that they had: {}", made.join(", ")),
        });
        facts.warnings.push(
            "settings of the database and grants on the database itself were not brought back: see its globals"
                .to_owned(),
        );
        Ok(())
    }

    /// Whoever restored is no member of what was made any more.
    pub(super) async fn leave(&self, client: &Client, facts: &mut RestoreFacts) {
        for role in self.missing.iter().filter(|_| !self.superuser) {
            if let Err(broke) = run(client, &format!("revoke {} from current_user", quoted(role))).await {
                facts.warnings.push(format!("the role that restored is still a member of {role}: {broke}"));
            }
        }
    }
}

/// Gives the database to its owner of before.
pub(super) async fn own_database(client: &Client, name: &str, owner: &str) -> Result<(), Broke> {
    run(client, &format!("alter database {} owner to {}", quoted(name), quoted(owner))).await
}

/// On a server that is not ours, owners and grants that are refused say nothing about the backup.
pub(super) fn of_this_server(stop: Stop) -> Stop {
    match stop {
        Stop::Found(findings) => {
            let list: Vec<String> =
                findings.iter().take(5).map(|finding| format!("{}: {}", finding.object, finding.message)).collect();
            let count = findings.len();
            let error = format!("the rows are back, but {count} owners or grants were refused: {}", list.join("; "));
            Broke::hinted(error, "restore as a superuser, or give owners and grants by hand").into()
        }
        broke @ Stop::Broke(_) => broke,
    }
}

enum Deed {
    Create(String),
    About(String),
    Member(Vec<String>),
    Nothing,
}

/// Only statements about roles and their memberships.
fn deed(statement: &str) -> Result<Deed, String> {
    let all = tokens(statement)?;
    let word = |at: usize| match all.get(at) {
        Some((Token::Word(word), ..)) => word.as_str(),
        _ => "",
    };
    let name = |at: usize| match all.get(at) {
        Some((Token::Word(name) | Token::Quoted(name), ..)) => Some(name.clone()),
        _ => None,
    };
    let has = |wanted: &str| all.iter().any(|(token, ..)| *token == Token::Word(wanted.to_owned()));
    let deed = match (word(0), word(1)) {
        ("create", "role") => name(2).map(Deed::Create),
        // Of a database that may have another name here.
        ("alter", "role") if word(3) == "in" => None,
        ("alter", "role") => name(2).map(Deed::About),
        ("comment", "on") if word(2) == "role" => name(3).map(Deed::About),
        // `GRANT a TO b`: what has an object has ON.
        ("grant", _) if !has("on") && word(2) == "to" => match (name(1), name(3)) {
            (Some(role), Some(member)) => Some(Deed::Member(vec![role, member])),
            _ => None,
        },
        _ => None,
    };
    Ok(deed.unwrap_or(Deed::Nothing))
}

/// The statement without words that take a right away which a new role does not have, and without who granted.
fn without_vain(statement: &str) -> Result<String, String> {
    let mut text = statement.to_owned();
    let all = tokens(statement)?;
    let word = |at: Option<usize>, word: &str| {
        at.and_then(|at| all.get(at)).is_some_and(|(token, ..)| *token == Token::Word(word.to_owned()))
    };
    let end = all.len();
    if word(Some(0), "grant") && word(end.checked_sub(3), "granted") && word(end.checked_sub(2), "by") {
        let from = all[end - 3].1;
        return Ok(text[..from].trim_end().to_owned());
    }
    for (token, from, to) in all.into_iter().rev() {
        // The name of the role itself is the third word.
        let vain = matches!(&token, Token::Word(word) if SAID_IN_VAIN.contains(&word.as_str()));
        if vain && statement[..from].split_whitespace().count() > 3 {
            text.replace_range(from..to, "");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_only_a_superuser_may_say_are_left_out() {
        let text =
            without_vain("ALTER ROLE nosuperuser WITH NOSUPERUSER INHERIT NOREPLICATION LOGIN PASSWORD 'nosuperuser'");
        assert_eq!(
            text.unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
            "ALTER ROLE nosuperuser WITH INHERIT LOGIN PASSWORD 'nosuperuser'"
        );
    }

    #[test]
    fn who_granted_is_left_out() {
        let text = without_vain("GRANT a TO granted WITH ADMIN OPTION GRANTED BY postgres");
        assert_eq!(text.unwrap(), "GRANT a TO granted WITH ADMIN OPTION");
    }

    #[test]
    fn only_statements_about_roles_are_run_on_a_server_that_is_not_ours() {
        for statement in [
            "ALTER DATABASE x SET a = 'b'",
            "CREATE TABLESPACE t LOCATION '/x'",
            "ALTER ROLE a IN DATABASE x SET a = 'b'",
            "GRANT SET ON PARAMETER work_mem TO a",
            "COPY (select 1) TO PROGRAM 'x'",
            "DROP ROLE a",
        ] {
            assert!(matches!(deed(statement), Ok(Deed::Nothing)), "{statement}");
        }
        assert!(matches!(deed("CREATE ROLE \"A b\""), Ok(Deed::Create(name)) if name == "A b"));
        assert!(
            matches!(deed("GRANT a TO b WITH ADMIN OPTION GRANTED BY c"), Ok(Deed::Member(roles)) if roles == ["a", "b"])
        );
    }
}
