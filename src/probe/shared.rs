//! What belongs to no database but to the whole server, and is not a role or a tablespace by itself: how databases and tablespaces are set up,
//! comments, grants on tablespaces, settings of all roles.

use tokio_postgres::Client;

use super::ProbeError;
use super::session::{rows, setting};
use crate::domain::inventory::{ATTRIBUTES_OF_DATABASE, COMMENT_ON_DATABASE, Object, SETTING_OF_ALL_ROLES};

/// Each with a digest of its definition, sorted. Nobody may get into `template0`: it is as initdb made it.
pub async fn shared_objects(client: &Client) -> Result<Vec<Object>, ProbeError> {
    let setting = setting("c");
    // The grants that every tablespace is born with count, whether they are written down or not: a dump makes no difference.
    let sql = format!(
        "select kind, identity, left(encode(sha256(convert_to(definition, 'UTF8')), 'hex'), 32) as definition, owner::text from (
           select '{ATTRIBUTES_OF_DATABASE}', quote_ident(d.datname), row(d.datconnlimit, d.datistemplate, d.datallowconn, t.spcname)::text,
                  pg_get_userbyid(d.datdba)
             from pg_database d join pg_tablespace t on t.oid = d.dattablespace where d.datname <> 'template0'
           union all
           select '{COMMENT_ON_DATABASE}', quote_ident(o.datname), d.description, null from pg_shdescription d
             join pg_database o on o.oid = d.objoid and d.classoid = 'pg_database'::regclass where o.datname <> 'template0'
           union all
           select 'comment on role', quote_ident(o.rolname), d.description, null from pg_shdescription d
             join pg_roles o on o.oid = d.objoid and d.classoid = 'pg_authid'::regclass
           union all
           select 'comment on tablespace', quote_ident(o.spcname), d.description, null from pg_shdescription d
             join pg_tablespace o on o.oid = d.objoid and d.classoid = 'pg_tablespace'::regclass
           union all
           select 'attributes of tablespace', quote_ident(s.spcname), array(select unnest(s.spcoptions) order by 1)::text, pg_get_userbyid(s.spcowner)
             from pg_tablespace s where s.spcname !~ '^pg_'
           union all
           select 'grants on tablespace', quote_ident(s.spcname),
                  array(select row(case when g.grantee = 0 then 'PUBLIC' else pg_get_userbyid(g.grantee) end, g.privilege_type, g.is_grantable)::text
                          from aclexplode(coalesce(s.spcacl, acldefault('t', s.spcowner))) g order by 1)::text, null
             from pg_tablespace s where s.spcname !~ '^pg_'
           union all
           select '{SETTING_OF_ALL_ROLES}', split_part(c, '=', 1), {setting}, null
             from pg_db_role_setting s, unnest(s.setconfig) c where s.setdatabase = 0 and s.setrole = 0
         ) of_kind(kind, identity, definition, owner)"
    );
    let mut all = Vec::new();
    for row in rows(client, "reading what belongs to the whole server", &sql).await? {
        all.push(super::objects::object(&row)?);
    }
    all.sort();
    Ok(all)
}
