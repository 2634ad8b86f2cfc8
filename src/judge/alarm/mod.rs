//! Alarms: a state machine over what is wrong now and what was known before. It decides what is open, what is over, and who is told of it,
//! and gives a reason with every letter. It delivers nothing: its letters are written down with the alarms' new state, and sent later.

mod condition;
mod route;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::domain::alarm::{Acknowledgement, Alarm, AlarmKey, Condition, Item, Letter, LetterId, News, Told};
use crate::domain::drift::Severity;
use crate::domain::ids::{PlaceName, PolicyName};
use crate::domain::units::Span;
use crate::domain::watch::{Group, Notifier, NotifierKind, Route};

pub use condition::{lifeboat_itself, of_policy};
pub use route::{is_quiet, next_for, next_try};

/// What is decided from.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// All that is wrong now, of those policies that could be looked at.
    pub conditions: &'a [Condition],
    /// The policies that could be looked at: of others nothing is over.
    pub looked_at: &'a BTreeSet<PolicyName>,
    /// The policies that are configured.
    pub configured: &'a BTreeSet<PolicyName>,
    /// Who can be told.
    pub notifiers: &'a [Notifier],
    /// Who is told of what.
    pub routes: &'a [Route],
}

/// What was decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Alarms that are not as they were.
    pub changed: Vec<Alarm>,
    /// What is to be told.
    pub letters: Vec<Letter>,
}

/// Decides. `known`: every alarm that was ever open, as it was last written down.
pub fn decide(scene: Scene<'_>, known: &[Alarm], now: Timestamp) -> Decision {
    let mut alarms: BTreeMap<AlarmKey, Alarm> =
        known.iter().map(|alarm| (alarm.what.key.clone(), alarm.clone())).collect();
    let wrong: BTreeSet<&AlarmKey> = scene.conditions.iter().map(|condition| &condition.key).collect();
    for condition in scene.conditions {
        see(&mut alarms, condition, now);
    }
    for alarm in alarms.values_mut().filter(|alarm| alarm.is_open()) {
        if let Some(why) = (!wrong.contains(&alarm.what.key)).then(|| is_over(&scene, &alarm.what.key)).flatten() {
            (alarm.resolved_at, alarm.resolved_why) = (Some(now), Some(why));
        }
        // Whoever took it on has not come to an end in the time that was asked for.
        if alarm.is_open() && alarm.acknowledged.is_some() && !alarm.is_acknowledged(now) {
            alarm.acknowledged = None;
            alarm.told.values_mut().for_each(|told| told.acknowledged = false);
        }
    }
    let fallback = route::to_all(scene.notifiers);
    let routes: &[Route] = if scene.routes.is_empty() { &fallback } else { scene.routes };
    let mut mail: Mail = BTreeMap::new();
    for alarm in alarms.values_mut() {
        tell(alarm, &scene, routes, now, &mut mail);
    }
    let before: BTreeMap<&AlarmKey, &Alarm> = known.iter().map(|alarm| (&alarm.what.key, alarm)).collect();
    let letters = mail.into_iter().map(|(to, items)| letter(to, items, routes, now)).collect();
    let changed = alarms.into_values().filter(|alarm| before.get(&alarm.what.key) != Some(&alarm)).collect();
    Decision { changed, letters }
}

/// Takes an open alarm on. None: it is open no more.
pub fn acknowledge(alarm: &Alarm, by: &str, why: Option<&str>, lasting: Option<Span>, now: Timestamp) -> Option<Alarm> {
    let until = lasting.map(|lasting| now.checked_add(lasting.0).unwrap_or(Timestamp::MAX));
    let acknowledged = Acknowledgement { at: now, by: by.to_owned(), why: why.map(str::to_owned), until };
    alarm.is_open().then(|| {
        let mut alarm = Alarm { acknowledged: Some(acknowledged), ..alarm.clone() };
        alarm.told.values_mut().for_each(|told| told.acknowledged = false);
        alarm
    })
}

