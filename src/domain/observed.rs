//! What was seen of a thing, kept apart from what is not known about it.

use serde::{Deserialize, Serialize};

/// An observation. An unknown is never treated as a good value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed<T> {
    /// It was seen, and this is it.
    Known(T),
    /// It was looked for and is certainly not there.
    Absent,
    /// It could not be looked at; here is why.
    Unknown(String),
}

impl<T> Observed<T> {
    /// The value, if it was seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Observed::Known(value) => Some(value),
            Observed::Absent | Observed::Unknown(_) => None,
        }
    }
}
