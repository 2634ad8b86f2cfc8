//! `lifeboat check`: validates the configuration, tries everything that it names, says what each backup would do.

mod escrow;
mod immutability;
mod local;
mod log;
mod source;
mod tried;

use clap::ValueEnum;
use serde_json::json;

use self::source::Facts;
use self::tried::Tried;
use super::{Cli, Exit, Failure, Output, output};
use crate::domain::policy::{Method, Policy};
use crate::domain::units::ByteSize;
use crate::engine::backup::part_bytes_for;
use crate::engine::house::config_missing;
use crate::load::{self, FileKind, Loaded};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Validate only; try nothing.
    #[arg(long)]
    offline: bool,
    /// Try to delete and to overwrite what the locked stores hold, with the credentials of backups, on an object of our own;
    /// nothing else is checked.
    #[arg(long, conflicts_with_all = ["offline", "schema"])]
    immutability: bool,
    /// Print the JSON Schema of a kind of file, for editors. Needs no configuration.
    #[arg(long, value_enum, value_name = "KIND")]
    schema: Option<Kind>,
}

/// Kinds of file.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// lifeboat.toml
    Config,
    /// policies/*.toml
    Policy,
    /// drills/*.toml
    Drill,
}

/// Runs the verb.
pub async fn run(cli: &Cli, args: &Args) -> Result<Exit, Failure> {
    if let Some(kind) = args.schema {
        output::print_json(&load::schema(match kind {
            Kind::Config => FileKind::Config,
            Kind::Policy => FileKind::Policy,
            Kind::Drill => FileKind::Drill,
        }));
        return Ok(Exit::Ok);
    }
    if args.immutability {
        return immutability::run(cli).await;
    }
    if let Some(missing) = config_missing(&cli.config) {
        return Err(Failure::usage(missing));
    }
    let loaded = match load::load(&cli.config) {
        Ok(loaded) => loaded,
        Err(errors) if cli.output == Output::Json => {
            output::print_json(&json!({
                "schema": "lifeboat.check/1",
                "config": cli.config.display().to_string(),
                "valid": false,
                "errors": errors.json(),
                "exit_code": Exit::Usage as u8,
            }));
            output::say(errors.to_string().trim_end());
            return Ok(Exit::Usage);
        }
        Err(errors) => {
            let text = errors.render(output::color_on_stderr());
            return Err(Failure { exit: Exit::Usage, text, hint: None });
        }
    };
    let mut tried = vec![Tried::ok("configuration", cli.config.display(), summary(&loaded))];
    let mut facts: Vec<(&Policy, Option<Facts>)> = Vec::new();
    if args.offline {
        facts.extend(loaded.policies.iter().map(|policy| (policy, None)));
    } else {
        for policy in &loaded.policies {
            // Behind lifeboat itself there is no server to be asked; its catalog is tried with the rest.
            let asked = match policy.is_of_control_plane() {
                true => None,
                false => source::ask(policy, &loaded.config, &mut tried).await,
            };
            facts.push((policy, asked));
        }
        source::scratch_servers(&loaded.config, &facts, &mut tried).await;
        tried.push(local::catalog(&loaded.config).await);
        local::stores(&loaded.config, &mut tried).await;
        local::spools(&loaded, &mut tried);
        local::keys(&loaded, &mut tried);
        escrow::tried(&loaded, &mut tried).await;
        local::programs(&loaded, &facts, &mut tried);
        local::scratch(&loaded, &facts, &mut tried);
    }
    let plans: Vec<Plan> = facts.iter().flat_map(|(policy, facts)| plans(policy, facts.as_ref())).collect();
    let exit = if tried.iter().any(Tried::is_wrong) { Exit::Finding } else { Exit::Ok };
    match cli.output {
        Output::Json => output::print_json(&json!({
            "schema": "lifeboat.check/1",
            "config": loaded.config.file.display().to_string(),
            "valid": true,
            "offline": args.offline,
            "warnings": loaded.warnings,
            "tried": tried.iter().map(Tried::json).collect::<Vec<_>>(),
            "jobs": plans.iter().map(Plan::json).collect::<Vec<_>>(),
            "exit_code": exit as u8,
        })),
        Output::Table => output::print(&page(&loaded, &tried, &plans, args.offline)),
    }
    Ok(exit)
}

fn summary(loaded: &Loaded) -> String {
    let count = |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    format!(
        "valid: {}, {}, {}",
        count(loaded.policies.len(), "policy", "policies"),
        count(loaded.drills.len(), "drill", "drills"),
        count(loaded.config.stores.len(), "store", "stores"),
    )
}

