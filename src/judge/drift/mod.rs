//! What is not as it was declared. Each function looks at one source of facts; what could not be looked at is a drift of its own.

pub mod promises;
pub mod second;
pub mod source;
pub mod stored;

use jiff::Timestamp;

use crate::domain::drift::{Drift, Severity};
use crate::domain::policy::Policy;

/// So many of one kind are named one by one.
pub const NAMED: usize = 100;

/// Begins one: what it is of, and how bad it is.
fn of(policy: &Policy, code: &str, severity: Severity, object: impl Into<String>) -> Drift {
    Drift {
        code: code.to_owned(),
        severity,
        policy: Some(policy.name.clone()),
        object: object.into(),
        declared: String::new(),
        observed: String::new(),
        since: None,
        mend: String::new(),
    }
}

impl Drift {
    /// The same, with what was promised and what was seen instead.
    fn saying(mut self, declared: impl Into<String>, observed: impl Into<String>) -> Drift {
        (self.declared, self.observed) = (declared.into(), observed.into());
        self
    }

    /// The same, with how to mend it.
    fn mended_by(mut self, mend: impl Into<String>) -> Drift {
        self.mend = mend.into();
        self
    }

    /// The same, with since when.
    fn since(mut self, since: Option<Timestamp>) -> Drift {
        self.since = since;
        self
    }
}

/// The worst first; of the same severity by policy, code and object.
pub fn sort(drifts: &mut Vec<Drift>) {
    drifts.sort_by(|a, b| {
        let key =
            |one: &Drift| (std::cmp::Reverse(one.severity), one.policy.clone(), one.code.clone(), one.object.clone());
        key(a).cmp(&key(b))
    });
    drifts.dedup();
}

#[cfg(test)]
#[path = "../drift_tests.rs"]
mod tests;
