//! Why a question to a database was not answered.

use tokio_postgres::error::SqlState;

use super::EndpointError;
use crate::domain::check::Broke;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] EndpointError),
    /// The server refused, or the connection was lost on the way.
    #[error("{doing}: {why}")]
    Sql {
        /// What was being done: `reading the roles`.
        doing: String,
        /// The server's own words, without DETAIL: that may quote rows.
        why: String,
        /// SQLSTATE, when it was the server that refused.
        code: Option<SqlState>,
    },
    /// The answer has another shape than every supported version gives.
    #[error("{doing}: {why}")]
    Answer {
        /// What was being done.
        doing: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What a refusal says about the database that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The data are damaged: in a restored copy this is a finding.
    Damaged,
    /// The role may not look.
    Denied,
    /// It took too long.
    TooLong,
    /// Anything else: nothing follows for the data.
    Other,
}

impl ProbeError {
    /// From the driver.
    pub fn sql(doing: impl Into<String>, error: &tokio_postgres::Error) -> ProbeError {
        let why = match error.as_db_error() {
            Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
            None => {
                std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
            }
        };
        ProbeError::Sql { doing: doing.into(), why, code: error.code().cloned() }
    }

    /// What it says about the data.
    pub fn fault(&self) -> Fault {
        match self {
            ProbeError::Sql { code: Some(code), .. } => fault_of(code.code()),
            ProbeError::Sql { code: None, .. } | ProbeError::Connect(_) | ProbeError::Answer { .. } => Fault::Other,
        }
    }

    /// Whether the server says that a table or a column is not there.
    pub fn is_of_no_such_object(&self) -> bool {
        let ProbeError::Sql { code: Some(code), .. } = self else { return false };
        *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ProbeError::Connect(error) => Some(error.hint()),
            ProbeError::Sql { .. } => match self.fault() {
                Fault::Damaged => Some("see the server's log: it names the file and block".to_owned()),
                Fault::Denied => Some(
                    "let the role read everything (GRANT pg_read_all_data; BYPASSRLS where tables have row security)"
                        .to_owned(),
                ),
                Fault::TooLong => Some("see in pg_locks who holds a lock, and try again in a quieter hour".to_owned()),
                Fault::Other => Some("see the server's log for more".to_owned()),
            },
            ProbeError::Answer { .. } => {
                Some("PostgreSQL 13 to 18 are supported; is this another server that speaks its protocol?".to_owned())
            }
        }
    }
}

/// Class XX is corruption and PostgreSQL's own "cannot happen"; 58P01 is a file of the data folder that is not there.
fn fault_of(code: &str) -> Fault {
    match code {
        "58P01" => Fault::Damaged,
        "42501" => Fault::Denied,
        "57014" | "55P03" => Fault::TooLong,
        code if code.starts_with("XX") => Fault::Damaged,
        _ => Fault::Other,
    }
}

impl From<ProbeError> for Broke {
    fn from(error: ProbeError) -> Broke {
        Broke { error: error.to_string(), hint: error.hint() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signs_of_damage_count_as_damage() {
        for (code, fault) in [
            ("XX000", Fault::Damaged),
            ("XX001", Fault::Damaged),
            ("XX002", Fault::Damaged),
            ("58P01", Fault::Damaged),
            ("58030", Fault::Other), // the machine's disk may be bad, not the backup
            ("53100", Fault::Other),
            ("42501", Fault::Denied),
            ("57014", Fault::TooLong),
            ("55P03", Fault::TooLong),
            ("42P01", Fault::Other),
        ] {
            assert_eq!(fault_of(code), fault, "{code}");
        }
    }
}