/// What a backup job would do.
struct Plan {
    policy: String,
    job: String,
    method: Method,
    /// The databases it holds with their sizes, as far as the server could be asked.
    databases: Option<Vec<(String, Option<u64>)>>,
    store: String,
    part_size: Option<ByteSize>,
    schedule: Option<String>,
}

fn plans(policy: &Policy, facts: Option<&Facts>) -> Vec<Plan> {
    let plan = |job: &crate::domain::policy::BackupJob| Plan {
        policy: policy.name.to_string(),
        job: job.name.to_string(),
        method: job.method,
        databases: facts.map(|facts| facts.databases_of(job.method, &policy.source)),
        store: job.store.to_string(),
        part_size: job.part_size,
        schedule: job.schedule.as_ref().map(|schedule| format!("{} ({})", schedule.text, schedule.timezone)),
    };
    policy.backups.iter().map(plan).collect()
}

impl Plan {
    /// Bytes in the database; none when one of them is not known.
    fn bytes(&self) -> Option<u64> {
        self.databases.as_ref()?.iter().map(|(_, bytes)| *bytes).sum()
    }

    /// Plaintext of one part: the policy's word, or what a backup chooses from the size of the source (16 MiB, and more only
    /// when there would be too many parts).
    fn part_size(&self) -> Option<ByteSize> {
        self.part_size.or_else(|| self.bytes().map(|bytes| ByteSize(part_bytes_for(bytes))))
    }

    /// About how many parts that makes: a dump is mostly smaller than its database, a base backup about as large.
    fn parts(&self) -> Option<u64> {
        Some(self.bytes()?.div_ceil(self.part_size()?.0.max(1)).max(1))
    }

    fn json(&self) -> serde_json::Value {
        let databases = self
            .databases
            .as_ref()
            .map(|all| all.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>());
        json!({
            "policy": self.policy,
            "job": self.job,
            "method": self.method.as_str(),
            "done_by_this_version": matches!(self.method, Method::Logical | Method::Physical | Method::ControlPlane),
            "databases": databases,
            "bytes": self.bytes(),
            "parts": self.parts(),
            "store": self.store,
            "schedule": self.schedule,
        })
    }

    fn sentence(&self) -> String {
        let what = match self.method {
            Method::Logical => "a dump of",
            Method::Physical => "a base backup of the whole server:",
            Method::ControlPlane => {
                return format!(
                    "{}/{}: lifeboat's own catalog and configuration, into {}",
                    self.policy, self.job, self.store
                );
            }
            Method::RdsSnapshot | Method::Pgbackrest | Method::Barman | Method::Dump => {
                return format!(
                    "{}/{}: nothing: method \"{}\" is not done by this version",
                    self.policy,
                    self.job,
                    self.method.as_str()
                );
            }
        };
        let databases = match &self.databases {
            None => "the databases (the server was not asked)".to_owned(),
            Some(all) => {
                let size =
                    |bytes: &Option<u64>| bytes.map_or("size unknown".to_owned(), |bytes| ByteSize(bytes).to_string());
                let shown: Vec<String> =
                    all.iter().take(8).map(|(name, bytes)| format!("{name} ({})", size(bytes))).collect();
                let more = all.len().saturating_sub(8);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{}{more}", shown.join(", "))
            }
        };
        let parts = match (self.parts(), self.part_size()) {
            (Some(1), Some(size)) => format!("in about one part of at most {size}"),
            (Some(parts), Some(size)) => format!("in about {parts} parts of {size}"),
            (_, Some(size)) => format!("in parts of {size}"),
            (_, None) => "in parts whose size is chosen from that".to_owned(),
        };
        let when = self.schedule.as_deref().unwrap_or("only by hand");
        format!("{}/{}: {what} {databases}, {parts}, into store {}; {when}", self.policy, self.job, self.store)
    }
}

fn page(loaded: &Loaded, tried: &[Tried], plans: &[Plan], offline: bool) -> String {
    let mut text = tried::table(tried, output::color_on_stdout());
    for warning in &loaded.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    if !plans.is_empty() {
        text.push_str("\nWhat each backup would do:\n");
        for plan in plans {
            text.push_str(&format!("  {}\n", plan.sentence()));
        }
    }
    let (ok, wrong, not_tried) = tried::count(tried);
    text.push_str(&format!("\n{ok} ok, {wrong} wrong, {not_tried} not tried"));
    text.push_str(if offline { " (--offline: nothing but the configuration was looked at)\n" } else { "\n" });
    text
}
