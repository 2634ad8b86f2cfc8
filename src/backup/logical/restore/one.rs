//! One database out of its dump.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::programs::{Runner, Said};
use super::statements::{Piece, Token, split, tokens};
use super::toc::{self, Entry, Who};
use super::{TOLD_AT_MOST, column, globals, quoted, refused, run};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::transcript::RestoreFacts;
use crate::probe::Endpoint;
use crate::probe::endpoint::root_cause;

/// Owners and grants are sent so many at once.
const AT_ONCE: usize = 200;

/// One database on its way back.
pub(super) struct OneDatabase<'a> {
    pub(super) runner: Runner<'a>,
    pub(super) admin: &'a Endpoint,
    pub(super) client: &'a Client,
    pub(super) name: &'a str,
    pub(super) original: &'a str,
}

impl OneDatabase<'_> {
    /// In a cluster that is all ours: by a role without rights, wherever that can be.
    pub(super) async fn restore_apart(&self, restorer: &str, facts: &mut RestoreFacts) -> Result<(), Stop> {
        let super_here = self.admin.with_database(self.name);
        let plain_here = super_here.with_user(restorer);
        let definitions = self.runner.list(self.admin, "pre-data").await?;
        let rows = self.runner.list(self.admin, "data").await?;
        let afterwards = self.runner.list(self.admin, "post-data").await?;

        let (create, properties) = self.database_statements(&definitions).await?;
        run(self.client, &format!("drop database if exists {}", quoted(self.name))).await?;
        self.create(&create, false).await?;
        run(self.client, &format!("alter database {} owner to {}", quoted(self.name), quoted(restorer))).await?;

        // Definitions one after the other; within a section of rows or indexes, in parallel.
        let serial = self.runner.serial();
        for (who, entries) in toc::stretches(&definitions) {
            match who {
                Who::Restorer => self.as_restorer(&serial, &plain_here, &super_here, &entries, facts).await?,
                Who::Superuser => self.as_superuser(&serial, &super_here, &entries, facts).await?,
                Who::Database | Who::Grants | Who::Refresh | Who::EventTrigger => {}
            }
        }
        let data = of(&rows, Who::Restorer);
        self.as_restorer(&self.runner, &plain_here, &super_here, &data, facts).await?;
        let late = of(&afterwards, Who::Restorer);
        self.as_restorer(&self.runner, &plain_here, &super_here, &late, facts).await?;
        let late = of(&afterwards, Who::Superuser);
        self.as_superuser(&serial, &super_here, &late, facts).await?;

        let everything: Vec<Entry> = [definitions, rows, afterwards].concat();
        let here = super_here.connect().await.map_err(Broke::from)?;
        self.owners_and_grants(&here, &everything).await?;
        self.take_away(&here, restorer, &properties, facts).await?;
        for last in [Who::Refresh, Who::EventTrigger] {
            let entries = of(&everything, last);
            let said = serial.restore(&super_here, &entries, last == Who::Refresh).await?;
            facts.warnings.extend(said.warnings.iter().cloned());
            stop_on(&said, &entries, self.original)?;
            if last == Who::EventTrigger {
                facts.superuser_entries.extend(entries.iter().map(|entry| self.listed(entry)));
            }
        }
        Ok(())
    }

    /// By the restorer; what it cannot make, once more by the superuser, and listed.
    async fn as_restorer(
        &self,
        runner: &Runner<'_>,
        plain: &Endpoint,
        superuser: &Endpoint,
        entries: &[&Entry],
        facts: &mut RestoreFacts,
    ) -> Result<(), Stop> {
        let said = runner.restore(plain, entries, true).await?;
        facts.warnings.extend(said.warnings.iter().cloned());
        let retry =
            |entry: &&&Entry| said.failed.get(&entry.id).is_some_and(|why| for_want_of_rights(&entry.title, why));
        let again: Vec<&Entry> = entries.iter().filter(retry).copied().collect();
        if again.is_empty() || again.len() < said.failed.len() || !said.rows.is_empty() {
            return stop_on(&said, entries, self.original);
        }
        self.as_superuser(&runner.serial(), superuser, &again, facts).await?;
        self.hand_over(superuser, &again, &plain.user).await
    }

    /// What the superuser made in the restorer's stead is the restorer's until owners come: rows and indexes come before.
    async fn hand_over(&self, superuser: &Endpoint, entries: &[&Entry], restorer: &str) -> Result<(), Stop> {
        let definitions: Vec<&Entry> = entries.iter().filter(|entry| !toc::is_data(&entry.title)).copied().collect();
        let script = self.runner.script(self.admin, &definitions, false).await?;
        let damaged = |why: String| Stop::from(Finding::new("dump_damaged", format!("dump of {}", self.original), why));
        let mut statements = Vec::new();
        for piece in split(&script).map_err(damaged)? {
            let Piece::Sql(statement) = piece else { continue };
            let owner = if is_owner(&statement) { tokens(&statement).map_err(damaged)?.pop() } else { None };
            if let Some((_, from, _)) = owner {
                statements.push(format!("{}{}", &statement[..from], quoted(restorer)));
            }
        }
        let here = superuser.connect().await.map_err(Broke::from)?;
        self.run_all(&here, &statements).await
    }

    async fn as_superuser(
        &self,
        runner: &Runner<'_>,
        superuser: &Endpoint,
        entries: &[&Entry],
        facts: &mut RestoreFacts,
    ) -> Result<(), Stop> {
        let said = runner.restore(superuser, entries, true).await?;
        facts.warnings.extend(said.warnings.iter().cloned());
        facts.superuser_entries.extend(entries.iter().map(|entry| self.listed(entry)));
        stop_on(&said, entries, self.original)
    }

    pub(super) fn listed(&self, entry: &Entry) -> String {
        format!("{}: {}", self.original, entry.title)
    }

    /// `CREATE DATABASE`, and the statements about the database that come when all is restored.
    pub(super) async fn database_statements(&self, definitions: &[Entry]) -> Result<(String, Vec<String>), Stop> {
        let entries: Vec<&Entry> = definitions.iter().filter(|entry| toc::who(&entry.title) == Who::Database).collect();
        let script = self.runner.script(self.admin, &entries, true).await?;
        let damaged = |why: String| Stop::from(Finding::new("dump_damaged", format!("dump of {}", self.original), why));
        let (mut create, mut properties) = (None, Vec::new());
        for piece in split(&script).map_err(damaged)? {
            let Piece::Sql(statement) = piece else { continue };
            let words = first_words(&statement);
            match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["create", "database", ..] if create.is_none() => create = Some(statement),
                ["alter", "database", ..] | ["alter", "role", ..] | ["comment", "on", "database", ..] => {
                    properties.push(statement)
                }
                ["grant" | "revoke", ..] | ["security", "label", ..] => properties.push(statement),
                _ => {}
            }
        }
        let create = create.ok_or_else(|| damaged("it does not say how its database is made".to_owned()))?;
        Ok((create, properties))
    }

    /// Makes the database as the dump says, under the name that it gets here.
    pub(super) async fn create(&self, statement: &str, elsewhere: bool) -> Result<(), Stop> {
        let damaged = |why: String| Stop::from(Finding::new("dump_damaged", format!("dump of {}", self.original), why));
        let all = tokens(statement).map_err(damaged)?;
        let name_ends =
            all.get(2).map(|token| token.2).ok_or_else(|| damaged("its database has no name".to_owned()))?;
        let mut rest = statement.get(name_ends..).unwrap_or_default().to_owned();
        let tablespace = all.iter().position(|(token, ..)| *token == Token::Word("tablespace".to_owned()));
        if let Some(at) = tablespace.filter(|_| elsewhere || self.runner.no_tablespaces) {
            // The name after it, with or without a sign of equality.
            let value = all[at + 1..].iter().find(|(token, ..)| *token != Token::Sign('='));
            if let (Some((_, from, _)), Some((_, _, to))) = (all.get(at), value) {
                rest = format!("{}{}", &statement[name_ends..*from], &statement[*to..]);
            }
        }
        if self.runner.no_locale_provider {
            rest = rest.replacen(" LOCALE_PROVIDER = libc", "", 1);
        }
        let sql = format!("create database {}{rest}", quoted(self.name));
        match self.client.simple_query(&sql).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let broke = refused(&format!("make database {}", self.name), &error);
                let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
                let hint = if denied { Some("ALTER ROLE … CREATEDB".to_owned()) } else { broke.hint };
                Err(Broke { error: broke.error, hint }.into())
            }
        }
    }

    /// Of the dump's text only owners and grants are run here: none of them runs code.
    pub(super) async fn owners_and_grants(&self, here: &Client, everything: &[Entry]) -> Result<(), Stop> {
        let entries: Vec<&Entry> = everything
            .iter()
            .filter(|entry| !toc::is_data(&entry.title))
            .filter(|entry| matches!(toc::who(&entry.title), Who::Restorer | Who::Superuser | Who::Grants))
            .collect();
        let script = self.runner.script(self.admin, &entries, false).await?;
        let damaged = |why: String| Stop::from(Finding::new("dump_damaged", format!("dump of {}", self.original), why));
        let pieces = split(&script).map_err(damaged)?;
        let statements: Vec<String> = pieces
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Sql(statement) => is_owner_or_grant(&statement).then_some(statement),
                Piece::Backslash(_) => None,
            })
            .collect();
        self.run_all(here, &statements).await
    }

    /// Runs statements in batches; one that fails is found by running its batch one by one.
    async fn run_all(&self, here: &Client, statements: &[String]) -> Result<(), Stop> {
        let mut findings = Vec::new();
        for batch in statements.chunks(AT_ONCE) {
            if here.simple_query(&batch.join(";\n")).await.is_ok() {
                continue;
            }
            for statement in batch {
                let Err(error) = here.simple_query(statement).await else { continue };
                if let Some(broke) = globals::gone(&error) {
                    return Err(broke.into());
                }
                if findings.len() < TOLD_AT_MOST {
                    let object = format!("{}: {}", self.original, statement.chars().take(200).collect::<String>());
                    findings.push(Finding::new(
                        "restore_error",
                        object,
                        format!("it was refused: {}", root_cause(&error)),
                    ));
                }
            }
        }
        if findings.is_empty() { Ok(()) } else { Err(Stop::Found(findings)) }
    }

    /// Gives the database its owner, grants and settings, and leaves nothing to the restorer.
    async fn take_away(
        &self,
        here: &Client,
        restorer: &str,
        properties: &[String],
        facts: &mut RestoreFacts,
    ) -> Result<(), Stop> {
        let role = quoted(restorer);
        let leftover = format!(
            "select count(*) from pg_shdepend where refclassid = 'pg_authid'::regclass and refobjid = (select oid from pg_roles where rolname = '{}') \
             and dbid = (select oid from pg_database where datname = current_database()) and deptype = 'o'",
            restorer.replace('\'', "''")
        );
        let left = column(here, &leftover).await?;
        if left.first().is_some_and(|count| count != "0") {
            let count = left.first().map_or("", String::as_str);
            facts.warnings.push(format!(
                "{}: {count} objects whose owner the dump does not name went to the superuser",
                self.original
            ));
        }
        run(here, &format!("reassign owned by {role} to current_user")).await?;
        run(here, &format!("drop owned by {role}")).await?;
        // With its name of before: nothing is renamed on a server that is all ours.
        self.run_all(self.client, properties).await
    }
}

