//! One database out of its dump, onto a server that is not ours: everything by the role that was given.

use std::collections::BTreeSet;

use super::one::{OneDatabase, stop_on};
use super::roles::{self, Roles};
use super::statements::{Piece, Token, split, tokens};
use super::toc::{self, Entry, Who};
use super::{column, quoted, refuse_unless_empty};
use crate::domain::check::{Broke, Finding, Stop};
use crate::domain::ids::{RunId, SCRATCH_PREFIX};
use crate::domain::transcript::RestoreFacts;
use crate::probe::Endpoint;

impl OneDatabase<'_> {
    /// By the role that was given: without owners and grants, unless `roles` were made for them.
    pub(super) async fn restore_plainly(
        &self,
        roles: Option<&Roles>,
        owner: Option<&str>,
        facts: &mut RestoreFacts,
    ) -> Result<(), Stop> {
        let definitions = self.runner.list(self.admin, "pre-data").await?;
        let rows = self.runner.list(self.admin, "data").await?;
        let afterwards = self.runner.list(self.admin, "post-data").await?;
        let (create, _) = self.database_statements(&definitions).await?;
        if roles.is_none() {
            self.refuse_missing_roles(&[&definitions[..], &afterwards[..]].concat()).await?;
        }
        if let Some(roles) = roles {
            roles.make(self.client, facts).await?;
        }
        let there = column(self.client, "select datname from pg_database").await?.iter().any(|name| name == self.name);
        let here = self.admin.with_database(self.name);
        if there {
            refuse_unless_empty(&here).await?;
        } else {
            self.create(&create, true).await?;
        }
        let everything: Vec<Entry> = [&definitions[..], &rows, &afterwards].concat();
        let kept_out: BTreeSet<u32> = match is_scratch(self.name) {
            true => self.keep_out(&here, &everything, facts).await?,
            false => BTreeSet::new(),
        };
        let wanted = |entry: &&Entry| {
            !matches!(toc::who(&entry.title), Who::Database | Who::Grants) && !kept_out.contains(&entry.id)
        };
        let serial = self.runner.serial();
        for (runner, section) in [(&serial, &definitions), (&self.runner, &rows), (&self.runner, &afterwards)] {
            // Materialized views are filled and event triggers made last, each after what comes before it in the dump.
            for last in [false, true] {
                let late = |entry: &&Entry| matches!(toc::who(&entry.title), Who::Refresh | Who::EventTrigger) == last;
                let entries: Vec<&Entry> = section.iter().filter(wanted).filter(late).collect();
                let runner = if last { &serial } else { runner };
                let said = runner.restore(&here, &entries, true).await?;
                facts.warnings.extend(said.warnings.iter().cloned());
                let rights = ["permission denied", "must be superuser", "must be owner", "Must be superuser"];
                if let Some(why) = said.failed.values().find(|why| rights.iter().any(|words| why.contains(words))) {
                    let hint = "restore as a role that may make everything that the database holds";
                    return Err(
                        Broke::hinted(format!("role {} may not restore all of it: {why}", here.user), hint).into()
                    );
                }
                stop_on(&said, &entries, self.original)?;
            }
        }
        let Some(roles) = roles else { return Ok(()) };
        let client = here.connect().await.map_err(Broke::from)?;
        // The database first: on it depends who may own what lies in its schema public.
        let owned = match owner {
            Some(owner) => roles::own_database(self.client, self.name, owner).await,
            None => Ok(()),
        };
        let given = self.owners_and_grants(&client, &everything).await.map_err(roles::of_this_server);
        roles.leave(self.client, facts).await;
        given?;
        owned.map_err(Stop::from)
    }

    /// A scratch database on a server that is not ours has no sandbox around it: what could act outside is not restored, and said.
    async fn keep_out(
        &self,
        here: &Endpoint,
        entries: &[Entry],
        facts: &mut RestoreFacts,
    ) -> Result<BTreeSet<u32>, Stop> {
        let superuser = column(self.client, "select rolsuper from pg_roles where rolname = current_user").await?;
        if superuser.first().is_some_and(|answer| answer == "t") {
            facts.warnings.push(format!(
                "role {} is a superuser of the scratch server: code of the dump ran there with all rights, and nothing kept it in; \
                 use a role with CREATEDB only, or kind = \"cluster\"",
                here.user
            ));
        }
        let left_out = toc::left_out(entries);
        let told = left_out.iter().map(|entry| format!("left out, for it could act outside: {}", self.listed(entry)));
        facts.warnings.extend(told);
        Ok(left_out.iter().map(|entry| entry.id).collect())
    }

    /// Policies name roles: without them a table would be open to others than before, or to nobody.
    async fn refuse_missing_roles(&self, entries: &[Entry]) -> Result<(), Stop> {
        let policies: Vec<&Entry> = entries.iter().filter(|entry| entry.title.starts_with("POLICY ")).collect();
        let script = self.runner.script(self.admin, &policies, false).await?;
        let damaged = |why: String| Stop::from(Finding::new("dump_damaged", format!("dump of {}", self.original), why));
        let mut needed = BTreeSet::new();
        for piece in split(&script).map_err(damaged)? {
            let Piece::Sql(statement) = piece else { continue };
            needed.extend(policy_roles(&statement));
        }
        let there = column(self.client, "select rolname from pg_roles").await?;
        let missing: Vec<String> =
            needed.into_iter().filter(|role| !there.contains(role)).map(|role| quoted(&role)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Broke::hinted(
            format!("row security of database {} is for roles that this server lacks: {}", self.original, missing.join(", ")),
            "nothing was written; say --with-roles to bring roles, owners and grants back too, or CREATE ROLE them first",
        )
        .into())
    }
}

