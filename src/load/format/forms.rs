//! The forms themselves.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Format, Wrong, nearest, slug};
use crate::domain::check::CheckName;
use crate::domain::drill::{Loss, Pick};
use crate::domain::ids::{BackupId, DrillName, JobName, NAME_RULE, PlaceName, PolicyName};
use crate::domain::ledger::Budget;
use crate::domain::units::{ByteSize, Span};
use crate::judge::schedule;
use crate::probe::Endpoint;

impl Format for Span {
    const NAME: &'static str = "duration-text";
    const EXAMPLES: &'static [&'static str] = &["5m", "1h 30m", "14d"];

    fn read(text: &str) -> Result<Span, Wrong> {
        text.parse().map_err(|error: crate::domain::units::BadSpan| Wrong {
            message: error.to_string(),
            hint: "write whole numbers with ms, s, m, h, d or w, such as \"5m\", \"1h 30m\", \"14d\"".to_owned(),
        })
    }
}

impl Format for ByteSize {
    const NAME: &'static str = "byte-size";
    const EXAMPLES: &'static [&'static str] = &["64 MiB", "10GB"];

    fn read(text: &str) -> Result<ByteSize, Wrong> {
        text.parse().map_err(|error: crate::domain::units::BadByteSize| Wrong {
            message: error.to_string(),
            hint: "write a whole number with B, KiB, MiB, GiB, TiB or KB, MB, GB, TB, such as \"64 MiB\"".to_owned(),
        })
    }
}

macro_rules! name_format {
    ($($type:ty),*) => {$(
        impl Format for $type {
            const NAME: &'static str = "name";
            const EXAMPLES: &'static [&'static str] = &["orders"];

            fn read(text: &str) -> Result<Self, Wrong> {
                Self::from_str(text).map_err(|error| {
                    let slug = slug(text);
                    let hint = if slug.is_empty() { NAME_RULE.to_owned() } else { format!("did you mean `{slug}`?") };
                    Wrong { message: error.to_string(), hint }
                })
            }
        }
    )*};
}
// The walker asks by the format alone: it says "name" for all of them.
name_format!(JobName, DrillName, PlaceName);

impl Format for PolicyName {
    const NAME: &'static str = "name";
    const EXAMPLES: &'static [&'static str] = &["orders"];

    fn read(text: &str) -> Result<PolicyName, Wrong> {
        PlaceName::read(text)?;
        PolicyName::from_str(text).map_err(|error| Wrong { message: error.to_string(), hint: NAME_RULE.to_owned() })
    }
}

/// When a job is due.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct When(pub(in crate::load) String);

impl Format for When {
    const NAME: &'static str = "cron";
    const EXAMPLES: &'static [&'static str] = &["0 3 * * *", "@daily", "every 6h"];

    fn read(text: &str) -> Result<When, Wrong> {
        match schedule::parse(text) {
            Ok(_) => Ok(When(text.trim().to_owned())),
            Err(bad) => Err(Wrong { message: bad.to_string(), hint: bad.hint }),
        }
    }
}

/// An IANA time zone.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct Zone(pub(in crate::load) String);

impl Format for Zone {
    const NAME: &'static str = "timezone";
    const EXAMPLES: &'static [&'static str] = &["UTC", "Europe/Berlin"];

    fn read(text: &str) -> Result<Zone, Wrong> {
        let known = jiff::tz::TimeZoneDatabase::bundled();
        if known.get(text).is_ok() || jiff::tz::db().get(text).is_ok() {
            return Ok(Zone(text.to_owned()));
        }
        let names: Vec<String> = known.available().map(|name| name.to_string()).collect();
        let hint = match nearest(text, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write a name of the IANA database, such as \"UTC\" or \"Europe/Berlin\"".to_owned(),
        };
        Err(Wrong { message: format!("`{text}` is not a time zone"), hint })
    }
}

/// A time of the day.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct Clock(pub(in crate::load) jiff::civil::Time);

impl Format for Clock {
    const NAME: &'static str = "clock";
    const EXAMPLES: &'static [&'static str] = &["22:00", "05:30"];

    fn read(text: &str) -> Result<Clock, Wrong> {
        let digits = text.len() == 5 && text.bytes().enumerate().all(|(at, byte)| at == 2 || byte.is_ascii_digit());
        let time = jiff::civil::Time::strptime("%H:%M", text).ok().filter(|_| digits);
        time.map(Clock).ok_or_else(|| Wrong {
            message: format!("`{text}` is not a time of the day"),
            hint: "write hours and minutes, from \"00:00\" to \"23:59\"".to_owned(),
        })
    }
}

impl Format for Budget {
    const NAME: &'static str = "budget";
    const EXAMPLES: &'static [&'static str] = &["10%", "20GiB", "30m"];

    fn read(text: &str) -> Result<Budget, Wrong> {
        text.parse().map_err(|error: crate::domain::ledger::BadBudget| Wrong {
            message: error.to_string(),
            hint: "write a share of all that is stored, a size or a time, such as \"10%\", \"20GiB\", \"30m\""
                .to_owned(),
        })
    }
}

/// An age recipient.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct Recipient(pub(in crate::load) String);

impl Format for Recipient {
    const NAME: &'static str = "age-recipient";
    const EXAMPLES: &'static [&'static str] = &["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"];

    fn read(text: &str) -> Result<Recipient, Wrong> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY") {
            // Never repeated: it opens every backup.
            return Err(Wrong {
                message: "this is a private key, not a recipient".to_owned(),
                hint: "take it out of this file and make a new one; the recipient is the `age1…` beside it".to_owned(),
            });
        }
        match age::x25519::Recipient::from_str(text) {
            Ok(_) => Ok(Recipient(text.to_owned())),
            Err(why) => Err(Wrong {
                message: format!("`{text}` is not an age recipient: {why}"),
                hint: "it is the `age1…` that stands in the key file's comment (`age-keygen -y FILE` prints it)"
                    .to_owned(),
            }),
        }
    }
}

