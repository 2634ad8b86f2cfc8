//! Tables of what is lost, changed, additional.

use super::*;
use crate::domain::observed::Observed;

const PHYSICAL: Terms = Terms { physical: true, whole_server: true };
const LOGICAL: Terms = Terms { physical: false, whole_server: true };
const DATABASE: Terms = Terms { physical: false, whole_server: false };

fn object(kind: &str, identity: &str, definition: &str, owner: Option<&str>) -> Object {
    Object {
        kind: kind.to_owned(),
        identity: identity.to_owned(),
        definition: definition.to_owned(),
        owner: owner.map(str::to_owned),
    }
}

fn shop() -> Vec<Object> {
    vec![
        object("schema", "public", "s", Some("pg_database_owner")),
        object("table", "public.orders", "a", Some("app")),
        object("table", "public.customers", "b", Some("app")),
        object("column", "public.orders.id", "c", None),
        object("column", "public.orders.total", "c", None),
        object("constraint", "orders_pkey on public.orders", "d", None),
        object("index", "public.orders_pkey", "e", None),
        object("grant", "report on table public.orders", "{SELECT}", None),
    ]
}

fn codes(comparison: &Comparison) -> Vec<(&str, &str)> {
    comparison.findings.iter().map(|finding| (finding.code.as_str(), finding.object.as_str())).collect()
}

#[test]
fn what_a_scratch_database_is_restored_without_is_unchecked_there_only() {
    let expected = vec![object("subscription", "sub", "s", None), object("event trigger", "e", "t", None)];
    let comparison = objects(&expected, &[], DATABASE);
    assert_eq!((comparison.findings.len(), comparison.unchecked.len()), (0, 3), "and the owners");
    assert_eq!(objects(&expected, &[], LOGICAL).findings.len(), 2);
}

#[test]
fn members_of_an_extension_are_named_one_by_one_unless_it_is_gone_altogether() {
    let two = vec![
        object("extension member", "trgm: function public.f(text)", "a", None),
        object("extension member", "trgm: function public.g(text)", "b", None),
        object("extension member", "trgm_more: function public.h(text)", "c", None),
    ];
    assert_eq!(codes(&objects(&two, &two[..2], LOGICAL)), [("extension_members_missing", "extension trgm_more")]);
    assert_eq!(codes(&objects(&two[..2], &two, LOGICAL)), [("extension_members_extra", "extension trgm_more")]);
    // Altogether is what counts, also where another extension's name begins alike; and how many they are.
    for (expected, found, code) in
        [(&two[..], &two[2..], "extension_members_missing"), (&two[2..], &two[..], "extension_members_extra")]
    {
        let comparison = objects(expected, found, LOGICAL);
        assert_eq!(codes(&comparison), [(code, "extension trgm")]);
        assert!(comparison.findings[0].message.contains(" 2 members"), "{:?}", comparison.findings);
    }
    let lost = "extension member trgm: function public.g(text)";
    let kept = [two[0].clone(), two[2].clone()];
    assert_eq!(codes(&objects(&two, &kept, LOGICAL)), [("extension_member_missing", lost)]);
    assert_eq!(codes(&objects(&kept, &two, LOGICAL)), [("extension_member_extra", lost)]);
    let mut altered = two.clone();
    altered[1].definition.push('x');
    assert_eq!(codes(&objects(&two, &altered, DATABASE)), [("extension_member_changed", lost)]);
}

#[test]
fn what_a_fingerprint_or_a_dump_leaves_out_is_said() {
    let expected = [object("user mapping", "a at b", "", None), object("pending detachment", "p of t", "", None)];
    let comparison = objects(&expected, &expected[..1], LOGICAL);
    assert!(comparison.findings.is_empty(), "{:?}", comparison.findings);
    let unchecked: Vec<&str> = comparison.unchecked.iter().map(|one| one.object.as_str()).collect();
    assert_eq!(unchecked, ["partition p of t", "options of user mappings"]);
    let comparison = objects(&expected, &expected[..1], PHYSICAL);
    assert_eq!(codes(&comparison), [("pending_detachment_missing", "pending detachment p of t")]);
}

