//! What changed while a backup was taken: definitions are looked at before it begins and once more when it is over.

use std::collections::BTreeMap;

use super::session::read_only;
use super::{Endpoint, ProbeError, collations, database, extensions, objects, paces};
use crate::domain::inventory::{Change, Changed, Database, Object, Role, Tablespace};

/// Looks again once the backup is over, and notes what is otherwise than the fingerprint says: then a copy may have either.
pub async fn note_changes(endpoint: &Endpoint, database: &mut Database) -> Result<(), ProbeError> {
    let client = read_only(endpoint).await?;
    let mut changed = changes(&database.objects, &objects(&client).await?, |one| (&one.kind, &one.identity));
    let extensions = extensions(&client).await?;
    changed.extend(changes(&database.extensions, &extensions, |one| ("extension", &one.name)));
    changed.extend(changes(&database.collations, &collations(&client).await?, |one| ("collation", &one.name)));
    // Those of extensions are not among the objects.
    let now: Vec<String> = paces(&client).await?.into_keys().collect();
    let before: Vec<String> = database.sequences.iter().map(|one| one.name.clone()).collect();
    changed.extend(changes(&before, &now, |name| ("sequence", name)));
    // Its owner is compared with its settings.
    let (owner, settings) = database::owner_and_settings(&client).await?;
    if (&owner, &settings) != (&database.owner, &database.settings) {
        let identity = database.name.clone();
        changed.push(Changed { kind: "database".to_owned(), identity, how: Change::Altered });
    }
    changed.sort();
    changed.dedup();
    database.changed_meanwhile = changed;
    Ok(())
}

/// The same for roles.
pub fn changed_roles(before: &[Role], now: &[Role]) -> Vec<Changed> {
    changes(before, now, |one| ("role", &one.name))
}

/// The same for tablespaces.
pub fn changed_tablespaces(before: &[Tablespace], now: &[Tablespace]) -> Vec<Changed> {
    changes(before, now, |one| ("tablespace", &one.name))
}

/// The same for what belongs to the whole server.
pub fn changed_objects(before: &[Object], now: &[Object]) -> Vec<Changed> {
    changes(before, now, |one| (&one.kind, &one.identity))
}

/// What is on one side only, or on both and not the same.
fn changes<T: PartialEq>(before: &[T], now: &[T], key: impl for<'a> Fn(&'a T) -> (&'a str, &'a str)) -> Vec<Changed> {
    let keyed = |all: &'_ [T]| -> BTreeMap<(String, String), usize> {
        let of = |(at, one)| {
            let (kind, identity) = key(one);
            ((kind.to_owned(), identity.to_owned()), at)
        };
        all.iter().enumerate().map(of).collect()
    };
    let (old, new) = (keyed(before), keyed(now));
    let mut found = Vec::new();
    for ((kind, identity), at) in &old {
        let how = match new.get(&(kind.clone(), identity.clone())) {
            None => Change::Gone,
            Some(there) if before.get(*at) != now.get(*there) => Change::Altered,
            Some(_) => continue,
        };
        found.push(Changed { kind: kind.clone(), identity: identity.clone(), how });
    }
    for (kind, identity) in new.into_keys().filter(|key| !old.contains_key(key)) {
        found.push(Changed { kind, identity, how: Change::Made });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_gone_and_altered_are_told_apart_and_the_rest_is_not_named() {
        let one =
            |name: &str, location: &str| Tablespace { oid: 1, name: name.to_owned(), location: location.to_owned() };
        let before = [one("same", "a"), one("gone", "a"), one("altered", "a")];
        let now = [one("same", "a"), one("altered", "b"), one("made", "a")];
        let changed = changed_tablespaces(&before, &now);
        let words: Vec<_> = changed.iter().map(|one| (one.identity.as_str(), one.how)).collect();
        assert_eq!(words, [("altered", Change::Altered), ("gone", Change::Gone), ("made", Change::Made)]);
        assert!(changed_tablespaces(&before, &before).is_empty());
    }
}
