//! Drills: the rules between their keys, and their way into the domain.

use super::document::{Document, Node, Value};
use super::problem::Problems;
use super::raw::drill::{RawCheck, RawDrill, RawKeyChoice, RawStep};
use crate::domain::check::{Assertion, Expectation};
use crate::domain::drill::{
    AwaitReady, Check, Drill, IsolationDemand, KeyChoice, Loss, Pick, Restore, Sabotage, ScratchKind, ScratchPlan, Step,
};
use crate::domain::units::Span;

/// The latency that counts as ready, when none is said.
const WITHIN: Span = Span::from_secs(1);
/// When to give up waiting for readiness, when nothing is said.
const TIMEOUT: Span = Span::from_secs(600);

/// A moment to which is restored, and a loss that says which.
fn moment_rules(document: &Document, root: &Node, problems: &mut Problems) {
    let loss = root.get("drill.loss").and_then(Node::text).unwrap_or("now");
    let steps = root.get("steps").map(Node::items).unwrap_or_default();
    let until = steps.iter().find_map(|step| step.get("restore.until"));
    match (until.and_then(Node::text), until) {
        (Some("moment"), Some(node)) if loss == "now" => {
            let message = "a restore to a moment needs a loss that says which: there is nothing behind now";
            problems.add(document.problem(&node.span, message).hint("write loss = \"random\", or a time, in [drill]"));
        }
        (Some("backup" | "latest"), Some(node)) if loss == "random" => {
            let message = "what the store held at a moment of the past is not known to the second";
            let hint = "write restore.until = \"moment\" with loss = \"random\", or loss = \"now\"";
            problems.add(document.problem(&node.span, message).hint(hint));
        }
        _ => {}
    }
}

/// A file that was cut off at the end of a step looks whole; its head knows better.
fn count_rule(document: &Document, root: &Node, problems: &mut Problems) {
    let Some(declared) = root.get("drill.steps") else { return };
    let here = root.get("steps").map_or(0, |steps| steps.items().len());
    if let Value::Integer(wanted) = declared.value
        && usize::try_from(wanted) != Ok(here)
    {
        let noun = if wanted == 1 { "step" } else { "steps" };
        let (message, hint) = match usize::try_from(wanted).is_ok_and(|wanted| here > wanted) {
            true => (
                format!("{wanted} {noun} are declared, and the file has {here}"),
                "was one added? Write how many there are now",
            ),
            false => (
                format!("{wanted} {noun} are declared, and the file has {here}: the end of it is missing"),
                "bring the rest of the file back; if steps were taken out on purpose, write how many there are now",
            ),
        };
        problems.add(document.problem(&declared.span, message).hint(hint));
    }
}

/// What the shape alone cannot say. Works on files that have other errors too.
pub(super) fn rules(document: &Document, problems: &mut Problems) {
    let root = &document.root;
    scratch_rules(document, root, problems);
    moment_rules(document, root, problems);
    count_rule(document, root, problems);
    let steps = root.get("steps").map(Node::items).unwrap_or_default();
    let (mut restored, mut told) = (false, false);
    for step in steps {
        let Some(entry) = step.entries().first() else { continue };
        match entry.key.as_str() {
            "restore" if restored => {
                let message = "a second restore: a drill has one";
                problems.add(document.problem(&entry.span, message).hint("write another drill for it"));
            }
            "restore" => restored = true,
            // Told once: the steps after it have the same cause.
            "await-ready" | "check" | "sabotage" if !restored && !told => {
                told = true;
                let message = format!("`{}` comes before anything is restored", entry.key);
                let hint = "begin with [[steps]] restore.until = \"latest\"";
                problems.add(document.problem(&entry.span, message).hint(hint));
            }
            _ => {}
        }
        if entry.key == "check" {
            check_rules(document, &entry.node, problems);
        }
        let times: &[&str] = match entry.key.as_str() {
            "await-ready" => &["within", "timeout"],
            "check" => &["timeout"],
            _ => &[],
        };
        times.iter().for_each(|key| document.more_than_none(&entry.node, key, problems));
    }
}

