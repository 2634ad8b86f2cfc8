//! What runs: functions, triggers, rules, policies, operators, casts, languages.

use super::{lasting, of_users, qualified, role, through_a_dump};

pub(super) fn queries(major: u32) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("functions", functions(major)),
        ("aggregates", aggregates()),
        ("triggers", triggers()),
        ("rules", rules()),
        ("row security policies", policies()),
        ("event triggers", event_triggers()),
        ("operators", operators()),
        ("casts", casts()),
    ];
    all.extend(operator_families());
    all.extend(languages());
    all
}

const SIGNATURE: &str = "|| '(' || pg_get_function_identity_arguments(p.oid) || ')'";

/// A body that is kept as text comes back to the letter; one that is kept parsed (PostgreSQL 14's `BEGIN ATOMIC`) is printed anew.
fn functions(major: u32) -> String {
    let printed = "pg_get_functiondef(p.oid)";
    let definition = if major >= 14 {
        format!("case when p.prosqlbody is null then {printed} else {} end", through_a_dump(printed))
    } else {
        printed.to_owned()
    };
    format!(
        "select case p.prokind when 'p' then 'procedure' else 'function' end, {name} {SIGNATURE}, {definition}, {owner}
           from pg_proc p join pg_namespace n on n.oid = p.pronamespace
          where p.prokind in ('f', 'p', 'w') and {users} and {lasting}",
        name = qualified("n", "p.proname"),
        owner = role("p.proowner"),
        users = of_users("pg_proc", "p.oid"),
        lasting = lasting("n"),
    )
}

fn aggregates() -> String {
    format!(
        "select 'aggregate', {name} {SIGNATURE},
                row(g.aggkind, g.aggnumdirectargs, g.aggtransfn::regprocedure, g.aggfinalfn::regprocedure, g.aggcombinefn::regprocedure,
                    g.aggserialfn::regprocedure, g.aggdeserialfn::regprocedure, g.aggmtransfn::regprocedure,
                    g.aggminvtransfn::regprocedure, g.aggmfinalfn::regprocedure, g.aggfinalextra, g.aggmfinalextra,
                    g.aggfinalmodify, g.aggmfinalmodify, g.aggsortop::regoperator, format_type(g.aggtranstype, null), g.aggtransspace,
                    format_type(g.aggmtranstype, null), g.aggmtransspace, g.agginitval, g.aggminitval, p.proparallel,
                    format_type(p.prorettype, null))::text,
                {owner}
           from pg_aggregate g join pg_proc p on p.oid = g.aggfnoid join pg_namespace n on n.oid = p.pronamespace
          where {users} and {lasting}",
        name = qualified("n", "p.proname"),
        owner = role("p.proowner"),
        users = of_users("pg_proc", "p.oid"),
        lasting = lasting("n"),
    )
}

fn triggers() -> String {
    format!(
        "select 'trigger', quote_ident(t.tgname) || ' on ' || {name}, row({definition}, t.tgenabled)::text, null::text
           from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
          where not t.tgisinternal and c.relpersistence <> 't' and {users} and {lasting}",
        name = qualified("n", "c.relname"),
        definition = through_a_dump("pg_get_triggerdef(t.oid)"),
        users = of_users("pg_trigger", "t.oid"),
        lasting = lasting("n"),
    )
}

fn rules() -> String {
    format!(
        "select 'rule', quote_ident(r.rulename) || ' on ' || {name}, row({definition}, r.ev_enabled)::text, null::text
           from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
          where r.rulename <> '_RETURN' and c.relpersistence <> 't' and {users} and {lasting}",
        name = qualified("n", "c.relname"),
        definition = through_a_dump("pg_get_ruledef(r.oid)"),
        users = of_users("pg_rewrite", "r.oid"),
        lasting = lasting("n"),
    )
}

fn policies() -> String {
    format!(
        "select 'policy', quote_ident(p.polname) || ' on ' || {name},
                row(p.polcmd, p.polpermissive, array(select coalesce(pg_roles.rolname, 'public') from unnest(p.polroles) r
                    left join pg_roles on pg_roles.oid = r order by 1), {using}, {check})::text, null::text
           from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
          where {users} and {lasting}",
        name = qualified("n", "c.relname"),
        using = through_a_dump("pg_get_expr(p.polqual, p.polrelid)"),
        check = through_a_dump("pg_get_expr(p.polwithcheck, p.polrelid)"),
        users = of_users("pg_policy", "p.oid"),
        lasting = lasting("n"),
    )
}