/// Whether an entry failed because the restorer lacks a right, so that the superuser may try it once. What can run code of
/// the dump's own (a constraint's or an index's function, which could say anything) is never run again with more rights.
fn for_want_of_rights(title: &str, why: &str) -> bool {
    match toc::runs_code(title) {
        // Before its first row no code runs: this is the table's own refusal.
        true => toc::is_data(title) && why.starts_with("ERROR:  permission denied for "),
        false => true,
    }
}

fn first_words(statement: &str) -> Vec<String> {
    let all = tokens(statement).unwrap_or_default();
    all.into_iter()
        .take(4)
        .map(|(token, ..)| match token {
            Token::Word(word) => word,
            Token::Quoted(_) | Token::Text | Token::Sign(_) => String::new(),
        })
        .collect()
}

/// Those entries that are `wanted`'s.
fn of(list: &[Entry], wanted: Who) -> Vec<&Entry> {
    list.iter().filter(|entry| toc::who(&entry.title) == wanted).collect()
}

/// `ALTER … OWNER TO role`, grants, default privileges, and the change of the session's role that dumps put around grants.
fn is_owner_or_grant(statement: &str) -> bool {
    let words = first_words(statement);
    let word = |at: usize| words.get(at).map(String::as_str).unwrap_or_default();
    match (word(0), word(1)) {
        ("grant" | "revoke", _) => true,
        ("alter", "default") => word(2) == "privileges",
        ("set", "session") => word(2) == "authorization",
        ("reset", "session") => word(2) == "authorization",
        _ => is_owner(statement),
    }
}