fn scratch_rules(document: &Document, root: &Node, problems: &mut Problems) {
    let Some(scratch) = root.get("scratch") else { return };
    let text = |key: &str| root.get(key).and_then(Node::text);
    match (text("scratch.kind"), scratch.entry("server")) {
        (Some("cluster"), Some(server)) => {
            let message = "`server` goes with kind = \"database\"";
            let hint = "leave it out: a cluster is an own server; or write kind = \"database\"";
            problems.add(document.problem(&server.span, message).hint(hint));
        }
        (Some("database"), None) => {
            let message = "`server` is missing in [scratch]: a database needs a server to be made on";
            let hint = "write server = \"NAME\", and [scratch.servers.NAME] in lifeboat.toml";
            problems.add(document.problem(&scratch.span, message).hint(hint));
        }
        _ => {}
    }
    folder_rules(document, root, problems);
    if text("scratch.kind") == Some("database") {
        if let Some(isolation) = root.get("scratch.isolation").filter(|node| node.text() == Some("required")) {
            let message = "a database on a running server cannot be cut off from the network";
            let hint = "write isolation = \"preferred\", or kind = \"cluster\"";
            problems.add(document.problem(&isolation.span, message).hint(hint));
        }
        if let Some(method) = root.get("drill.backup.method").filter(|node| node.text() == Some("physical")) {
            let message = "a physical backup is a whole server: it cannot be restored into a database";
            let hint = "write method = \"logical\", or kind = \"cluster\"";
            problems.add(document.problem(&method.span, message).hint(hint));
        }
    }
}

/// In a folder lifeboat itself is brought back: there is no server to be asked, started or cut off.
fn folder_rules(document: &Document, root: &Node, problems: &mut Problems) {
    let of_folder = root.get("scratch.kind").and_then(Node::text) == Some("folder");
    let steps = root.get("steps").map(Node::items).unwrap_or_default();
    for step in steps {
        let Some(entry) = step.entries().first() else { continue };
        let check = step.get("check.name").and_then(Node::text);
        let wrong = match (of_folder, entry.key.as_str(), check) {
            (true, "await-ready" | "sabotage", _) => Some("there is no server in a folder"),
            (true, "check", Some(name)) if !matches!(name, "manifest" | "control_plane") => {
                Some("this check is for a server, and there is none in a folder")
            }
            (false, "check", Some("control_plane")) => Some("this check is for lifeboat itself, and not for a server"),
            _ => None,
        };
        if let Some(message) = wrong {
            let hint = "kind = \"folder\" goes with the checks manifest and control_plane";
            problems.add(document.problem(&entry.span, message).hint(hint));
        }
        if let Some(until) = step.get("restore.until").filter(|until| of_folder && until.text() != Some("backup")) {
            let message = "behind lifeboat's own backup there is no log";
            problems.add(document.problem(&until.span, message).hint("write restore.until = \"backup\""));
        }
    }
    let scratch = root.get("scratch");
    for key in ["server", "isolation"].iter().filter_map(|key| scratch?.entry(key)).filter(|_| of_folder) {
        let message = format!("`{}` is for a server, and there is none in a folder", key.key);
        problems.add(document.problem(&key.span, message).hint("leave it out"));
    }
}

fn check_rules(document: &Document, check: &Node, problems: &mut Problems) {
    let Some(name) = check.get("name").and_then(Node::text) else { return };
    let answers: Vec<_> = ["is", "equals", "within"].iter().filter_map(|key| check.entry(key)).collect();
    if name == "assert" {
        if check.entry("sql").is_none() {
            let hint = "write sql = \"select count(*) > 0 from …\" and is = true";
            problems.add(document.problem(&check.span, "`assert` needs `sql`").hint(hint));
        }
        match answers.as_slice() {
            [] => {
                let message = "`assert` does not say what the answer must be";
                let hint = "add one of: is = true, equals = \"…\", within = [low, high]";
                problems.add(document.problem(&check.span, message).hint(hint));
            }
            [_] => {}
            [_, second, ..] => {
                let message = format!("`{}` is a second answer", second.key);
                problems.add(document.problem(&second.span, message).hint("keep one of is, equals, within"));
            }
        }
        if let [low, high] = check.get("within").map(Node::items).unwrap_or_default()
            && let (Some(from), Some(to)) = (low.json().as_f64(), high.json().as_f64())
            && from > to
        {
            let message = format!("nothing lies from {from} to {to}");
            problems
                .add(document.problem(&low.span, message).hint("write the smaller number first: within = [low, high]"));
        }
    } else {
        for key in ["sql", "is", "equals", "within", "database"] {
            if let Some(entry) = check.entry(key) {
                let message = format!("`{key}` goes with the check `assert`, not with `{name}`");
                problems.add(document.problem(&entry.span, message).hint("leave it out, or write name = \"assert\""));
            }
        }
    }
    if let Some(entry) = check.entry("heapallindexed").filter(|_| name != "amcheck") {
        let message = format!("`heapallindexed` goes with the check `amcheck`, not with `{name}`");
        problems.add(document.problem(&entry.span, message).hint("leave it out"));
    }
}

