//! What can go wrong with a catalog on a server.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::domain::check::Broke;
use crate::probe::{EndpointError, root_cause};

/// What can go wrong with a catalog on PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No way in.
    #[error("the catalog cannot be reached: {0}")]
    Connect(#[from] EndpointError),
    /// It was reached, and does not answer.
    #[error("the catalog {target} did not answer within {} while trying to {doing}", seconds(.within))]
    Silent {
        /// Which.
        target: String,
        /// What was tried.
        doing: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// The connection broke.
    #[error("the catalog {target} went away while trying to {doing}: {why}")]
    Away {
        /// Which.
        target: String,
        /// What was tried.
        doing: &'static str,
        /// Why.
        why: String,
    },
    /// There is nothing yet.
    #[error("the schema {schema} of {target} holds no catalog yet")]
    Missing {
        /// Which server.
        target: String,
        /// Which schema.
        schema: String,
    },
    /// Something else is there.
    #[error("the schema {schema} of {target} is no catalog: {why}")]
    Foreign {
        /// Which server.
        target: String,
        /// Which schema.
        schema: String,
        /// What was seen.
        why: String,
    },
    /// An earlier lifeboat made it.
    #[error("the catalog {target} has schema version {found}, and this lifeboat needs {wanted}")]
    Older {
        /// Which.
        target: String,
        /// Its version.
        found: i32,
        /// Ours.
        wanted: i32,
    },
    /// A later lifeboat made it.
    #[error(
        "the catalog {target} was written by a newer lifeboat: its schema has version {found}, and this one knows {wanted}"
    )]
    Newer {
        /// Which.
        target: String,
        /// Its version.
        found: i32,
        /// Ours.
        wanted: i32,
    },
    /// Nothing can be written there.
    #[error("the catalog {target} is read-only: {why}")]
    ReadOnly {
        /// Which.
        target: String,
        /// The server's words.
        why: String,
    },
    /// The role may not.
    #[error("the role may not {doing} in the catalog {target}: {why}")]
    Denied {
        /// Which.
        target: String,
        /// What was tried.
        doing: &'static str,
        /// The server's words.
        why: String,
    },
    /// What is in it was not written so by lifeboat.
    #[error("the catalog {target} is damaged: {why}")]
    Corrupt {
        /// Which.
        target: String,
        /// What was seen.
        why: String,
    },
    /// Anything else that the server says.
    #[error("could not {doing} in the catalog {target}: {why}")]
    Server {
        /// What was tried.
        doing: &'static str,
        /// Which.
        target: String,
        /// The server's words.
        why: String,
    },
}

/// Whether the way to the server broke.
fn is_broken(error: &tokio_postgres::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.is::<std::io::Error>() {
            return true;
        }
        source = inner.source();
    }
    false
}

fn seconds(within: &Duration) -> String {
    format!("{} s", within.as_secs_f64())
}

impl ServerError {
    /// From what the driver says.
    pub(super) fn of(doing: &'static str, target: &str, error: &tokio_postgres::Error) -> ServerError {
        let (target, why) = (target.to_owned(), root_cause(error));
        let Some(code) = error.code() else {
            return if error.is_closed() || is_broken(error) {
                ServerError::Away { target, doing, why }
            } else {
                ServerError::Server { doing, target, why }
            };
        };
        match code {
            &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN | &SqlState::CANNOT_CONNECT_NOW => {
                ServerError::Away { target, doing, why }
            }
            &SqlState::READ_ONLY_SQL_TRANSACTION => ServerError::ReadOnly { target, why },
            &SqlState::INSUFFICIENT_PRIVILEGE => ServerError::Denied { target, doing, why },
            &SqlState::UNDEFINED_TABLE
            | &SqlState::UNDEFINED_COLUMN
            | &SqlState::DATA_CORRUPTED
            | &SqlState::INDEX_CORRUPTED => ServerError::Corrupt { target, why },
            _ => ServerError::Server { doing, target, why },
        }
    }

    fn hint(&self) -> String {
        let hint = match self {
            ServerError::Connect(error) => return error.hint(),
            ServerError::Silent { .. } => {
                "is the server overloaded, stopped or cut off? Runs that are under way go on and spool what they have to say"
            }
            ServerError::Away { .. } => "see whether the server runs; lifeboat connects again by itself",
            ServerError::Missing { .. } => {
                "`lifeboat catalog migrate` makes one; if there was one, check url and schema in [catalog]"
            }
            ServerError::Foreign { .. } => "name another schema: [catalog] schema; what is there is left alone",
            ServerError::Older { .. } => "stop or upgrade all who use it, then run `lifeboat catalog migrate`",
            ServerError::Newer { .. } => "use that version here as well, or a later one",
            ServerError::ReadOnly { .. } => {
                "name the primary in [catalog] url: a standby, or a read-only database, can only be looked at"
            }
            ServerError::Denied { .. } => "the role must own the schema, or have been given it: see docs/catalog.md",
            ServerError::Corrupt { .. } => {
                "`lifeboat catalog check` tells what is wrong; restore it from its backup, or rebuild it in a new schema"
            }
            ServerError::Server { .. } => "see the server's log",
        };
        hint.to_owned()
    }
}

impl From<ServerError> for Broke {
    fn from(error: ServerError) -> Broke {
        Broke { hint: Some(error.hint()), error: error.to_string() }
    }
}

/// What a query can end with, before it is known of which catalog.
#[derive(Debug)]
pub(super) enum Trouble {
    Driver(tokio_postgres::Error),
    /// A row that lifeboat did not write so.
    Row(String),
    Server(ServerError),
    /// Not the catalog's fault.
    Other(Broke),
}

impl Trouble {
    pub(super) fn at(self, doing: &'static str, target: &str) -> Broke {
        match self {
            Trouble::Driver(error) => ServerError::of(doing, target, &error).into(),
            Trouble::Row(why) => ServerError::Corrupt { target: target.to_owned(), why }.into(),
            Trouble::Server(error) => error.into(),
            Trouble::Other(broke) => broke,
        }
    }

    /// Whether it is this SQLSTATE.
    pub(super) fn is(&self, state: &SqlState) -> bool {
        matches!(self, Trouble::Driver(error) if error.code() == Some(state))
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Trouble {
        Trouble::Driver(error)
    }
}

impl From<ServerError> for Trouble {
    fn from(error: ServerError) -> Trouble {
        Trouble::Server(error)
    }
}

impl From<crate::domain::ids::BadId> for Trouble {
    fn from(error: crate::domain::ids::BadId) -> Trouble {
        Trouble::Row(error.to_string())
    }
}
