//! What waits and is taken by nobody: perhaps no machine offers what it needs.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::domain::ids::PlaceName;
use crate::domain::queue::{Place, Planned};
use crate::domain::timetable::OWN_LABELS;
use crate::domain::units::Span;

/// From here on a run that waits for a machine with a label is told of: machines may be busy for a while, and begun a little later than others.
pub const UNTAKEN_AFTER: Span = Span::from_secs(600);

/// What claimed runs have for themselves.
#[derive(Clone, Debug, Default)]
pub struct Had<'a>(BTreeSet<&'a str>);

impl<'a> Had<'a> {
    /// Of these.
    pub fn by(places: &'a [Place]) -> Had<'a> {
        let claimed = places.iter().filter(|place| place.holder.is_some());
        Had(claimed.filter_map(|place| place.planned.alone_on.as_deref()).collect())
    }
}

/// Why a waiting run may wait for ever, in words; none: it needs no label of its own, or waits for something else, or not for long.
///
/// Nobody knows of machines that never came. So it is not said that no machine offers the label, but what was seen: that none has taken the run.
pub fn untaken(place: &Place, had: &Had<'_>, now: Timestamp) -> Option<String> {
    let planned = &place.planned;
    let since = planned.due_at.checked_add(UNTAKEN_AFTER.0).ok()?;
    let blocked = planned.alone_on.as_deref().is_some_and(|thing| had.0.contains(thing));
    if place.holder.is_some() || now < since || blocked {
        return None;
    }
    let labels = labels(planned);
    let waited = Span::between(planned.due_at, now);
    (!labels.is_empty()).then(|| format!("no machine that offers {} has taken it for {waited}", words(&labels)))
}

/// What it needs that machines offer by their configuration.
fn labels(planned: &Planned) -> Vec<&PlaceName> {
    planned.needs.iter().filter(|need| !need.as_str().starts_with(OWN_LABELS)).collect()
}

fn words(labels: &[&PlaceName]) -> String {
    labels.iter().map(|label| label.as_str()).collect::<Vec<_>>().join(", ")
}
