//! Texts with a form of their own: durations, sizes, names, schedules. One definition each, for reading, for the JSON
//! Schema, and for the errors of the walker.

mod forms;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::domain::check::CheckName;
use crate::domain::drill::{Loss, Pick};
use crate::domain::ids::PolicyName;
use crate::domain::ledger::Budget;
use crate::domain::units::{ByteSize, Span};

pub(super) use self::forms::{Clock, FilePath, Recipient, Url, Variable, When, Words, Zone};

/// Why a text has not the form that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What is wrong.
    pub(super) message: String,
    /// What to write instead.
    pub(super) hint: String,
}

/// A form of text.
pub(super) trait Format: Sized {
    /// Its name in the JSON Schema's `format`.
    const NAME: &'static str;
    /// Texts that have it.
    const EXAMPLES: &'static [&'static str];
    /// Reads it.
    fn read(text: &str) -> Result<Self, Wrong>;
    /// All texts that have it, when they can be counted.
    fn all() -> Option<Vec<&'static str>> {
        None
    }
}

/// A text that was read by its [`Format`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written<T>(pub(super) T);

impl<'de, T: Format> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).map(Written).map_err(|wrong| serde::de::Error::custom(wrong.message))
    }
}

impl<T: Format> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({ "type": "string", "format": T::NAME, "examples": T::EXAMPLES });
        if let Some(all) = T::all() {
            schema.insert("enum".to_owned(), all.into());
        }
        schema
    }
}

/// The check for a `format` of the schema.
pub(super) fn check(format: &str, text: &str) -> Result<(), Wrong> {
    match format {
        Span::NAME => Span::read(text).map(drop),
        ByteSize::NAME => ByteSize::read(text).map(drop),
        PolicyName::NAME => PolicyName::read(text).map(drop),
        When::NAME => When::read(text).map(drop),
        Zone::NAME => Zone::read(text).map(drop),
        Clock::NAME => Clock::read(text).map(drop),
        Budget::NAME => Budget::read(text).map(drop),
        Recipient::NAME => Recipient::read(text).map(drop),
        Url::NAME => Url::read(text).map(drop),
        FilePath::NAME => FilePath::read(text).map(drop),
        Words::NAME => Words::read(text).map(drop),
        Variable::NAME => Variable::read(text).map(drop),
        Loss::NAME => Loss::read(text).map(drop),
        Pick::NAME => Pick::read(text).map(drop),
        CheckName::NAME => CheckName::read(text).map(drop),
        // A format that only other programs know (`double` of schemars).
        _ => Ok(()),
    }
}

/// The nearest valid name, for hints and for `lifeboat init`: lower case, `-` for everything else.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(63);
    slug.trim_end_matches('-').to_owned()
}

/// The known word that is most like this one, if one is like it at all: it sounds like it, or is one slip of the fingers away.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let one_slip = |word: &str| word.len() > 2 && strsim::osa_distance(word, &lower) == 1;
    let likeness = |word: &str| {
        let word = word.to_lowercase();
        strsim::jaro_winkler(&word, &lower) + if one_slip(&word) { 1.0 } else { 0.0 }
    };
    let best = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.8).then_some(best)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn every_format_refuses_with_a_hint_and_takes_its_own_examples() {
        fn examples<T: Format>() {
            for text in T::EXAMPLES {
                check(T::NAME, text).unwrap_or_else(|wrong| panic!("{}: {wrong:?}", T::NAME));
            }
        }
        examples::<Span>();
        examples::<ByteSize>();
        examples::<PolicyName>();
        examples::<When>();
        examples::<Zone>();
        examples::<Clock>();
        examples::<Budget>();
        examples::<Recipient>();
        examples::<Url>();
        examples::<FilePath>();
        examples::<Variable>();
        examples::<Loss>();
        examples::<Pick>();
        examples::<CheckName>();
        for (format, text, part) in [
            ("duration-text", "5 minuets", "not a duration"),
            ("byte-size", "1.5GB", "not a size"),
            ("name", "Orders_DB", "not a name"),
            ("cron", "0 25 * * *", "hour `25`"),
            ("timezone", "Europe/Berln", "not a time zone"),
            ("clock", "25:00", "not a time of the day"),
            ("clock", "10pm", "not a time of the day"),
            ("budget", "200%", "not a budget"),
            ("age-recipient", "age1nonsense", "not an age recipient"),
            ("age-recipient", "AGE-SECRET-KEY-1XYZ", "private key"),
            ("connection-url", "postgresql://a:s3cret@h/d", "holds a password"),
            ("path", "~/keys", "literally"),
            ("variable", "$SECRET", "environment variable"),
            ("moment", "sometime", "moment of loss"),
            ("pick", "newest", "picks no backup"),
            ("check-name", "complete", "not a check"),
            ("check-name", "readiness", "step of its own"),
            ("words", "  ", "empty"),
        ] {
            let wrong = check(format, text).unwrap_err();
            assert!(wrong.message.contains(part), "{format}: {wrong:?}");
            assert!(!wrong.hint.is_empty() && !wrong.message.contains("s3cret"), "{wrong:?}");
        }
        assert_eq!(check("timezone", "Europe/Berln").unwrap_err().hint, "did you mean \"Europe/Berlin\"?");
        assert_eq!(check("name", "Orders_DB").unwrap_err().hint, "did you mean `orders-db`?");
        assert!(!check("age-recipient", "AGE-SECRET-KEY-1XYZ").unwrap_err().message.contains("1XYZ"));
    }

    #[test]
    fn a_slug_is_a_name_or_nothing() {
        for (text, slug_of) in
            [("Orders DB", "orders-db"), ("_x_", "x"), ("ünïcode", "n-code"), ("___", ""), ("a", "a")]
        {
            assert_eq!(slug(text), slug_of);
        }
        assert!(PolicyName::from_str(&slug(&"Ab_".repeat(50))).is_ok());
    }
}
