//! Copies: whether each is as it was promised, and what is to be thought of them all by the rule of 3-2-1-1-0.
//!
//! - **3** copies of the data, the live source among them;
//! - on **2** kinds of media, the source's disk among them;
//! - **1** of them off-site: at a known site that is not the source's known site;
//! - **1** that cannot be deleted;
//! - **0** errors: all of every copy was read, and every hash was right: in this look, or by the ledger within the time that the policy declares.
//!
//! What could not be seen is unproven, and never good.

mod compare;
mod rule;

use jiff::Timestamp;
use serde::Serialize;

use self::compare::{absent, falls_short, found, late, logs, unseen, unverified};
use self::rule::ruled;
use crate::domain::copies::{CopyTerms, LogSpread, Place, Spread};
use crate::domain::drift::{Drift, Severity};
use crate::domain::ids::{BackupId, PlaceName, PolicyName};
use crate::domain::transcript::Verdict;

/// What the source's own disk is called among media.
pub const SOURCE_MEDIA: &str = "disk";

/// Everything that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Whose copies.
    pub policy: &'a PolicyName,
    /// Where the source stands; none: nobody said.
    pub source_site: Option<&'a PlaceName>,
    /// The stores.
    pub places: &'a [Place],
    /// What each job promises.
    pub terms: &'a [CopyTerms],
    /// The backups that any of the stores has, and what each has of them.
    pub backups: &'a [Spread],
    /// The log in each second store.
    pub logs: &'a [LogSpread],
    /// By the runner's clock.
    pub now: Timestamp,
}

/// One of the five numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Three copies, the source among them.
    Copies,
    /// On two kinds of media.
    Media,
    /// One off-site.
    OffSite,
    /// One that cannot be deleted.
    Immutable,
    /// No errors.
    Errors,
}

impl Rule {
    /// In their order.
    pub const ALL: [Rule; 5] = [Rule::Copies, Rule::Media, Rule::OffSite, Rule::Immutable, Rule::Errors];

    /// What it demands.
    pub fn demand(self) -> &'static str {
        match self {
            Rule::Copies => "3 copies, the source among them",
            Rule::Media => "2 kinds of media",
            Rule::OffSite => "1 copy off-site",
            Rule::Immutable => "1 copy that cannot be deleted",
            Rule::Errors => "0 errors",
        }
    }

    fn code(self) -> &'static str {
        match self {
            Rule::Copies => "copies_too_few",
            Rule::Media => "copies_one_medium",
            Rule::OffSite => "copies_not_offsite",
            Rule::Immutable => "copies_not_immutable",
            Rule::Errors => "copies_unverified",
        }
    }

    fn mend(self) -> &'static str {
        match self {
            Rule::Copies => "declare a second store: [[backup]] copies = [\"STORE\"], then `lifeboat copy`",
            Rule::Media => "copy to a store on another medium, and say so: [stores.NAME] media = \"…\"",
            Rule::OffSite => "copy to another site, and say where source and stores stand: site = \"…\"",
            Rule::Immutable => "copy to a store that locks its objects",
            Rule::Errors => "read them: lifeboat copies POLICY --read, or lifeboat verify POLICY --budget …",
        }
    }
}

/// How one number came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ruled {
    /// Which.
    pub rule: Rule,
    /// Proven, failed, or not to be told.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// The five numbers of one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfBackup {
    /// Which.
    pub backup: BackupId,
    /// In their order.
    pub rules: Vec<Ruled>,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Whether any job declares copies: if none does, nothing was compared.
    pub declared: bool,
    /// Each backup, as they were given.
    pub backups: Vec<OfBackup>,
    /// All of them: the worst of each number.
    pub rules: Vec<Ruled>,
    /// Where copies are not as they were declared, or could not be seen.
    pub compared: Vec<Drift>,
    /// Where the policy falls short of 3-2-1-1-0.
    pub short: Vec<Drift>,
}

impl Judged {
    /// How the comparison came out: a difference, something that was not seen, or neither.
    pub fn comparison(&self) -> Verdict {
        let is = |bad: fn(Severity) -> bool| self.compared.iter().any(|drift| bad(drift.severity));
        if is(|severity| severity != Severity::Unproven) {
            Verdict::Failed
        } else if is(|severity| severity == Severity::Unproven) || self.backups.is_empty() || !self.declared {
            Verdict::Unproven
        } else {
            Verdict::Proven
        }
    }

    /// How the rule came out.
    pub fn rule(&self) -> Verdict {
        worst(self.rules.iter().map(|ruled| ruled.verdict))
    }
}

/// Judges.
pub fn judge(ground: &Ground<'_>) -> Judged {
    let backups: Vec<OfBackup> = ground
        .backups
        .iter()
        .map(|spread| OfBackup {
            backup: spread.backup.clone(),
            rules: Rule::ALL.into_iter().map(|rule| ruled(rule, spread, ground)).collect(),
        })
        .collect();
    let rules: Vec<Ruled> = Rule::ALL.into_iter().map(|rule| over_all(rule, &backups)).collect();
    let mut compared = Vec::new();
    unseen(ground, &mut compared);
    for spread in ground.backups {
        found(ground, spread, &mut compared);
        late(ground, spread, &mut compared);
    }
    absent(ground, &mut compared);
    logs(ground, &mut compared);
    unverified(ground, &mut compared);
    let short = rules.iter().filter(|ruled| ruled.rule != Rule::Errors).filter_map(|ruled| falls_short(ground, ruled));
    let short = short.collect();
    let declared = ground.terms.iter().any(|terms| !terms.copies.is_empty());
    Judged { declared, backups, rules, compared, short }
}

fn worst(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let grave = |verdict: &Verdict| match verdict {
        Verdict::Proven => 0,
        Verdict::Unproven => 1,
        Verdict::Failed => 2,
    };
    verdicts.max_by_key(grave).unwrap_or(Verdict::Unproven)
}

fn over_all(rule: Rule, backups: &[OfBackup]) -> Ruled {
    let of_rule = || backups.iter().filter_map(|one| Some((one, one.rules.iter().find(|ruled| ruled.rule == rule)?)));
    let verdict = worst(of_rule().map(|(_, ruled)| ruled.verdict));
    let like: Vec<_> = of_rule().filter(|(_, ruled)| ruled.verdict == verdict).collect();
    let reason = match (like.first(), verdict) {
        (None, _) => "there is no backup".to_owned(),
        (Some((_, ruled)), Verdict::Proven) => ruled.reason.clone(),
        (Some((one, ruled)), _) => {
            format!("{} of {} backups, such as {}: {}", like.len(), backups.len(), one.backup, ruled.reason)
        }
    };
    Ruled { rule, verdict, reason }
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
