//! What the source did while a physical backup was taken, and databases that nobody looked at.

use super::*;

#[test]
fn what_was_made_dropped_or_altered_during_the_backup_is_listed_and_the_same_in_the_copy_is_a_finding() {
    let source = Server::start();
    source.sql("postgres", "create database shop");
    source.sql(
        "shop",
        "create table kept (a int, b int); insert into kept values (1, 2); create table dropped (id serial primary key);
        insert into dropped default values; create table slim (a int, b int); insert into slim values (1, 2);
        create role goer; create role stayer",
    );
    let mut case = Case::physical(&source, &["shop"], |source| {
        source.sql(
            "shop",
            "create table made (id serial primary key); insert into made default values; drop table dropped;
            alter table slim drop column b; create function f() returns int language sql as 'select 1';
            create extension hstore; drop role goer; create role comer",
        );
    });
    let names = [CheckName::Completeness, CheckName::Content, CheckName::Sequences, CheckName::Extensions];
    for name in names {
        assert!(!findings(&case.check(name)).is_empty(), "{name}: nobody looked again, so every difference counts");
    }
    run(async {
        let fingerprint = &mut case.sealed.manifest.fingerprint;
        probe::note_changes(&source.endpoint("shop"), &mut fingerprint.databases[0]).await.unwrap();
        let client = probe::session::read_only(&source.endpoint("postgres")).await.unwrap();
        let now = probe::roles(&client).await.unwrap();
        fingerprint.changed_meanwhile = probe::changed_roles(&fingerprint.roles, &now);
    });
    for name in names {
        let result = case.check(name);
        assert!(findings(&result).is_empty(), "{name}: {:#?}", findings(&result));
    }
    let completeness = case.check(CheckName::Completeness);
    for object in ["table public.made", "table public.dropped", "column public.slim.b", "role goer", "role comer"] {
        assert!(skipped(&completeness, object).is_some_and(|why| why.contains("while")), "{object}");
    }
    let content = case.check(CheckName::Content);
    assert!(looked(&content, "tables") == 1 && looked(&content, "rows") == 1, "{content:#?}");
    assert!(content.unchecked.iter().all(|one| one.meanwhile || one.object == "database postgres"), "{content:#?}");
    // Nothing of that excuses what happens to the copy.
    case.sql("drop table slim; create table strange (a int); drop role stayer");
    let completeness = case.check(CheckName::Completeness);
    for (code, object) in [
        ("table_missing", "table public.slim"),
        ("table_extra", "table public.strange"),
        ("role_missing", "role stayer"),
    ] {
        assert!(has(&completeness, code, object), "{code} {object}: {completeness:#?}");
    }
    assert!(has(&case.check(CheckName::Content), "table_missing", "table public.slim"));
}

#[test]
fn a_database_that_nobody_looked_at_is_never_passed_over() {
    let source = Server::start();
    for name in ["shop", "hidden", "late"] {
        source.sql("postgres", &format!("create database {name}"));
    }
    source.sql("shop", "create table a (b int)");
    let mut case = Case::physical(&source, &["shop"], |_| {});
    let completeness = case.check(CheckName::Completeness);
    for name in ["hidden", "late"] {
        assert!(has(&completeness, "database_extra", &format!("database {name}")), "{completeness:#?}");
    }
    for (name, meanwhile) in [("hidden", false), ("late", true)] {
        let one = Unseen { database: name.to_owned(), why: "permission denied".to_owned(), meanwhile };
        case.sealed.manifest.fingerprint.unseen.push(one);
    }
    for name in [CheckName::Completeness, CheckName::Content, CheckName::Amcheck] {
        let result = case.check(name);
        assert!(findings(&result).is_empty(), "{result:#?}");
        let of = |object: &str| result.unchecked.iter().find(|one| one.object == object).unwrap();
        assert!(of("database hidden").grave && !of("database late").grave && of("database late").meanwhile);
    }
}