fn event_triggers() -> String {
    format!(
        "select 'event trigger', quote_ident(e.evtname),
                row(e.evtevent, e.evtfoid::regprocedure, e.evtenabled, array(select unnest(e.evttags) order by 1))::text, {owner}
           from pg_event_trigger e where {users}",
        owner = role("e.evtowner"),
        users = of_users("pg_event_trigger", "e.oid"),
    )
}

fn operators() -> String {
    format!(
        "select 'operator', quote_ident(n.nspname) || '.' || o.oprname || ' (' || case when o.oprleft = 0 then 'NONE'
                  else format_type(o.oprleft, null) end || ', ' || format_type(o.oprright, null) || ')',
                row(o.oprcode::regprocedure, o.oprcom::regoperator, o.oprnegate::regoperator, o.oprrest::regprocedure,
                    o.oprjoin::regprocedure, o.oprcanmerge, o.oprcanhash, format_type(o.oprresult, null))::text,
                {owner}
           from pg_operator o join pg_namespace n on n.oid = o.oprnamespace
          where o.oprcode <> 0 and {users} and {lasting}",
        owner = role("o.oprowner"),
        users = of_users("pg_operator", "o.oid"),
        lasting = lasting("n"),
    )
}

fn casts() -> String {
    format!(
        "select 'cast', format_type(c.castsource, null) || ' as ' || format_type(c.casttarget, null),
                row(c.castfunc::regprocedure, c.castcontext, c.castmethod)::text, null::text
           from pg_cast c where {}",
        of_users("pg_cast", "c.oid")
    )
}

fn operator_families() -> Vec<(&'static str, String)> {
    let families = format!(
        "select 'operator family', {name} || ' using ' || quote_ident(am.amname),
                row(array(select row(format_type(o.amoplefttype, null), format_type(o.amoprighttype, null), o.amopstrategy, o.amoppurpose,
                                 o.amopopr::regoperator, (select quote_ident(sf.opfname) from pg_opfamily sf where sf.oid = o.amopsortfamily))::text
                            from pg_amop o where o.amopfamily = f.oid order by 1),
                    array(select row(format_type(p.amproclefttype, null), format_type(p.amprocrighttype, null), p.amprocnum,
                                 p.amproc::regprocedure)::text from pg_amproc p where p.amprocfamily = f.oid order by 1))::text,
                {owner}
           from pg_opfamily f join pg_namespace n on n.oid = f.opfnamespace join pg_am am on am.oid = f.opfmethod
          where {users} and {lasting}",
        name = qualified("n", "f.opfname"),
        owner = role("f.opfowner"),
        users = of_users("pg_opfamily", "f.oid"),
        lasting = lasting("n"),
    );
    let classes = format!(
        "select 'operator class', {name} || ' using ' || quote_ident(am.amname),
                row({family}, format_type(o.opcintype, null), nullif(o.opckeytype, 0)::regtype, o.opcdefault)::text, {owner}
           from pg_opclass o join pg_namespace n on n.oid = o.opcnamespace join pg_am am on am.oid = o.opcmethod
                join pg_opfamily f on f.oid = o.opcfamily join pg_namespace fn on fn.oid = f.opfnamespace
          where {users} and {lasting}",
        name = qualified("n", "o.opcname"),
        family = qualified("fn", "f.opfname"),
        owner = role("o.opcowner"),
        users = of_users("pg_opclass", "o.oid"),
        lasting = lasting("n"),
    );
    vec![("operator families", families), ("operator classes", classes)]
}

fn languages() -> Vec<(&'static str, String)> {
    let languages = format!(
        "select 'language', quote_ident(l.lanname), row(l.lanpltrusted, l.lanplcallfoid::regprocedure, l.laninline::regprocedure,
                l.lanvalidator::regprocedure)::text, {} from pg_language l where {}",
        role("l.lanowner"),
        of_users("pg_language", "l.oid")
    );
    let transforms = format!(
        "select 'transform', format_type(t.trftype, null) || ' for ' || quote_ident(l.lanname),
                row(t.trffromsql::regprocedure, t.trftosql::regprocedure)::text, null::text
           from pg_transform t join pg_language l on l.oid = t.trflang where {}",
        of_users("pg_transform", "t.oid")
    );
    let methods = format!(
        "select 'access method', quote_ident(a.amname), row(a.amtype, a.amhandler::regprocedure)::text, null::text
           from pg_am a where {}",
        of_users("pg_am", "a.oid")
    );
    vec![("languages", languages), ("transforms", transforms), ("access methods", methods)]
}
