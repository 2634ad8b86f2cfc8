//! Holds a file against its JSON Schema and finds everything that is wrong with its shape, each thing with its place.
//!
//! It knows only what the schemas of [`super::raw`] use. serde alone would stop at the first error.

use serde_json::Value as Json;

use super::document::{Document, Node, Value};
use super::format::{self, nearest};
use super::problem::Problems;

/// Walks the whole file.
pub(super) fn walk(document: &Document, schema: &Json, problems: &mut Problems) {
    Walker { document, problems }.node(schema, &document.root, "");
}

struct Walker<'a> {
    document: &'a Document,
    problems: &'a mut Problems,
}

impl Walker<'_> {
    fn wrong(&mut self, node: &Node, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.add(self.document.problem(&node.span, message).hint(hint));
    }

    fn node(&mut self, schema: &Json, node: &Node, path: &str) {
        if let Some(words) = words(schema) {
            return self.one_of_words(&words, schema, node, path);
        }
        if let Some(variants) = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Json::as_array) {
            return self.variants(variants, node, path);
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|name| has_type(name, node)) {
            return self.wrong_type(&types, node, path);
        }
        match &node.value {
            Value::Table(_) => self.table(schema, node, path),
            Value::Array(items) => self.array(schema, node, items, path),
            Value::String(text) => self.text(schema, node, text),
            Value::Integer(number) => self.number(schema, node, *number as f64, path),
            Value::Float(number) => self.number(schema, node, *number, path),
            Value::Boolean(_) | Value::Other(_) => {}
        }
    }

    fn wrong_type(&mut self, types: &[&str], node: &Node, path: &str) {
        let wanted: Vec<&str> = types.iter().map(|name| type_in_words(name)).collect();
        let wanted = wanted.join(" or ");
        let key = last(path);
        let hint = match (types.first().copied(), &node.value) {
            (Some("array"), Value::Table(_)) => format!("write [[{key}]]: there can be several"),
            (Some("object"), Value::Array(_)) => format!("write [{key}]: there is only one"),
            (Some("object"), _) => format!("write it as a table: [{path}], and its keys below"),
            (Some("array"), Value::String(_)) => format!("write it in brackets: {key} = [\"…\"]"),
            (Some("string"), Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Other(_)) => {
                format!("write it in quotes: {key} = \"…\"")
            }
            (Some("boolean"), _) => format!("write {key} = true or {key} = false, without quotes"),
            (Some("integer" | "number"), Value::String(_)) => format!("write a number without quotes: {key} = 1"),
            _ => format!("write {wanted}"),
        };
        self.wrong(node, format!("`{key}` must be {wanted}; this is {}", node.kind()), hint);
    }

    fn one_of_words(&mut self, words: &[&str], schema: &Json, node: &Node, path: &str) {
        let Some(text) = node.text() else { return self.wrong_type(&["string"], node, path) };
        if words.contains(&text) {
            return;
        }
        // A format says it better, when there is one.
        if let Some(Err(wrong)) = schema.get("format").and_then(Json::as_str).map(|name| format::check(name, text)) {
            return self.wrong(node, wrong.message, wrong.hint);
        }
        let hint = match nearest(text, words.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                format!("possible: {}", words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
            }
        };
        self.wrong(node, format!("`{text}` is no value of `{}`", last(path)), hint);
    }

    /// Alternatives: a table with exactly one key out of several (a step), or one of several types.
    fn variants(&mut self, variants: &[Json], node: &Node, path: &str) {
        let tags: Option<Vec<(&str, &Json)>> = variants.iter().map(only_property).collect();
        if let Some(tags) = tags {
            return self.tagged(&tags, node, path);
        }
        let fitting = variants.iter().find(|variant| {
            let types = types(variant);
            let by_words = words(variant).is_some() && node.text().is_some();
            by_words || types.iter().any(|name| has_type(name, node))
        });
        match fitting {
            Some(variant) => self.node(variant, node, path),
            None => {
                let types: Vec<&str> = variants
                    .iter()
                    .flat_map(|variant| if words(variant).is_some() { vec!["string"] } else { types(variant) })
                    .collect();
                self.wrong_type(&types, node, path);
            }
        }
    }

    fn tagged(&mut self, tags: &[(&str, &Json)], node: &Node, path: &str) {
        let Value::Table(entries) = &node.value else { return self.wrong_type(&["object"], node, path) };
        let names: Vec<&str> = tags.iter().map(|(name, _)| *name).collect();
        let possible = format!("possible: {}", names.join(", "));
        if entries.is_empty() {
            return self.wrong(node, format!("this is an empty table of {path}"), possible);
        }
        for (at, entry) in entries.iter().enumerate() {
            match tags.iter().find(|(name, _)| *name == entry.key) {
                Some((_, schema)) => {
                    if at > 0 {
                        let message = format!("`{}` is a second key: each of {path} has one", entry.key);
                        let hint = format!("write another [[{path}]] above it");
                        self.problems.add(self.document.problem(&entry.span, message).hint(hint));
                    }
                    self.node(schema, &entry.node, &join(path, &entry.key));
                }
                None => {
                    let hint = match (entry.key.as_str(), nearest(&entry.key, names.iter().copied())) {
                        ("provision" | "destroy", _) => {
                            "leave it out: every drill begins with provision and ends with destroy by itself".to_owned()
                        }
                        (_, Some(near)) => format!("did you mean `{near}`?"),
                        (_, None) => possible.clone(),
                    };
                    let message = format!("unknown key `{}` in {path}", entry.key);
                    self.problems.add(self.document.problem(&entry.span, message).hint(hint));
                }
            }
        }
    }

    fn table(&mut self, schema: &Json, node: &Node, path: &str) {
        let empty = serde_json::Map::new();
        let properties = schema.get("properties").and_then(Json::as_object).unwrap_or(&empty);
        let others = schema.get("additionalProperties");
        let table = if path.is_empty() { "this file".to_owned() } else { format!("[{path}]") };
        for entry in node.entries() {
            if let Some(property) = properties.get(&entry.key) {
                self.node(property, &entry.node, &join(path, &entry.key));
                continue;
            }
            if let Some(name) = schema.pointer("/propertyNames/format").and_then(Json::as_str)
                && let Err(wrong) = format::check(name, &entry.key)
            {
                self.problems.add(self.document.problem(&entry.span, wrong.message).hint(wrong.hint));
            }
            match others {
                Some(Json::Bool(false)) => {
                    let hint = unknown_hint(&entry.key, properties);
                    let message = format!("unknown key `{}` in {table}", entry.key);
                    self.problems.add(self.document.problem(&entry.span, message).hint(hint));
                }
                Some(inner @ Json::Object(_)) => self.node(inner, &entry.node, &join(path, &entry.key)),
                _ => {}
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for key in required.filter(|key| node.entry(key).is_none()) {
            let property = properties.get(key).unwrap_or(&Json::Null);
            let name = join(path, key);
            let (message, hint) = match types(property).first() {
                Some(&"object") => (format!("[{name}] is missing"), format!("write [{name}]{}", purpose(property))),
                Some(&"array") if property.pointer("/items/type") == Some(&"object".into()) => {
                    (format!("[[{name}]] is missing"), format!("write [[{name}]]{}", purpose(property)))
                }
                _ => {
                    let hint = format!("write {key} = {}{}", example(property), purpose(property));
                    (format!("`{key}` is missing in {table}"), hint)
                }
            };
            self.wrong(node, message, hint);
        }
    }

    fn array(&mut self, schema: &Json, node: &Node, items: &[Node], path: &str) {
        let limit = |name: &str| schema.get(name).and_then(Json::as_u64).and_then(|limit| usize::try_from(limit).ok());
        let (least, most) = (limit("minItems").unwrap_or(0), limit("maxItems").unwrap_or(usize::MAX));
        if !(least..=most).contains(&items.len()) {
            let wanted = if least == most { least.to_string() } else { format!("at least {least}") };
            let message = format!("`{}` holds {}, not {wanted}", last(path), items.len());
            self.wrong(node, message, format!("write {wanted}{}", purpose(schema)));
        }
        if let Some(schema) = schema.get("items") {
            for item in items {
                self.node(schema, item, path);
            }
        }
    }

    fn text(&mut self, schema: &Json, node: &Node, text: &str) {
        if let Some(Err(wrong)) = schema.get("format").and_then(Json::as_str).map(|name| format::check(name, text)) {
            self.wrong(node, wrong.message, wrong.hint);
        }
    }

    fn number(&mut self, schema: &Json, node: &Node, number: f64, path: &str) {
        let least = schema.get("minimum").and_then(Json::as_f64);
        let most = schema.get("maximum").and_then(Json::as_f64);
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            let range = match (least, most) {
                (Some(least), Some(most)) => format!("from {least} to {most}"),
                (Some(least), None) => format!("at least {least}"),
                (None, most) => format!("at most {}", most.unwrap_or_default()),
            };
            self.wrong(node, format!("`{}` is {number}", last(path)), format!("it must be {range}"));
        }
    }
}

