//! Foreign data, replication, statistics, comments and labels.

use super::{lasting, of_users, qualified, role, through_a_dump};

pub(super) fn queries(major: u32) -> Vec<(&'static str, String)> {
    let mut all = foreign_data();
    all.extend(replication(major));
    all.push(("extended statistics", statistics()));
    all.push(("members of extensions", members()));
    all.push(("owners of large objects", large_object_owners()));
    all.extend(remarks());
    all
}

/// Options of user mappings hold passwords: not even their digest is taken, since a weak password can be guessed from one.
fn foreign_data() -> Vec<(&'static str, String)> {
    let wrappers = format!(
        "select 'foreign data wrapper', quote_ident(w.fdwname), row(nullif(w.fdwhandler, 0)::regprocedure,
                nullif(w.fdwvalidator, 0)::regprocedure, array(select unnest(w.fdwoptions) order by 1))::text, {}
           from pg_foreign_data_wrapper w where {}",
        role("w.fdwowner"),
        of_users("pg_foreign_data_wrapper", "w.oid")
    );
    let servers = format!(
        "select 'foreign server', quote_ident(s.srvname), row(w.fdwname, s.srvtype, s.srvversion,
                array(select o from unnest(s.srvoptions) o where o !~* '^[^=]*(password|secret|token)' order by 1))::text, {}
           from pg_foreign_server s join pg_foreign_data_wrapper w on w.oid = s.srvfdw where {}",
        role("s.srvowner"),
        of_users("pg_foreign_server", "s.oid")
    );
    let mappings =
        "select 'user mapping', quote_ident(m.usename) || ' at ' || quote_ident(m.srvname), null::text, null::text
                      from pg_user_mappings m where m.umid >= 16384";
    vec![("foreign data wrappers", wrappers), ("foreign servers", servers), ("user mappings", mappings.to_owned())]
}

/// A subscription's connection holds a password, and a restored one is disabled: neither is part of the definition.
fn replication(major: u32) -> Vec<(&'static str, String)> {
    let (tables, schemas) = if major >= 15 {
        (
            "pr.prattrs is null, array(select quote_ident(a.attname) from pg_attribute a where a.attrelid = pr.prrelid
               and a.attnum = any (pr.prattrs) order by 1), pg_get_expr(pr.prqual, pr.prrelid)",
            "array(select quote_ident(pn.nspname) from pg_publication_namespace s join pg_namespace pn on pn.oid = s.pnnspid
               where s.pnpubid = p.oid order by 1)",
        )
    } else {
        ("null", "null")
    };
    let options = match major {
        ..14 => "null",
        14 => "s.subbinary, s.substream::text",
        15.. => "s.subbinary, s.substream::text, s.subdisableonerr, s.subtwophasestate <> 'd'",
    };
    let generated = if major >= 18 { "p.pubgencols" } else { "null" };
    let publications = format!(
        "select 'publication', quote_ident(p.pubname), row(p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
                p.pubviaroot, {generated}, {schemas},
                array(select row({name}, {tables})::text from pg_publication_rel pr join pg_class c on c.oid = pr.prrelid
                        join pg_namespace n on n.oid = c.relnamespace where pr.prpubid = p.oid order by 1))::text,
                {owner}
           from pg_publication p where {users}",
        name = qualified("n", "c.relname"),
        owner = role("p.pubowner"),
        users = of_users("pg_publication", "p.oid"),
    );
    let subscriptions = format!(
        "select 'subscription', quote_ident(s.subname), row(s.subslotname, s.subsynccommit, {options},
                array(select unnest(s.subpublications) order by 1))::text, {owner}
           from pg_subscription s where s.subdbid = (select oid from pg_database where datname = current_database()) and {users}",
        owner = role("s.subowner"),
        users = of_users("pg_subscription", "s.oid"),
    );
    vec![("publications", publications), ("subscriptions", subscriptions)]
}

fn statistics() -> String {
    format!(
        "select 'statistics', {name}, row({definition}, nullif(s.stxstattarget::int4, -1))::text, {owner}
           from pg_statistic_ext s join pg_namespace n on n.oid = s.stxnamespace where {users} and {lasting}",
        name = qualified("n", "s.stxname"),
        definition = through_a_dump("pg_get_statisticsobjdef(s.oid)"),
        owner = role("s.stxowner"),
        users = of_users("pg_statistic_ext", "s.oid"),
        lasting = lasting("n"),
    )
}

/// A dump names the extension alone, and takes whatever its script makes. What somebody added to an extension, or altered in it, is lost
/// by that; so each member is listed, functions with their definition, and all with their comments.
fn members() -> String {
    format!(
        "select 'extension member', quote_ident(e.extname) || ': ' || i.type || ' ' || i.identity,
                row(case when p.prokind <> 'a' then pg_get_functiondef(p.oid) end, d.description)::text, null::text
           from pg_depend m join pg_extension e on m.refclassid = 'pg_extension'::regclass and m.refobjid = e.oid
                join pg_namespace n on n.oid = e.extnamespace
                cross join lateral pg_identify_object(m.classid, m.objid, m.objsubid) i
                left join pg_proc p on m.classid = 'pg_proc'::regclass and p.oid = m.objid
                left join pg_description d on d.classoid = m.classid and d.objoid = m.objid and d.objsubid = 0
          where m.deptype = 'e' and e.oid >= 16384 and i.identity is not null and {}",
        lasting("n")
    )
}

/// One row an owner, since there may be millions of large objects.
fn large_object_owners() -> String {
    "select 'large object owner', quote_ident(pg_get_userbyid(m.lomowner)),
            concat_ws(':', count(*), sum(hashint8extended(m.oid::int8, 0)::numeric), sum(hashint8extended(m.oid::int8, 1)::numeric)), null::text
       from pg_largeobject_metadata m group by m.lomowner"
        .to_owned()
}

fn remarks() -> Vec<(&'static str, String)> {
    let member =
        "not exists (select from pg_depend member where member.classid = d.classoid and member.objid = d.objoid
                    and member.deptype = 'e')";
    let temporary = "i.identity !~ '^pg_(temp|toast)'";
    // `public` may have been dropped: a cast to regnamespace would then be an error.
    let comments = format!(
        "select 'comment', i.type || ' ' || i.identity, d.description, null::text
           from pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
          where (d.objoid >= 16384 or (d.classoid = 'pg_namespace'::regclass and d.objoid = to_regnamespace('public')
                 and d.description <> 'standard public schema')) and i.identity is not null and {member} and {temporary}"
    );
    let labels = format!(
        "select 'security label', d.provider || ' on ' || i.type || ' ' || i.identity, d.label, null::text
           from pg_seclabel d, pg_identify_object(d.classoid, d.objoid, d.objsubid) i
          where i.identity is not null and {member} and {temporary}"
    );
    vec![("comments", comments), ("security labels", labels)]
}