#[test]
fn the_same_is_the_same() {
    for terms in [PHYSICAL, LOGICAL, DATABASE] {
        let same = objects(&shop(), &shop(), terms);
        assert!(same.findings.is_empty(), "{terms:?}: {:?}", same.findings);
        assert!(same.looked_at.contains(&crate::domain::check::Measure::new(2, "tables")));
    }
}

#[test]
fn a_lost_table_is_named_once_with_what_hangs_on_it() {
    let mut found = shop();
    found.retain(|object| !object.identity.contains("public.orders") || object.kind == "index");
    let comparison = objects(&shop(), &found, PHYSICAL);
    assert_eq!(codes(&comparison), [("table_missing", "table public.orders")]);
    assert!(comparison.findings[0].message.contains("4 things"), "{}", comparison.findings[0].message);
}

#[test]
fn any_lost_changed_or_additional_object_is_found() {
    for at in 0..shop().len() {
        let mut lost = shop();
        let gone = lost.remove(at);
        let comparison = objects(&shop(), &lost, PHYSICAL);
        assert!(codes(&comparison)[0].0.ends_with("_missing"), "{gone:?}: {comparison:?}");
        let comparison = objects(&lost, &shop(), PHYSICAL);
        assert!(codes(&comparison)[0].0.ends_with("_extra"), "{gone:?}: {comparison:?}");
        let mut changed = shop();
        changed[at].definition.push('x');
        let comparison = objects(&shop(), &changed, PHYSICAL);
        assert!(codes(&comparison)[0].0.ends_with("_changed"), "{gone:?}: {comparison:?}");
    }
}

#[test]
fn owners_are_compared_wherever_the_roles_are() {
    let mut found = shop();
    found[1].owner = Some("postgres".to_owned());
    for terms in [LOGICAL, PHYSICAL] {
        assert_eq!(codes(&objects(&shop(), &found, terms)), [("owner_changed", "table public.orders")]);
    }
    assert!(objects(&shop(), &found, DATABASE).findings.is_empty());
}

#[test]
fn where_only_a_database_was_restored_what_needs_roles_is_unchecked() {
    let mut found = shop();
    found.retain(|object| object.kind != "grant");
    let comparison = objects(&shop(), &found, DATABASE);
    assert!(comparison.findings.is_empty());
    assert!(comparison.unchecked.iter().any(|one| one.object == "1 grants"));
}

#[test]
fn an_index_that_was_invalid_already_is_not_expected_from_a_dump() {
    let expected = [object("invalid index", "public.half", "x", None)];
    assert!(objects(&expected, &[], LOGICAL).findings.is_empty());
    assert_eq!(objects(&expected, &[], LOGICAL).unchecked.len(), 1);
    assert_eq!(codes(&objects(&expected, &[], PHYSICAL)), [("invalid_index_missing", "invalid index public.half")]);
}

fn role(name: &str) -> Role {
    Role {
        name: name.to_owned(),
        attributes: "inherit login".to_owned(),
        has_password: Observed::Known(true),
        member_of: vec!["staff".to_owned()],
    }
}

#[test]
fn any_change_of_a_role_is_found() {
    let expected = [role("app"), role("report")];
    assert!(roles(&expected, &expected, PHYSICAL).findings.is_empty());
    type Change = fn(&mut Role);
    let changes: [(Change, &str); 4] = [
        (|role| role.name.push('x'), "role_missing"),
        (|role| role.attributes.push_str(" superuser"), "role_changed"),
        (|role| role.member_of.clear(), "membership_changed"),
        (|role| role.has_password = Observed::Known(false), "role_password"),
    ];
    for (change, code) in changes {
        let mut found = expected.clone();
        change(&mut found[1]);
        assert_eq!(codes(&roles(&expected, &found, LOGICAL))[0], (code, "role report"));
    }
    let more = [role("app"), role("report"), role("intruder")];
    assert_eq!(codes(&roles(&expected, &more, PHYSICAL)), [("role_extra", "role intruder")]);
    assert!(roles(&expected, &more, LOGICAL).findings.is_empty());
    assert!(matches!(roles(&expected, &[], DATABASE).outcome(), crate::domain::check::Outcome::Unchecked(_)));
}

#[test]
fn an_unknown_password_is_not_a_good_one() {
    let mut found = [role("app")];
    found[0].has_password = Observed::Unknown("not a superuser".to_owned());
    let comparison = roles(&[role("app")], &found, LOGICAL);
    assert!(comparison.findings.is_empty());
    assert_eq!(comparison.unchecked.len(), 1);
}