/// `ALTER … OWNER TO role`.
fn is_owner(statement: &str) -> bool {
    let all = tokens(statement).unwrap_or_default();
    let from_end = |back: usize| all.len().checked_sub(back).and_then(|at| all.get(at)).map(|token| &token.0);
    let word = |back: usize, word: &str| from_end(back) == Some(&Token::Word(word.to_owned()));
    word(all.len(), "alter") && word(3, "owner") && word(2, "to")
}

/// Entries that failed, as findings: the dump is at fault.
pub(super) fn stop_on(said: &Said, entries: &[&Entry], database: &str) -> Result<(), Stop> {
    let rows = said.rows.iter().map(|why| {
        let table = why.split('"').nth(1).unwrap_or("a table");
        Finding::new(
            "restore_error",
            format!("{database}: TABLE DATA {table}"),
            format!("rows could not be restored: {why}"),
        )
    });
    let findings: Vec<Finding> = said
        .failed
        .iter()
        .map(|(id, why)| {
            let title = entries.iter().find(|entry| entry.id == *id).map_or("an entry", |entry| entry.title.as_str());
            Finding::new("restore_error", format!("{database}: {title}"), format!("it could not be restored: {why}"))
        })
        .chain(rows)
        .take(TOLD_AT_MOST)
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(Stop::Found(findings)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_the_dump_is_not_run_again_with_more_rights() {
        assert!(!for_want_of_rights("TABLE DATA s t alice", "ERROR:  division by zero"));
        assert!(for_want_of_rights("TABLE DATA s t alice", "ERROR:  permission denied for table t"));
        assert!(!for_want_of_rights("INDEX s i alice", "ERROR:  permission denied for table t"));
        assert!(!for_want_of_rights("CHECK CONSTRAINT s t c alice", "ERROR:  division by zero"));
        assert!(for_want_of_rights("FUNCTION s f() alice", "ERROR:  permission denied for language c"));
    }

    #[test]
    fn only_owners_and_grants_are_taken_from_a_script() {
        for (statement, expected) in [
            ("ALTER TABLE s.t OWNER TO alice", true),
            ("ALTER FUNCTION s.f(integer, text) OWNER TO \"a b\"", true),
            ("ALTER LARGE OBJECT 42 OWNER TO alice", true),
            ("GRANT SELECT ON TABLE s.t TO PUBLIC", true),
            ("ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT SELECT ON TABLES TO b", true),
            ("SET SESSION AUTHORIZATION a", true),
            ("ALTER TABLE ONLY s.t ADD CONSTRAINT c CHECK (f())", false),
            ("ALTER TABLE t ALTER c SET DEFAULT 'x OWNER TO a'", false),
            ("CREATE TABLE t (owner text)", false),
            ("SELECT lo_create(1)", false),
            ("SET ROLE a", false),
            ("REFRESH MATERIALIZED VIEW m", false),
        ] {
            assert_eq!(is_owner_or_grant(statement), expected, "{statement}");
        }
    }
}
