//! Who may do what: one object for each object and grantee whose privileges are not the ones that it is born with.
//!
//! A missing list of privileges means the default one, and a dump writes only differences from it; so both sides are reduced to
//! differences. Who granted is not compared: a dump grants as the owner. The owner's own entry is called `(owner)`.

use super::{lasting, of_users, qualified};

pub(super) fn queries(major: u32) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&'static str, String)> = classes().into_iter().map(|class| ("grants", grants(&class))).collect();
    if major >= 15 {
        all.push(("grants on parameters", parameters()));
    }
    all.push(("default privileges", default_privileges()));
    all
}

/// initdb grants on its `information_schema` without writing down that it did, and no dump has them.
const NOT_STANDARD: &str = "not (n.nspname = 'information_schema' and o.oid < 16384)";

struct Class {
    catalog: &'static str,
    /// What `pg_init_privs` has in objsubid.
    sub: &'static str,
    from: String,
    kind: &'static str,
    identity: String,
    owner: &'static str,
    acl: &'static str,
    /// The letter of `acldefault()`.
    letter: &'static str,
    only: String,
}

fn class(
    catalog: &'static str,
    kind: &'static str,
    letter: &'static str,
    name: &str,
    namespace: &str,
    owner: &'static str,
    acl: &'static str,
) -> Class {
    let joined = !namespace.is_empty();
    Class {
        catalog,
        sub: "0",
        from: if joined {
            format!("{catalog} o join pg_namespace n on n.oid = {namespace}")
        } else {
            format!("{catalog} o")
        },
        kind,
        identity: if joined { qualified("n", name) } else { format!("quote_ident({name})") },
        owner,
        acl,
        letter,
        only: if joined { format!("{} and {NOT_STANDARD}", lasting("n")) } else { "true".to_owned() },
    }
}

fn classes() -> Vec<Class> {
    let relations = class(
        "pg_class",
        "case when o.relkind = 'S' then 'sequence' else 'table' end",
        "case when o.relkind = 'S' then 's' else 'r' end::\"char\"",
        "o.relname",
        "o.relnamespace",
        "o.relowner",
        "o.relacl",
    );
    let columns = Class {
        sub: "a.attnum",
        from: "pg_attribute a join pg_class o on o.oid = a.attrelid join pg_namespace n on n.oid = o.relnamespace"
            .to_owned(),
        kind: "'column'",
        identity: format!("{} || '.' || quote_ident(a.attname)", qualified("n", "o.relname")),
        acl: "a.attacl",
        letter: "'c'",
        only: format!("a.attacl is not null and not a.attisdropped and {} and {NOT_STANDARD}", lasting("n")),
        ..class("pg_class", "", "", "o.relname", "o.relnamespace", "o.relowner", "")
    };
    let functions = Class {
        identity: format!("{} || '(' || pg_get_function_identity_arguments(o.oid) || ')'", qualified("n", "o.proname")),
        ..class("pg_proc", "'function'", "'f'", "o.proname", "o.pronamespace", "o.proowner", "o.proacl")
    };
    let types = class("pg_type", "'type'", "'T'", "o.typname", "o.typnamespace", "o.typowner", "o.typacl");
    let schemas = Class {
        only: format!(
            "o.nspname !~ '^(pg_toast|pg_temp|information_schema)' and o.nspname <> '{}'",
            super::super::OWN_SCHEMA
        ),
        ..class("pg_namespace", "'schema'", "'n'", "o.nspname", "", "o.nspowner", "o.nspacl")
    };
    let languages = class("pg_language", "'language'", "'l'", "o.lanname", "", "o.lanowner", "o.lanacl");
    let wrappers =
        class("pg_foreign_data_wrapper", "'foreign data wrapper'", "'F'", "o.fdwname", "", "o.fdwowner", "o.fdwacl");
    let servers = class("pg_foreign_server", "'foreign server'", "'S'", "o.srvname", "", "o.srvowner", "o.srvacl");
    let large = class("pg_largeobject_metadata", "'large object'", "'L'", "o.oid::text", "", "o.lomowner", "o.lomacl");
    // The name of the database is not part of it: a scratch database has another.
    let database = Class {
        identity: "''".to_owned(),
        only: "o.datname = current_database()".to_owned(),
        ..class("pg_database", "'database'", "'d'", "o.datname", "", "o.datdba", "o.datacl")
    };
    vec![relations, columns, functions, types, schemas, languages, wrappers, servers, large, database]
}

/// An object's privileges at birth are those that initdb or its extension recorded, else PostgreSQL's default ones.
fn grants(class: &Class) -> String {
    let Class { catalog, sub, from, kind, identity, owner, acl, letter, only } = class;
    format!(
        "select 'grant', trim(grantee || ' on ' || kind || ' ' || identity), now::text, null::text
           from (select o.kind, o.identity,
                        case when g.grantee = 0 then 'PUBLIC' when g.grantee = o.owner then '(owner)'
                             else quote_ident(pg_get_userbyid(g.grantee)) end as grantee,
                        array_agg(distinct g.privilege_type || case when g.is_grantable then '*' else '' end) filter (where g.side = 'now') as now,
                        array_agg(distinct g.privilege_type || case when g.is_grantable then '*' else '' end) filter (where g.side = 'born') as born
                   from (select {kind} as kind, {identity} as identity, {owner} as owner, {acl} as acl,
                                coalesce(i.initprivs, acldefault({letter}, {owner})) as born
                           from {from} left join pg_init_privs i on i.classoid = '{catalog}'::regclass and i.objoid = o.oid and i.objsubid = {sub}
                          where {acl} is not null and {only} offset 0) o,
                        lateral (select 'now' as side, x.* from aclexplode(o.acl) x
                                 union all select 'born', x.* from aclexplode(o.born) x) g
                  group by 1, 2, 3) each_grantee
          where now is distinct from born"
    )
}

fn parameters() -> String {
    "select 'grant', case when g.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(g.grantee)) end || ' on parameter ' || p.parname,
            array_agg(distinct g.privilege_type || case when g.is_grantable then '*' else '' end)::text, null::text
       from pg_parameter_acl p, aclexplode(p.paracl) g where g.grantee <> 10 group by g.grantee, p.parname"
        .to_owned()
}

fn default_privileges() -> String {
    format!(
        "select 'default privileges', 'for ' || quote_ident(pg_get_userbyid(d.defaclrole)) || coalesce(' in ' || quote_ident(n.nspname), '')
                || ' on ' || case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                   when 'T' then 'types' when 'n' then 'schemas' else d.defaclobjtype::text end,
                array(select row(case when g.grantee = 0 then 'PUBLIC' else pg_get_userbyid(g.grantee) end, g.privilege_type, g.is_grantable)::text
                        from aclexplode(d.defaclacl) g order by 1)::text,
                null::text
           from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace where {}",
        of_users("pg_default_acl", "d.oid")
    )
}