/// The domain's drill, of a file in which nothing is wrong; `warnings` gets what is valid and still not well.
pub(super) fn convert(raw: RawDrill, warnings: &mut Vec<String>) -> Drill {
    let name = raw.drill.name.0;
    if !raw.steps.iter().any(|step| matches!(step, RawStep::Check(_))) {
        warnings.push(format!("drill {name}: it checks nothing, so it can only ever be unproven"));
    } else if !raw.steps.iter().any(|step| matches!(step, RawStep::Check(check) if check.required)) {
        warnings.push(format!("drill {name}: none of its checks is required, so no finding fails it"));
    }
    let isolation = match raw.scratch.kind {
        ScratchKind::Cluster => IsolationDemand::Required,
        ScratchKind::Database | ScratchKind::Folder => IsolationDemand::Preferred,
    };
    let steps = raw.steps.into_iter().map(|raw| match raw {
        RawStep::Restore(restore) => Step::Restore(Restore { until: restore.until }),
        RawStep::AwaitReady(ready) => Step::AwaitReady(AwaitReady {
            query: ready.query.0.0,
            database: ready.database.map(|name| name.0.0),
            within: ready.within.map_or(WITHIN, |span| span.0),
            timeout: ready.timeout.map_or(TIMEOUT, |span| span.0),
        }),
        RawStep::Check(raw) => Step::Check(check(raw)),
        RawStep::Sabotage(sabotage) => {
            Step::Sabotage(Sabotage { sql: sabotage.sql.0.0, database: sabotage.database.map(|name| name.0.0) })
        }
    });
    Drill {
        name,
        description: raw.drill.description,
        pick: raw.drill.backup.pick.map_or(Pick::Latest, |pick| pick.0),
        method: raw.drill.backup.method,
        loss: raw.drill.loss.map_or(Loss::Now, |loss| loss.0),
        from: raw.drill.from.map(|name| name.0),
        keys: match raw.drill.keys {
            RawKeyChoice::Working => KeyChoice::Working,
            RawKeyChoice::Escrow => KeyChoice::Escrow,
        },
        scratch: ScratchPlan {
            kind: raw.scratch.kind,
            server: raw.scratch.server.map(|name| name.0),
            isolation: raw.scratch.isolation.unwrap_or(isolation),
        },
        steps: std::iter::once(Step::Provision).chain(steps).chain(std::iter::once(Step::Destroy)).collect(),
    }
}

fn check(raw: RawCheck) -> Check {
    let expect = match (raw.is, raw.equals, raw.within.as_deref()) {
        (Some(truth), _, _) => Some(Expectation::Is(truth)),
        (None, Some(text), _) => Some(Expectation::Equals(text.0)),
        (None, None, Some([low, high])) => Some(Expectation::Within(*low, *high)),
        (None, None, _) => None,
    };
    let database = raw.database.map(|name| name.0.0);
    let assertion = raw.sql.zip(expect).map(|(sql, expect)| Assertion { sql: sql.0.0, database, expect });
    Check {
        name: raw.name.0,
        required: raw.required,
        assertion,
        heapallindexed: raw.heapallindexed,
        timeout: raw.timeout.map(|span| span.0),
    }
}