/// A connection URL without a password.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct Url(pub(in crate::load) String);

impl Format for Url {
    const NAME: &'static str = "connection-url";
    const EXAMPLES: &'static [&'static str] = &["postgresql://lifeboat@/orders?host=/run/postgresql"];

    fn read(text: &str) -> Result<Url, Wrong> {
        match Endpoint::parse(text) {
            Ok(_) => Ok(Url(text.to_owned())),
            Err(error) => Err(Wrong { message: error.to_string(), hint: error.hint() }),
        }
    }
}

/// A path as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct FilePath(PathBuf);

impl FilePath {
    /// The path, read from `folder` unless it is absolute.
    pub(in crate::load) fn resolve(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

impl Format for FilePath {
    const NAME: &'static str = "path";
    const EXAMPLES: &'static [&'static str] = &["keys/signing.pem"];

    fn read(text: &str) -> Result<FilePath, Wrong> {
        let wrong = |message: &str, hint: &str| Wrong { message: message.to_owned(), hint: hint.to_owned() };
        if text.is_empty() {
            Err(wrong("the path is empty", "write a path; it is read from the folder of this file"))
        } else if text.starts_with('~') || text.contains("${") {
            let hint = "write the whole path, or one from the folder of this file: only shells know ~ and variables";
            Err(wrong(&format!("`{text}` would be taken literally"), hint))
        } else if text.contains('\0') {
            Err(wrong("the path holds a zero byte", "write a path that the system can have"))
        } else {
            Ok(FilePath(PathBuf::from(text)))
        }
    }
}

/// A text that is not empty.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct Words(pub(in crate::load) String);

impl Format for Words {
    const NAME: &'static str = "words";
    const EXAMPLES: &'static [&'static str] = &[];

    fn read(text: &str) -> Result<Words, Wrong> {
        if text.trim().is_empty() {
            return Err(Wrong {
                message: "it is empty".to_owned(),
                hint: "say something, or leave the key out".to_owned(),
            });
        }
        Ok(Words(text.to_owned()))
    }
}

/// The name of an environment variable.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::load) struct Variable(pub(in crate::load) String);

impl Format for Variable {
    const NAME: &'static str = "variable";
    const EXAMPLES: &'static [&'static str] = &["ORDERS_PASSWORD"];

    fn read(text: &str) -> Result<Variable, Wrong> {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !text.is_empty() && text.chars().all(letters) && !text.starts_with(|c: char| c.is_ascii_digit()) {
            Ok(Variable(text.to_owned()))
        } else {
            // Not repeated: what stands here by mistake may be the password itself.
            Err(Wrong {
                message: "this is not the name of an environment variable".to_owned(),
                hint: "write the variable's name, without $, such as \"ORDERS_PASSWORD\"; never the password"
                    .to_owned(),
            })
        }
    }
}

impl Format for Loss {
    const NAME: &'static str = "moment";
    const EXAMPLES: &'static [&'static str] = &["now", "random", "2026-01-31T03:00:00Z"];

    fn read(text: &str) -> Result<Loss, Wrong> {
        match text {
            "now" => return Ok(Loss::Now),
            "random" => return Ok(Loss::Random),
            _ => {}
        }
        text.parse().map(Loss::At).map_err(|_| Wrong {
            message: format!("`{text}` is not a moment of loss"),
            hint: "possible: \"now\", \"random\", or a time with its offset such as \"2026-01-31T03:00:00Z\""
                .to_owned(),
        })
    }
}

impl Format for Pick {
    const NAME: &'static str = "pick";
    const EXAMPLES: &'static [&'static str] = &["latest", "oldest", "random", "20260131T030000Z-0a1b2c3d"];

    fn read(text: &str) -> Result<Pick, Wrong> {
        match text {
            "latest" => Ok(Pick::Latest),
            "oldest" => Ok(Pick::Oldest),
            "random" => Ok(Pick::Random),
            id => BackupId::from_str(id).map(Pick::Id).map_err(|_| {
                let hint = match nearest(id, ["latest", "oldest", "random"].into_iter()) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => {
                        "possible: \"latest\", \"oldest\", \"random\", or a backup's own id such as \"20260131T030000Z-0a1b2c3d\""
                            .to_owned()
                    }
                };
                Wrong { message: format!("`{id}` picks no backup"), hint }
            }),
        }
    }
}

impl Format for CheckName {
    const NAME: &'static str = "check-name";
    const EXAMPLES: &'static [&'static str] = &["completeness"];

    fn all() -> Option<Vec<&'static str>> {
        let steps = |name: &CheckName| *name != CheckName::Readiness;
        Some(CheckName::ALL.into_iter().filter(steps).map(CheckName::as_str).collect())
    }

    fn read(text: &str) -> Result<CheckName, Wrong> {
        let all = Self::all().unwrap_or_default();
        if text == CheckName::Readiness.as_str() {
            return Err(Wrong {
                message: "readiness is a step of its own".to_owned(),
                hint: "write await-ready = { query = \"select 1\", within = \"200ms\", timeout = \"10m\" }".to_owned(),
            });
        }
        text.parse().map_err(|message| {
            let hint = match nearest(text, all.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("there are: {}", all.join(", ")),
            };
            Wrong { message, hint }
        })
    }
}