fn unknown_hint(key: &str, properties: &serde_json::Map<String, Json>) -> String {
    if key == "password" && properties.contains_key("passfile") {
        return "no password stands here: name where it is with passfile, password_file or password_env".to_owned();
    }
    match nearest(key, properties.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("possible: {}", properties.keys().cloned().collect::<Vec<_>>().join(", ")),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(name)) => vec![name],
        Some(Json::Array(names)) => names.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The words of a closed list: `enum`, `const`, or alternatives that are nothing but words.
fn words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return Some(words.iter().filter_map(Json::as_str).collect());
    }
    if let Some(word) = schema.get("const").and_then(Json::as_str) {
        return Some(vec![word]);
    }
    let variants = schema.get("oneOf")?.as_array()?;
    let words: Option<Vec<Vec<&str>>> = variants.iter().map(words).collect();
    words.map(|words| words.concat())
}

/// The one property of a variant such as `{"restore": …}`.
fn only_property(variant: &Json) -> Option<(&str, &Json)> {
    let properties = variant.get("properties")?.as_object()?;
    let required = variant.get("required")?.as_array()?;
    if properties.len() != 1 || required.len() != 1 {
        return None;
    }
    properties.iter().next().map(|(name, schema)| (name.as_str(), schema))
}

fn has_type(name: &str, node: &Node) -> bool {
    matches!(
        (name, &node.value),
        ("string", Value::String(_))
            | ("integer", Value::Integer(_))
            | ("number", Value::Integer(_) | Value::Float(_))
            | ("boolean", Value::Boolean(_))
            | ("array", Value::Array(_))
            | ("object", Value::Table(_))
    )
}

fn type_in_words(name: &str) -> &str {
    match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "an array",
        "object" => "a table",
        other => other,
    }
}

fn example(schema: &Json) -> String {
    if let Some(example) = schema.pointer("/examples/0") {
        return example.to_string();
    }
    if let Some(word) = words(schema).and_then(|words| words.first().map(ToString::to_string)) {
        return format!("\"{word}\"");
    }
    match types(schema).first() {
        Some(&"array") => "[…]".to_owned(),
        Some(&"integer" | &"number") => "1".to_owned(),
        Some(&"boolean") => "true".to_owned(),
        _ => "\"…\"".to_owned(),
    }
}

/// What a key is for: the first sentence of its description.
fn purpose(schema: &Json) -> String {
    let description = schema.get("description").and_then(Json::as_str).unwrap_or_default();
    let first = description.split(". ").next().unwrap_or_default().trim_end_matches('.').replace('\n', " ");
    if first.is_empty() { String::new() } else { format!("  ({first})") }
}