/// A letter that only tries whether letters arrive.
pub fn test_letter(to: &PlaceName, by: &str, now: Timestamp) -> Letter {
    let what = condition::test(by);
    let item = Item {
        news: News::Test,
        what,
        opened_at: now,
        resolved_at: None,
        episode: 1,
        acknowledged: None,
        why: "somebody asked for it by `lifeboat notify --test`".to_owned(),
    };
    Letter {
        id: name_of(to, std::slice::from_ref(&item), now),
        to: to.clone(),
        at: now,
        repeat_seconds: None,
        items: vec![item],
    }
}

/// A condition is there: its alarm is open.
fn see(alarms: &mut BTreeMap<AlarmKey, Alarm>, condition: &Condition, now: Timestamp) {
    let fresh = |episode| Alarm {
        what: condition.clone(),
        opened_at: now,
        resolved_at: None,
        resolved_why: None,
        acknowledged: None,
        told: BTreeMap::new(),
        episode,
    };
    match alarms.get_mut(&condition.key) {
        None => {
            alarms.insert(condition.key.clone(), fresh(1));
        }
        // Its end was owed to somebody who never heard of it (quiet hours): for them it goes on. All others hear of it anew.
        Some(alarm) if !alarm.is_open() => {
            let owed: BTreeMap<_, _> = alarm.told.iter().filter(|(_, told)| !told.resolved).map(clone_pair).collect();
            *alarm = Alarm { told: owed, ..fresh(alarm.episode.saturating_add(1)) };
        }
        Some(alarm) => alarm.what = condition.clone(),
    }
}

fn clone_pair((name, told): (&PlaceName, &Told)) -> (PlaceName, Told) {
    (name.clone(), told.clone())
}

/// Why an alarm without a condition is over; none: nobody looked.
fn is_over(scene: &Scene<'_>, key: &AlarmKey) -> Option<String> {
    match &key.policy {
        None => Some("it is no longer so".to_owned()),
        Some(policy) if !scene.configured.contains(policy) => {
            Some(format!("the policy {policy} is not configured any more"))
        }
        Some(policy) => scene.looked_at.contains(policy).then(|| "it is no longer so".to_owned()),
    }
}

/// What goes into one letter: by which route (none: whichever it was), to whom, and of which policy, if each has its own; the number keeps apart
/// what goes one by one.
type Mail = BTreeMap<(Option<usize>, PlaceName, Option<PolicyName>, usize), Vec<Item>>;