#[test]
fn lost_databases_and_tablespaces_are_found() {
    assert_eq!(codes(&databases(["a", "b"].into_iter(), &["a"])), [("database_missing", "database b")]);
    let space = Tablespace { oid: 16_500, name: "fast".to_owned(), location: "/x".to_owned() };
    assert_eq!(
        codes(&tablespaces(std::slice::from_ref(&space), &[], PHYSICAL)),
        [("tablespace_missing", "tablespace fast")]
    );
    let elsewhere = Tablespace { location: "/y".to_owned(), ..space.clone() };
    assert!(tablespaces(std::slice::from_ref(&space), &[elsewhere], PHYSICAL).findings.is_empty());
    assert_eq!(tablespaces(&[space], &[], LOGICAL).unchecked.len(), 1);
}

#[test]
fn a_database_that_was_not_looked_at_is_grave_unless_it_moved() {
    let one = |meanwhile| Unseen { database: "closed".to_owned(), why: "no connections".to_owned(), meanwhile };
    let blind = unseen(&[one(false)]);
    assert!(blind.unchecked.len() == 1 && blind.unchecked[0].grave && !blind.unchecked[0].meanwhile, "{blind:?}");
    assert!(blind.unchecked[0].object == "database closed" && blind.unchecked[0].why.contains("no connections"));
    let moved = unseen(&[one(true)]);
    assert!(moved.unchecked.len() == 1 && !moved.unchecked[0].grave && moved.unchecked[0].meanwhile, "{moved:?}");
}

#[test]
fn a_database_that_nobody_knows_is_found() {
    let mut fingerprint = crate::domain::sample::manifest().fingerprint;
    fingerprint.unseen.push(Unseen { database: "closed".to_owned(), why: String::new(), meanwhile: false });
    fingerprint.databases.push(super::super::places::database_of_tests());
    let found = ["shop".to_owned(), "closed".to_owned(), "intruder".to_owned()];
    assert_eq!(codes(&additional_databases(&fingerprint, &found)), [("database_extra", "database intruder")]);
    assert!(additional_databases(&fingerprint, &found[..2]).findings.is_empty());
}

#[test]
fn what_was_looked_at_is_said_in_good_words() {
    for (kind, words) in [
        ("table", "tables"),
        ("index", "indexes"),
        ("invalid index", "invalid indexes"),
        ("policy", "policies"),
        ("operator family", "operator families"),
        ("operator class", "operator classes"),
        ("text search dictionary", "text search dictionaries"),
        ("default privileges", "default privileges"),
        ("statistics", "statistics"),
    ] {
        let things = [object(kind, "x", "d", None)];
        let same = objects(&things, &things, PHYSICAL);
        assert_eq!(same.looked_at, [crate::domain::check::Measure::new(1, words)], "{kind}");
    }
}

#[test]
fn only_what_hangs_on_a_lost_relation_is_left_unsaid() {
    // A schema is lost, and by chance its name is that of the relation that a grant and a column name.
    let expected = [
        object("schema", "orders", "s", None),
        object("grant", "report on orders", "{SELECT}", None),
        object("column", "orders.id", "c", None),
    ];
    assert_eq!(codes(&objects(&expected, &[], PHYSICAL)).len(), 3);
    // A relation that is there takes nothing with it.
    let table = object("table", "orders", "t", None);
    let expected = [table.clone(), object("column", "orders.id", "c", None)];
    assert_eq!(codes(&objects(&expected, &[table], PHYSICAL)), [("column_missing", "column orders.id")]);
}

#[test]
fn a_tablespace_is_known_by_name_and_identifier() {
    let space = Tablespace { oid: 16_500, name: "fast".to_owned(), location: "/x".to_owned() };
    for other in [Tablespace { oid: 1, ..space.clone() }, Tablespace { name: "slow".to_owned(), ..space.clone() }] {
        let comparison = tablespaces(std::slice::from_ref(&space), &[other], PHYSICAL);
        assert_eq!(codes(&comparison), [("tablespace_missing", "tablespace fast")]);
    }
    let database = Terms { physical: true, whole_server: false };
    assert_eq!(tablespaces(&[space], &[], database).unchecked.len(), 1);
}
