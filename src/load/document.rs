//! One file as a tree in which everything knows its place.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::problem::{Problem, Problems};
use crate::domain::units::Span;

/// A file that was read. Its text has every password masked: it is only for showing.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// As people are told.
    pub(super) path: PathBuf,
    /// What stands in it, without secrets.
    pub(super) shown: Arc<str>,
    /// The root table.
    pub(super) root: Node,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Bytes of the file.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) value: Value,
}

/// A value of TOML.
#[derive(Clone, Debug)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Dates and times, which no key takes; and integers beyond 64 bits.
    Other(&'static str),
    Array(Vec<Node>),
    /// In the order of the file.
    Table(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) node: Node,
}

impl Document {
    /// Reads a file; what is wrong with it goes to `problems`. A file with syntax errors gives as much as can be told.
    pub(super) fn read(path: &Path, problems: &mut Problems) -> Option<Document> {
        let mut fail = |message: String, hint: &str| {
            problems.add(Problem::of_file(path, message, hint));
            None
        };
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return fail("the file is not there".to_owned(), "`lifeboat init` writes a first configuration");
            }
            Err(error) => return fail(format!("it cannot be read: {error}"), "check its path and its mode"),
            Ok(found) if found.is_dir() => return fail("it is a folder, not a file".to_owned(), "name a TOML file"),
            Ok(_) => {}
        }
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return fail(format!("it cannot be read: {error}"), "check its owner and its mode"),
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let shown: Arc<str> = mask(&String::from_utf8_lossy(error.as_bytes())).into();
                let problem = Problem::at(path, &shown, at..at + 1, "this is not UTF-8");
                problems.add(problem.hint("TOML is UTF-8: save the file in that encoding"));
                return None;
            }
        };
        if text.trim().is_empty() {
            return fail("it is empty".to_owned(), "`lifeboat init` writes a first configuration, a policy and drills");
        }
        let shown: Arc<str> = mask(&text).into();
        let (tree, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let problem = Problem::at(path, &shown, span, format!("this is not TOML: {}", mask(error.message())));
            problems.add(problem.hint(syntax_hint(error.message())));
        }
        let root = Node { span: 0..0, value: table(tree.get_ref()) };
        // The rest of a file with syntax errors is guesswork; only its names are of use, to other files.
        Some(Document { path: path.to_owned(), shown, root })
    }

    /// A time that must be more than none; what is not a time at all is the walker's business.
    pub(super) fn more_than_none(&self, table: &Node, key: &str, problems: &mut Problems) {
        if let Some(node) = table.get(key)
            && node.text().and_then(|text| text.parse::<Span>().ok()) == Some(Span::ZERO)
        {
            let message = format!("`{key}` is no time at all");
            problems.add(self.problem(&node.span, message).hint("write what can be borne, such as \"5m\""));
        }
    }

    /// A problem at a place in this file.
    pub(super) fn problem(&self, span: &Range<usize>, message: impl Into<String>) -> Problem {
        Problem::at(&self.path, &self.shown, span.clone(), message)
    }
}

fn syntax_hint(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "remove one of the two"
    } else if message.contains("quote") || message.contains("string") {
        "text stands in quotes: key = \"text\""
    } else {
        "write key = value; text in quotes; [table] or [[list of tables]] on a line of its own"
    }
}

impl Node {
    /// The value under dotted keys: `policy.name`.
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        path.split('.')
            .try_fold(self, |node, key| node.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node))
    }

    /// The entry of a key of this table.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// A table's entries; nothing for others.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// An array's items; nothing for others.
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    /// A text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// What kind of value it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::Boolean(_) => "true or false",
            Value::Other(what) => what,
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
        }
    }

    /// The same as JSON, from which the raw structs are read.
    pub(super) fn json(&self) -> Json {
        match &self.value {
            Value::String(text) => Json::String(text.clone()),
            Value::Integer(number) => Json::Number((*number).into()),
            Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::Boolean(truth) => Json::Bool(*truth),
            Value::Other(_) => Json::Null,
            Value::Array(items) => Json::Array(items.iter().map(Node::json).collect()),
            Value::Table(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.node.json())).collect::<Map<_, _>>())
            }
        }
    }
}

fn table(from: &DeTable<'_>) -> Value {
    let mut entries: Vec<Entry> = from.iter().map(|(key, value)| entry(key, value)).collect();
    entries.sort_by_key(|entry| entry.span.start);
    Value::Table(entries)
}

fn entry(key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Entry {
    let mut node = node(value);
    if node.span.is_empty() {
        node.span = key.span();
    }
    Entry { key: key.get_ref().to_string(), span: key.span(), node }
}

fn node(from: &Spanned<DeValue<'_>>) -> Node {
    let value = match from.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("an integer beyond 64 bits"),
        },
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => Value::Other("not a finite number"),
        },
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => Value::Array(items.iter().map(node).collect()),
        DeValue::Table(inner) => table(inner),
    };
    Node { span: from.span(), value }
}

/// The text with everything that may be a password replaced, character by character so that columns stay: errors show the
/// lines around them, and errors end up in logs.
pub(super) fn mask(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        shown.push_str(&mask_line(line));
    }
    shown
}

fn mask_line(line: &str) -> String {
    let mut hide: Vec<Range<usize>> = Vec::new();
    // password = "…", and ?password=… in a URL; but not password_env and its like.
    for (at, word) in line.match_indices("password") {
        let rest = &line[at + word.len()..];
        let sign = rest.trim_start_matches(['"', '\'', ' ', '\t']);
        if sign.starts_with('=') {
            let start = line.len() - sign.len() + 1;
            hide.push(start..line.len());
        }
    }
    // scheme://user:password@host
    for (at, sign) in line.match_indices("://") {
        let start = at + sign.len();
        let rest = &line[start..];
        let end = rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len());
        if let Some(login) = rest[..end].rfind('@')
            && let Some(colon) = rest[..login].find(':')
        {
            hide.push(start + colon + 1..start + login);
        }
    }
    if hide.is_empty() {
        return line.to_owned();
    }
    let mut masked = String::with_capacity(line.len());
    for (at, c) in line.char_indices() {
        let secret = hide.iter().any(|range| range.contains(&at)) && !matches!(c, '"' | '\'' | ' ' | '=' | '\n' | '\r');
        // The same number of bytes, so that places stay right.
        if secret { (0..c.len_utf8()).for_each(|_| masked.push('*')) } else { masked.push(c) }
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_and_places_stay() {
        for (text, secret) in [
            ("url = \"postgresql://a:s3cret@h/d\"", "s3cret"),
            ("url = \"postgresql://a:p@ss:w@h/d\" # x", "ss:w"),
            ("password = \"s3cret\"", "s3cret"),
            ("\"password\" = 's3cret'", "s3cret"),
            ("source = { password=\"s3crét\" }", "s3crét"),
            ("url = \"postgresql://a@h/d?password=s3cret\"", "s3cret"),
        ] {
            let shown = mask(text);
            assert!(!shown.contains(secret), "{shown}");
            assert_eq!(shown.len(), text.len());
        }
        for text in ["password_env = \"PGPASSWORD\"", "url = \"postgresql://a@h:5432/d\" # see https://x/@y"] {
            assert_eq!(mask(text), text);
        }
    }
}