fn tell(alarm: &mut Alarm, scene: &Scene<'_>, routes: &[Route], now: Timestamp, mail: &mut Mail) {
    let mut post = |route: Option<usize>, to: &PlaceName, item: Item| {
        let notifier = scene.notifiers.iter().find(|notifier| notifier.name == *to);
        let alone = notifier.is_some_and(|notifier| matches!(notifier.kind, NotifierKind::PagerDuty { .. }));
        let group = route.and_then(|at| routes.get(at)).map_or(Group::Policy, |route| route.group);
        let policy = if group == Group::All { None } else { item.what.key.policy.clone() };
        let number = if alone { mail.len() + 1 } else { 0 };
        mail.entry((route, to.clone(), policy, number)).or_default().push(item);
    };
    let known = |name: &PlaceName| scene.notifiers.iter().any(|notifier| notifier.name == *name);
    let ways = next_for(routes, &alarm.what);
    let hush = |at: Option<usize>| {
        alarm.what.severity < Severity::Critical
            && at.and_then(|at| routes.get(at)).is_some_and(|route| is_quiet(&route.quiet, now))
    };
    let quiet: BTreeMap<usize, bool> = ways.iter().map(|at| (*at, hush(Some(*at)))).collect();
    if !alarm.is_open() {
        let all_quiet = !ways.is_empty() && ways.iter().all(|at| quiet.get(at) == Some(&true));
        let owed: Vec<PlaceName> = alarm
            .told
            .iter()
            .filter(|(name, told)| !told.resolved && known(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in owed.into_iter().filter(|_| !all_quiet) {
            let why = format!("over: {}", alarm.resolved_why.as_deref().unwrap_or("it is no longer so"));
            let item = item(alarm, News::Resolved, why);
            if let Some(told) = alarm.told.get_mut(&name) {
                (told.resolved, told.last) = (true, now);
            }
            post(ways.first().copied(), &name, item);
        }
        return;
    }
    for at in ways {
        let Some(route) = routes.get(at).filter(|_| quiet.get(&at) != Some(&true)) else { continue };
        for step in &route.steps {
            for name in step.to.iter().filter(|name| known(name)) {
                if let Some((news, why)) = news_for(alarm, route, step.after, name, now) {
                    let item = item(alarm, news, why);
                    let acknowledged = alarm.is_acknowledged(now);
                    let told = alarm.told.entry(name.clone()).or_insert(Told {
                        first: now,
                        last: now,
                        severity: alarm.what.severity,
                        acknowledged: false,
                        resolved: false,
                    });
                    (told.last, told.severity) = (now, alarm.what.severity);
                    told.acknowledged |= acknowledged;
                    post(Some(at), name, item);
                }
            }
        }
    }
}

/// What one who is to be told of an open alarm must hear now, and why.
fn news_for(alarm: &Alarm, route: &Route, after: Span, name: &PlaceName, now: Timestamp) -> Option<(News, String)> {
    let acknowledged = alarm.is_acknowledged(now);
    let open_for = Span::between(alarm.opened_at, now);
    let Some(told) = alarm.told.get(name) else {
        let escalates = after > Span::ZERO;
        if open_for < after.max(route.wait) || (escalates && acknowledged) {
            return None;
        }
        return Some(match escalates {
            false => (News::Opened, "it is new".to_owned()),
            true => (News::Escalated, format!("nobody has acknowledged it for {after}")),
        });
    };
    if alarm.what.severity > told.severity {
        return Some((News::Worsened, "it is worse than it was".to_owned()));
    }
    if acknowledged {
        let by = alarm.acknowledged.as_ref().map_or("somebody", |ack| ack.by.as_str());
        return (!told.acknowledged).then(|| (News::Acknowledged, format!("{by} has taken it on")));
    }
    let repeat = route.repeat.filter(|repeat| Span::between(told.last, now) >= *repeat)?;
    Some((News::Repeated, format!("it is told every {repeat} while it is open")))
}

fn item(alarm: &Alarm, news: News, why: String) -> Item {
    Item {
        news,
        what: alarm.what.clone(),
        opened_at: alarm.opened_at,
        resolved_at: alarm.resolved_at,
        episode: alarm.episode,
        acknowledged: alarm.acknowledged.clone(),
        why,
    }
}

fn letter(
    (route, to, _, _): (Option<usize>, PlaceName, Option<PolicyName>, usize),
    mut items: Vec<Item>,
    routes: &[Route],
    now: Timestamp,
) -> Letter {
    items.sort_by(|a, b| {
        let key = |item: &Item| (std::cmp::Reverse(item.what.severity), std::cmp::Reverse(item.news));
        key(a).cmp(&key(b)).then_with(|| a.what.key.cmp(&b.what.key))
    });
    let repeat = route.and_then(|at| routes.get(at)).and_then(|route| route.repeat);
    let id = name_of(&to, &items, now);
    Letter { id, to, at: now, repeat_seconds: repeat.map(|repeat| repeat.0.as_secs()), items }
}

/// The same letter has the same name, whoever writes it.
fn name_of(to: &PlaceName, items: &[Item], now: Timestamp) -> LetterId {
    let mut hash = Sha256::new();
    hash.update(format!("{to}\0{now}"));
    for item in items {
        hash.update(format!("\0{}\0{}\0{}", item.what.key, item.news.as_str(), item.episode));
    }
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    LetterId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests;
