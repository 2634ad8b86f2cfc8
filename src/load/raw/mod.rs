//! The files as they are written: the single definition of their shape. The JSON Schemas are generated from these structs,
//! the walker holds files against those schemas, and serde reads what passed.

pub(super) mod config;
pub(super) mod drill;
pub(super) mod policy;
pub(super) mod store;
pub(super) mod timetable;
pub(super) mod watch;

use std::borrow::Cow;
use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

/// Kinds of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `lifeboat.toml`.
    Config,
    /// `policies/*.toml`.
    Policy,
    /// `drills/*.toml`.
    Drill,
}

/// The JSON Schema (draft 2020-12) of a kind of file.
pub fn schema(kind: FileKind) -> Json {
    schema_of(kind).clone()
}

/// The same, made once.
pub(super) fn schema_of(kind: FileKind) -> &'static Json {
    static SCHEMAS: [OnceLock<Json>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
    match kind {
        FileKind::Config => SCHEMAS[0].get_or_init(|| generate::<config::RawConfig>("lifeboat.toml")),
        FileKind::Policy => SCHEMAS[1].get_or_init(|| generate::<policy::RawPolicy>("A policy of lifeboat")),
        FileKind::Drill => SCHEMAS[2].get_or_init(|| generate::<drill::RawDrill>("A drill of lifeboat")),
    }
}

fn generate<T: JsonSchema>(title: &str) -> Json {
    // Inlined, so that the walker and editors need not follow references.
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    schema["title"] = title.into();
    schema
}

/// TOML has no null: what may be left out is simply not required.
fn without_null(schema: &mut Json) {
    match schema {
        Json::Object(map) => {
            if map.get("default") == Some(&Json::Null) {
                map.remove("default");
            }
            if let Some(Json::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            if let Some(Json::Array(variants)) = map.get_mut("anyOf") {
                variants.retain(|variant| variant.get("type") != Some(&"null".into()));
                if let [Json::Object(only)] = variants.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    for (key, value) in only {
                        map.entry(key).or_insert(value);
                    }
                }
            }
            if let Some(Json::Array(words)) = map.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            map.values_mut().for_each(without_null);
        }
        Json::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// Which databases: `"all"`, or a list of names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RawDatabases {
    All,
    Named(Vec<String>),
}

impl<'de> Deserialize<'de> for RawDatabases {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::String(text) if text == "all" => Ok(RawDatabases::All),
            list @ Json::Array(_) => {
                serde_json::from_value(list).map(RawDatabases::Named).map_err(serde::de::Error::custom)
            }
            _ => Err(serde::de::Error::custom("`databases` is \"all\" or a list of names")),
        }
    }
}

impl JsonSchema for RawDatabases {
    fn schema_name() -> Cow<'static, str> {
        "Databases".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "enum": ["all"] },
            { "type": "array", "items": { "type": "string", "format": "words" }, "minItems": 1 },
        ] })
    }
}

/// A value as PostgreSQL prints it: a string, or an integer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawScalar(pub(super) String);

impl<'de> Deserialize<'de> for RawScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::String(text) => Ok(RawScalar(text)),
            Json::Number(number) => Ok(RawScalar(number.to_string())),
            _ => Err(serde::de::Error::custom("`equals` is a string or an integer")),
        }
    }
}

impl JsonSchema for RawScalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}
