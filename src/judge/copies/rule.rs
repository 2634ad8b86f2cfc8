//! The five numbers of one backup.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Ground, Rule, Ruled, SOURCE_MEDIA};
use crate::domain::copies::{CopyTerms, Held, Place, ReadBy, Spread};
use crate::domain::ids::PlaceName;
use crate::domain::observed::Observed;
use crate::domain::transcript::Verdict;
use crate::domain::units::Span;

/// What a store is worth to one backup.
enum Worth {
    Good,
    Bad,
    /// It may yet be good.
    Open(String),
}

fn worth(held: &Held, spread: &Spread, ground: &Ground<'_>) -> Worth {
    match &held.seen {
        Observed::Known(findings) if findings.is_empty() => Worth::Good,
        Observed::Known(_) => Worth::Bad,
        Observed::Absent if is_pending(ground, spread, &held.store) => {
            Worth::Open(format!("{} may still be copied in time", held.store))
        }
        Observed::Absent => Worth::Bad,
        Observed::Unknown(why) => Worth::Open(format!("{} could not be looked at: {why}", held.store)),
    }
}

pub(super) fn terms_of<'a>(ground: &Ground<'a>, spread: &Spread) -> Option<&'a CopyTerms> {
    ground.terms.iter().find(|terms| terms.job == spread.job)
}

/// Whether a copy is promised there, and its time has not run out.
pub(super) fn is_pending(ground: &Ground<'_>, spread: &Spread, store: &PlaceName) -> bool {
    terms_of(ground, spread).is_some_and(|terms| {
        terms.copies.contains(store) && Span::between(spread.finished_at, ground.now) <= terms.within
    })
}

pub(super) fn ruled(rule: Rule, spread: &Spread, ground: &Ground<'_>) -> Ruled {
    let mut good: Vec<&Place> = Vec::new();
    let mut open: Vec<(&Place, String)> = Vec::new();
    for held in &spread.held {
        let Some(place) = ground.places.iter().find(|place| place.name == held.store) else { continue };
        match worth(held, spread, ground) {
            Worth::Good => good.push(place),
            Worth::Bad => {}
            Worth::Open(why) => open.push((place, why)),
        }
    }
    let (verdict, reason) = match rule {
        Rule::Copies => copies(&good, &open),
        Rule::Media => media(&good, &open),
        Rule::OffSite => off_site(&good, &open, ground.source_site),
        Rule::Immutable => immutable(&good, &open),
        Rule::Errors => errors(spread),
    };
    Ruled { rule, verdict, reason }
}

fn names<'a>(places: impl IntoIterator<Item = &'a Place>) -> String {
    let names: Vec<&str> = places.into_iter().map(|place| place.name.as_str()).collect();
    if names.is_empty() { "no store".to_owned() } else { names.join(", ") }
}

fn first(open: &[(&Place, String)]) -> String {
    open.first().map_or_else(String::new, |(_, why)| format!("; {why}"))
}

fn copies(good: &[&Place], open: &[(&Place, String)]) -> (Verdict, String) {
    let seen = format!("the source and {}: {}", names(good.iter().copied()), good.len() + 1);
    match (good.len() + 1, open.len()) {
        (3.., _) => (Verdict::Proven, seen),
        (have, more) if have + more >= 3 => (Verdict::Unproven, format!("{seen}{}", first(open))),
        _ => (Verdict::Failed, seen),
    }
}

fn media(good: &[&Place], open: &[(&Place, String)]) -> (Verdict, String) {
    let kinds = |places: &mut dyn Iterator<Item = &Place>| -> BTreeSet<String> {
        let kinds = places.map(|place| place.media.to_string());
        std::iter::once(SOURCE_MEDIA.to_owned()).chain(kinds).collect()
    };
    let have = kinds(&mut good.iter().copied());
    let may = kinds(&mut good.iter().copied().chain(open.iter().map(|(place, _)| *place)));
    let seen = have.into_iter().collect::<Vec<_>>();
    let words = format!("it is on {}", seen.join(", "));
    match (seen.len(), may.len()) {
        (2.., _) => (Verdict::Proven, words),
        (_, 2..) => (Verdict::Unproven, format!("{words}{}", first(open))),
        _ => (Verdict::Failed, words),
    }
}

