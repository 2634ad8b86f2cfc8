//! A place in PostgreSQL's write-ahead log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A log sequence number, printed as PostgreSQL does: `16/B374D848`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Lsn(pub u64);

/// Why a text is not an LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log sequence number such as 16/B374D848")]
pub struct BadLsn(pub String);

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Lsn, BadLsn> {
        let bad = || BadLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let half = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
        };
        Ok(Lsn(u64::from(half(high).ok_or_else(bad)?) << 32 | u64::from(half(low).ok_or_else(bad)?)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

impl TryFrom<String> for Lsn {
    type Error = BadLsn;

    fn try_from(text: String) -> Result<Lsn, BadLsn> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_as_postgresql_does() {
        for text in ["0/0", "0/1", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        assert!("16/B374D848".parse::<Lsn>().unwrap() > "15/FFFFFFFF".parse::<Lsn>().unwrap());
        for text in ["", "/", "1", "1/", "/1", "g/1", "+1/1", "100000000/0", "1/1/1"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?} must be refused");
        }
    }
}