/// Whether a database is a scratch: `lifeboat-<run>-<n>`. Everything else is restored because somebody wants to have it.
fn is_scratch(name: &str) -> bool {
    let run = name.strip_prefix(SCRATCH_PREFIX).and_then(|rest| rest.rsplit_once('-'));
    run.is_some_and(|(run, _)| run.parse::<RunId>().is_ok())
}

/// The roles of `CREATE POLICY … TO a, b USING (…)`.
fn policy_roles(statement: &str) -> Vec<String> {
    let all = tokens(statement).unwrap_or_default();
    let word = |at: usize, word: &str| all.get(at).is_some_and(|token| token.0 == Token::Word(word.to_owned()));
    if !(word(0, "create") && word(1, "policy")) {
        return Vec::new();
    }
    // Before the first parenthesis: in conditions anything can stand.
    let end = all.iter().position(|token| token.0 == Token::Sign('(')).unwrap_or(all.len());
    let Some(to) = (0..end).rev().find(|at| word(*at, "to")) else { return Vec::new() };
    all[to + 1..end]
        .iter()
        .take_while(|(token, ..)| !matches!(token, Token::Word(word) if word == "using" || word == "with"))
        .filter_map(|(token, ..)| match token {
            Token::Word(name) | Token::Quoted(name) => Some(name.clone()),
            Token::Text | Token::Sign(_) => None,
        })
        .filter(|name| !["public", "current_user", "session_user", "current_role"].contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roles_of_a_policy_are_read() {
        for (statement, roles) in [
            ("CREATE POLICY p ON s.t TO app, \"A b\" USING (x TO y)", &["app", "A b"][..]),
            ("CREATE POLICY p ON s.t FOR SELECT TO app WITH CHECK ((a = 1))", &["app"]),
            ("CREATE POLICY \"to\" ON s.t USING (true)", &[]),
            ("CREATE POLICY p ON s.t TO app", &["app"]),
            ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", &[]),
        ] {
            assert_eq!(policy_roles(statement), roles, "{statement}");
        }
    }
}