fn off_site(good: &[&Place], open: &[(&Place, String)], source: Option<&PlaceName>) -> (Verdict, String) {
    let Some(source) = source else {
        if good.is_empty() && open.is_empty() {
            return (Verdict::Failed, "no store has it".to_owned());
        }
        return (Verdict::Unproven, "nobody said where the source stands ([source] site)".to_owned());
    };
    let away = |place: &&Place| place.site.as_ref().is_some_and(|site| site != source);
    if let Some(place) = good.iter().copied().find(away) {
        let site = place.site.as_ref().map_or("", PlaceName::as_str);
        return (Verdict::Proven, format!("{} is at {site}, the source at {source}", place.name));
    }
    if let Some(place) = good.iter().find(|place| place.site.is_none()) {
        let why = format!("nobody said where {} stands ([stores.{}] site)", place.name, place.name);
        return (Verdict::Unproven, why);
    }
    match open.iter().find(|(place, _)| place.site.as_ref() != Some(source)) {
        Some((_, why)) => (Verdict::Unproven, why.clone()),
        None if good.is_empty() => (Verdict::Failed, "no store away from the source has it".to_owned()),
        None => {
            (Verdict::Failed, format!("{} stand where the source stands, at {source}", names(good.iter().copied())))
        }
    }
}

fn immutable(good: &[&Place], open: &[(&Place, String)]) -> (Verdict, String) {
    if let Some(place) = good.iter().find(|place| place.immutable == Observed::Known(true)) {
        return (Verdict::Proven, format!("nobody can delete it from {}", place.name));
    }
    let not_seen = good.iter().find_map(|place| match &place.immutable {
        Observed::Unknown(why) => Some(format!("{}: {why}", place.name)),
        Observed::Known(_) | Observed::Absent => None,
    });
    // Of a store that could not be looked at, it is not known that it has none.
    let may = open.iter().find(|(place, _)| matches!(place.immutable, Observed::Known(true) | Observed::Unknown(_)));
    match (not_seen, may) {
        (Some(why), _) => (Verdict::Unproven, why),
        (None, Some((_, why))) => (Verdict::Unproven, why.clone()),
        (None, None) => (Verdict::Failed, format!("whoever may write may delete in {}", names(good.iter().copied()))),
    }
}

fn errors(spread: &Spread) -> (Verdict, String) {
    let mut doubts = Vec::new();
    let (mut looked, mut oldest): (usize, Option<Timestamp>) = (0, None);
    for held in &spread.held {
        match (&held.seen, &held.verified) {
            (Observed::Known(findings), _) if !findings.is_empty() => {
                let count = findings.len();
                let noun = if count == 1 { "finding" } else { "findings" };
                return (Verdict::Failed, format!("{count} {noun} in {}", held.store));
            }
            (Observed::Known(_), Observed::Known(at)) => {
                looked += 1;
                if held.read_by == Some(ReadBy::Ledger) {
                    oldest = Some(oldest.map_or(*at, |oldest| oldest.min(*at)));
                }
            }
            (Observed::Known(_), Observed::Absent) => doubts.push(format!("it was never read in {}", held.store)),
            (Observed::Known(_), Observed::Unknown(why)) | (Observed::Unknown(why), _) => {
                doubts.push(format!("{}: {why}", held.store));
            }
            (Observed::Absent, _) => {}
        }
    }
    match (doubts.first(), looked, oldest) {
        (Some(why), ..) => (Verdict::Unproven, why.clone()),
        (None, 0, _) => (Verdict::Unproven, "no store has it".to_owned()),
        (None, _, None) => (Verdict::Proven, "every copy was read, and every hash was right".to_owned()),
        (None, _, Some(oldest)) => {
            let reason = format!(
                "every copy was read back within the declared time, the oldest part at {oldest:.0}, and every hash was right (by the ledger)"
            );
            (Verdict::Proven, reason)
        }
    }
}
