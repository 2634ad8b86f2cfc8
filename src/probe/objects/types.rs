//! Types, collations, conversions, text search.

use super::{lasting, of_users, qualified, role, through_a_dump};

pub(super) fn queries(major: u32) -> Vec<(&'static str, String)> {
    let mut all = vec![("types", types(major)), ("collations", collations(major)), ("conversions", conversions())];
    all.extend(text_search());
    all
}

/// Array types, row types of tables and multiranges come with what they belong to.
fn types(major: u32) -> String {
    let multirange = if major >= 14 { "format_type(r.rngmultitypid, null)" } else { "null" };
    format!(
        "select case t.typtype when 'd' then 'domain' when 'e' then 'enum' when 'r' then 'range' else 'type' end, {name},
                case t.typtype
                  when 'e' then array(select e.enumlabel from pg_enum e where e.enumtypid = t.oid order by e.enumsortorder)::text
                  when 'c' then array(select row(a.attname, format_type(a.atttypid, a.atttypmod),
                                             (select quote_ident(co.collname) from pg_collation co where co.oid = a.attcollation))::text
                                        from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
                                       order by a.attnum)::text
                  when 'd' then row(format_type(t.typbasetype, t.typtypmod), t.typnotnull, {default},
                                    (select quote_ident(co.collname) from pg_collation co where co.oid = t.typcollation))::text
                  when 'r' then (select row(format_type(r.rngsubtype, null), (select quote_ident(o.opcname) from pg_opclass o where o.oid = r.rngsubopc),
                                            (select quote_ident(co.collname) from pg_collation co where co.oid = r.rngcollation),
                                            r.rngcanonical::regprocedure, r.rngsubdiff::regprocedure, {multirange})::text
                                   from pg_range r where r.rngtypid = t.oid)
                  else row(t.typinput::regprocedure, t.typoutput::regprocedure, t.typreceive::regprocedure, t.typsend::regprocedure,
                           t.typmodin::regprocedure, t.typmodout::regprocedure, t.typanalyze::regprocedure, t.typlen, t.typbyval,
                           t.typalign, t.typstorage, t.typcategory, t.typispreferred, t.typdelim, t.typcollation <> 0, t.typdefault)::text
                end,
                {owner}
           from pg_type t join pg_namespace n on n.oid = t.typnamespace left join pg_class c on c.oid = t.typrelid
          where t.typisdefined and t.typtype in ('b', 'c', 'd', 'e', 'r') and (t.typtype <> 'c' or c.relkind = 'c')
            and not exists (select from pg_type element where element.typarray = t.oid)
            and {users} and {lasting}",
        name = qualified("n", "t.typname"),
        default = through_a_dump("pg_get_expr(t.typdefaultbin, 0)"),
        owner = role("t.typowner"),
        users = of_users("pg_type", "t.oid"),
        lasting = lasting("n"),
    )
}

/// What they are; their versions are compared apart.
fn collations(major: u32) -> String {
    let locale = match major {
        ..15 => "null",
        15 | 16 => "c.colliculocale",
        17.. => "c.colllocale",
    };
    format!(
        "select 'collation', {name}, row(c.collprovider, c.collisdeterministic, pg_encoding_to_char(c.collencoding), c.collcollate,
                c.collctype, {locale})::text, {owner}
           from pg_collation c join pg_namespace n on n.oid = c.collnamespace where {users} and {lasting}",
        name = qualified("n", "c.collname"),
        owner = role("c.collowner"),
        users = of_users("pg_collation", "c.oid"),
        lasting = lasting("n"),
    )
}

fn conversions() -> String {
    format!(
        "select 'conversion', {name}, row(pg_encoding_to_char(c.conforencoding), pg_encoding_to_char(c.contoencoding),
                c.conproc::regprocedure, c.condefault)::text, {owner}
           from pg_conversion c join pg_namespace n on n.oid = c.connamespace where {users} and {lasting}",
        name = qualified("n", "c.conname"),
        owner = role("c.conowner"),
        users = of_users("pg_conversion", "c.oid"),
        lasting = lasting("n"),
    )
}

fn text_search() -> Vec<(&'static str, String)> {
    let configurations = format!(
        "select 'text search configuration', {name},
                row((select quote_ident(p.prsname) from pg_ts_parser p where p.oid = c.cfgparser),
                    array(select row(m.maptokentype, m.mapseqno, m.mapdict::regdictionary)::text from pg_ts_config_map m
                           where m.mapcfg = c.oid order by m.maptokentype, m.mapseqno))::text, {owner}
           from pg_ts_config c join pg_namespace n on n.oid = c.cfgnamespace where {users} and {lasting}",
        name = qualified("n", "c.cfgname"),
        owner = role("c.cfgowner"),
        users = of_users("pg_ts_config", "c.oid"),
        lasting = lasting("n"),
    );
    let dictionaries = format!(
        "select 'text search dictionary', {name}, row((select quote_ident(t.tmplname) from pg_ts_template t where t.oid = d.dicttemplate),
                d.dictinitoption)::text, {owner}
           from pg_ts_dict d join pg_namespace n on n.oid = d.dictnamespace where {users} and {lasting}",
        name = qualified("n", "d.dictname"),
        owner = role("d.dictowner"),
        users = of_users("pg_ts_dict", "d.oid"),
        lasting = lasting("n"),
    );
    let parsers = format!(
        "select 'text search parser', {name}, row(p.prsstart::regprocedure, p.prstoken::regprocedure, p.prsend::regprocedure,
                p.prsheadline::regprocedure, p.prslextype::regprocedure)::text, null::text
           from pg_ts_parser p join pg_namespace n on n.oid = p.prsnamespace where {users} and {lasting}",
        name = qualified("n", "p.prsname"),
        users = of_users("pg_ts_parser", "p.oid"),
        lasting = lasting("n"),
    );
    let templates = format!(
        "select 'text search template', {name}, row(t.tmplinit::regprocedure, t.tmpllexize::regprocedure)::text, null::text
           from pg_ts_template t join pg_namespace n on n.oid = t.tmplnamespace where {users} and {lasting}",
        name = qualified("n", "t.tmplname"),
        users = of_users("pg_ts_template", "t.oid"),
        lasting = lasting("n"),
    );
    vec![
        ("text search configurations", configurations),
        ("text search dictionaries", dictionaries),
        ("text search parsers", parsers),
        ("text search templates", templates),
    ]
}
