//! What came of trying to destroy a backup on purpose.

use serde::{Deserialize, Serialize};

/// What a store does against deletion, and what it did when somebody tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Immutability {
    /// Whether it keeps what is written over or deleted.
    pub versioning: bool,
    /// Whether it can lock objects.
    pub locking: bool,
    /// What was tried on an object of our own, with the credentials of backups.
    pub attempts: Vec<Attempt>,
}

/// One thing that was tried and must not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What.
    pub what: String,
    /// Whether the object was safe from it.
    pub withstood: bool,
    /// What the service answered, or what was seen.
    pub answer: String,
}

impl Immutability {
    /// Whether nothing that was tried did any harm. Without an attempt nothing is proved.
    pub fn holds(&self) -> bool {
        self.versioning
            && self.locking
            && !self.attempts.is_empty()
            && self.attempts.iter().all(|attempt| attempt.withstood)
    }

    /// Why it does not, in words; empty: it does.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if !self.versioning {
            gaps.push("the bucket keeps no versions".to_owned());
        }
        if !self.locking {
            gaps.push("object lock is not enabled for the bucket".to_owned());
        }
        let failed = self.attempts.iter().filter(|attempt| !attempt.withstood);
        gaps.extend(failed.map(|attempt| format!("{}: {}", attempt.what, attempt.answer)));
        if gaps.is_empty() && self.attempts.is_empty() {
            gaps.push("nothing was tried".to_owned());
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_withstood_everything_holds() {
        let attempt = |withstood| Attempt { what: "delete".into(), withstood, answer: "AccessDenied".into() };
        let good = Immutability { versioning: true, locking: true, attempts: vec![attempt(true), attempt(true)] };
        assert!(good.holds() && good.gaps().is_empty());
        for bad in [
            Immutability { versioning: false, ..good.clone() },
            Immutability { locking: false, ..good.clone() },
            Immutability { attempts: vec![], ..good.clone() },
            Immutability { attempts: vec![attempt(true), attempt(false)], ..good.clone() },
        ] {
            assert!(!bad.holds() && bad.gaps().len() == 1, "{bad:?}");
        }
    }
}
