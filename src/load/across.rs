//! Rules between files: names are unique, and what is named is there. Of each file only what another can be held against is kept, so that thousands of them need little room.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{Document, Node};
use super::format::nearest;
use super::problem::{Problem, Problems};

/// What a file says that others have a say in.
#[derive(Debug)]
pub(super) struct Outline {
    path: PathBuf,
    /// Its text without secrets.
    shown: Arc<str>,
    /// Its own name.
    name: Option<Said>,
    /// What should be somewhere else.
    refers: Vec<(What, Said)>,
}

/// A text and where it stands.
#[derive(Debug)]
struct Said {
    text: String,
    span: Range<usize>,
}

/// What is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Store,
    Drill,
    ScratchServer,
    EscrowKey,
}

fn said(node: &Node) -> Option<Said> {
    node.text().map(|text| Said { text: text.to_owned(), span: node.span.clone() })
}

impl Outline {
    fn new(document: &Document, name: &str) -> Outline {
        Outline {
            path: document.path.clone(),
            shown: Arc::clone(&document.shown),
            name: document.root.get(name).and_then(said),
            refers: Vec::new(),
        }
    }

    fn refer<'a>(&mut self, what: What, nodes: impl IntoIterator<Item = &'a Node>) {
        self.refers.extend(nodes.into_iter().filter_map(|node| Some((what, said(node)?))));
    }

    /// Of a policy.
    pub(super) fn of_policy(document: &Document) -> Outline {
        let mut outline = Outline::new(document, "policy.name");
        let root = &document.root;
        for job in root.get("backup").map(Node::items).unwrap_or_default() {
            outline.refer(What::Store, job.get("store"));
            outline.refer(What::Store, job.get("copies").map(Node::items).unwrap_or_default());
        }
        for drill in root.get("drill").map(Node::items).unwrap_or_default() {
            outline.refer(What::Drill, drill.get("use"));
        }
        outline
    }

    /// Of a drill.
    pub(super) fn of_drill(document: &Document) -> Outline {
        let mut outline = Outline::new(document, "drill.name");
        let root = &document.root;
        outline.refer(What::Store, root.get("drill.from"));
        outline.refer(What::ScratchServer, root.get("scratch.server"));
        outline.refer(What::EscrowKey, root.get("drill.keys").filter(|node| node.text() == Some("escrow")));
        outline
    }

    fn problem(&self, said: &Said, message: String) -> Problem {
        Problem::at(&self.path, &self.shown, said.span.clone(), message)
    }
}

/// What there is to be named; none: that cannot be told, and no error may follow from it.
struct There {
    stores: Option<Vec<String>>,
    servers: Option<Vec<String>>,
    escrow: bool,
    drills: Option<Vec<String>>,
}

/// Holds all files against each other. `drills`: none when no drill was looked at. An outline that is missing is that of a file that could not be read.
pub(super) fn rules(
    main: Option<&Document>,
    policies: &[Option<Outline>],
    drills: Option<&[Option<Outline>]>,
    problems: &mut Problems,
) {
    unique(policies, "policy", problems);
    unique(drills.unwrap_or_default(), "drill", problems);
    let keys = |path: &str| -> Option<Vec<String>> {
        let table = main?.root.get(path);
        Some(table.map(Node::entries).unwrap_or_default().iter().map(|entry| entry.key.clone()).collect())
    };
    let there = There {
        stores: keys("stores"),
        servers: keys("scratch.servers"),
        escrow: main.is_none_or(|main| main.root.get("keys.escrow").is_some_and(|keys| !keys.items().is_empty())),
        // A drill that could not be read may be the one that is named: an error would only follow from the other.
        drills: drills.and_then(|drills| {
            drills.iter().map(|one| Some(one.as_ref()?.name.as_ref()?.text.clone())).collect::<Option<Vec<_>>>()
        }),
    };
    for outline in policies.iter().chain(drills.unwrap_or_default()).flatten() {
        for (what, said) in &outline.refers {
            if let Some((message, hint)) = missing(*what, &said.text, &there) {
                problems.add(outline.problem(said, message).hint(hint));
            }
        }
    }
}

/// What to say of something that is not there.
fn missing(what: What, text: &str, there: &There) -> Option<(String, String)> {
    let (kind, names, how) = match what {
        What::Store => ("store", &there.stores, "write [stores.NAME] kind = \"file\", path = \"…\" in lifeboat.toml"),
        What::Drill => ("drill", &there.drills, "write drills/NAME.toml"),
        What::ScratchServer => {
            ("scratch server", &there.servers, "write [scratch.servers.NAME] url = \"…\" in lifeboat.toml")
        }
        What::EscrowKey if there.escrow => return None,
        // A drill that is to use the escrow keys alone needs one.
        What::EscrowKey => {
            let hint = "name it in lifeboat.toml: [keys] escrow = [\"…\"]";
            return Some(("there is no escrow key for this drill to open anything with".to_owned(), hint.to_owned()));
        }
    };
    let names = names.as_ref()?;
    if names.iter().any(|name| name == text) {
        return None;
    }
    let hint = match nearest(text, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if names.is_empty() => how.to_owned(),
        None => format!("there are: {}; or {how}", names.join(", ")),
    };
    Some((format!("there is no {kind} `{text}`"), hint))
}

fn unique(files: &[Option<Outline>], what: &str, problems: &mut Problems) {
    let mut seen: HashMap<&str, &Path> = HashMap::with_capacity(files.len());
    for outline in files.iter().flatten() {
        let Some(name) = &outline.name else { continue };
        if let Some(file) = seen.get(name.text.as_str()) {
            let message = format!("there is already a {what} `{}`, in {}", name.text, file.display());
            problems.add(outline.problem(name, message).hint(format!("give each {what} a name of its own")));
        } else {
            seen.insert(&name.text, &outline.path);
        }
    }
}
