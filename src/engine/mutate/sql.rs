//! Faults of the restored copy: SQL that its superuser runs between the restore and the checks, as a `sabotage` step does.

use crate::domain::drill::Sabotage;
use crate::domain::mutation::{Mutation, Victim};
use crate::judge::mutation::{DATABASE_COLLATION, on};

/// The SQL of a mutation; none: it is done to the artifact.
pub fn sabotage(mutation: Mutation, victim: &Victim) -> Option<Sabotage> {
    let name = victim.name.as_str();
    let of = literal(name);
    let sql = match mutation {
        Mutation::ManifestForged
        | Mutation::ManifestResigned
        | Mutation::SignatureMissing
        | Mutation::IdentityChanged
        | Mutation::ArtifactMissing
        | Mutation::ArtifactReplayed
        | Mutation::PartFlipped
        | Mutation::PartTruncated
        | Mutation::PartMissing
        | Mutation::PartsSwapped
        | Mutation::PartOfAnother
        | Mutation::WrongKey
        | Mutation::GlobalsLost
        | Mutation::WalLost
        | Mutation::BackupStale
        | Mutation::PageFlipped
        | Mutation::UnreadPageFlipped => return None,
        Mutation::RowChanged => row_changed(&of),
        Mutation::RowDeleted => done(
            &format!("victim regclass := {of}::regclass;"),
            &format!(
                "{UNHINDERED}
                 execute format('delete from only %s where ctid = (select ctid from only %s limit 1)', victim, victim);
                 get diagnostics hit = row_count;"
            ),
        ),
        Mutation::RowDoubled => row_doubled(&of),
        Mutation::LargeObjectLost => "select lo_unlink(min(oid)) from pg_largeobject_metadata".to_owned(),
        Mutation::TableDropped => format!("drop table {name} cascade"),
        // The index of a partition goes with that of the whole table.
        Mutation::IndexDropped => done(
            &format!("victim regclass := {of}::regclass;"),
            "execute format('drop index %s', coalesce(pg_partition_root(victim), victim)); hit := 1;",
        ),
        Mutation::IndexBroken => index_broken(&of),
        Mutation::ConstraintDropped => {
            let (constraint, table) = on(name)?;
            let (constraint, table) = (literal(constraint), literal(table));
            done(
                &format!("victim regclass := {table}::regclass; constr text := {constraint};"),
                "begin
                   execute format('alter table %s drop constraint %s cascade', victim, constr);
                 exception when invalid_table_definition then
                   execute format('alter table %s drop constraint %s cascade', pg_partition_root(victim), constr);
                 end;
                 hit := 1;",
            )
        }
        Mutation::FunctionChanged => format!("alter function {name} cost 4711"),
        Mutation::RoleMissing => done(
            &format!("victim text := {of};"),
            "execute format('alter role %I rename to lifeboat_mutation', victim); hit := 1;",
        ),
        Mutation::GrantRevoked => {
            let (grantee, object) = on(name)?;
            let table = object.strip_prefix("table ")?;
            format!("revoke all on table {table} from {grantee} cascade")
        }
        Mutation::SequenceShifted => done(
            &format!("victim regclass := {of}::regclass; stands bigint; step bigint;"),
            "execute format('select last_value from %s', victim) into strict stands;
             select seqincrement into strict step from pg_sequence where seqrelid = victim;
             perform setval(victim, stands - step); hit := 1;",
        ),
        Mutation::ExtensionMissing => {
            done(&format!("victim text := {of};"), "execute format('drop extension %I cascade', victim); hit := 1;")
        }
        Mutation::ExtensionChanged => {
            format!("update pg_extension set extversion = extversion || '-lifeboat' where extname = {of}")
        }
        Mutation::CollationChanged if name == DATABASE_COLLATION => {
            "update pg_database set datcollversion = '0-lifeboat' where datname = current_database()".to_owned()
        }
        Mutation::CollationChanged => {
            let of = literal(name.strip_prefix("collation ").unwrap_or(name));
            format!("update pg_collation set collversion = '0-lifeboat' where oid = {of}::regcollation")
        }
        // Only how characters are classed: no index is sorted by it, and nothing else turns red.
        Mutation::LocaleChanged => "update pg_database set datctype = case datctype when 'C' then 'POSIX' else 'C' end
             where datname = current_database()"
            .to_owned(),
        Mutation::SettingChanged => done(
            "",
            "execute format('alter database %I set application_name = %L', current_database(), 'lifeboat_mutation');
             hit := 1;",
        ),
        Mutation::HeartbeatLost => done(
            &format!("victim regclass := {of}::regclass;"),
            "execute format('delete from %1$s where seq = (select seq from %1$s order by seq offset 1 limit 1)
                               and seq < (select max(seq) from %1$s)', victim);
             get diagnostics hit = row_count;",
        ),
    };
    Some(Sabotage { sql, database: victim.database.clone() })
}

/// A string constant that is read the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A block that fails unless it hit exactly one thing: a mutation that was not done must not look like one that was missed.
fn done(declare: &str, body: &str) -> String {
    format!(
        "do $lifeboat$
         declare {declare} hit bigint := 0;
         begin
           {body}
           if hit <> 1 then raise exception 'the mutation changed % things, and not one', hit; end if;
         end
         $lifeboat$"
    )
}

/// Neither triggers nor foreign keys hinder, nor change more than was meant. (On a server with others only a superuser may say so.)
const UNHINDERED: &str = "begin perform set_config('session_replication_role', 'replica', true);
     exception when insufficient_privilege then null; end;";

/// Tries one column after the other until one takes another value: keys and checks refuse some.
fn row_changed(table: &str) -> String {
    done(
        &format!("victim regclass := {table}::regclass; col record; value text;"),
        &format!(
            "{UNHINDERED}
             for col in select quote_ident(a.attname) as name, t.typcategory as kind, t.typname as type
                          from pg_attribute a join pg_type t on t.oid = a.atttypid
                         where a.attrelid = victim and a.attnum > 0 and not a.attisdropped
                           and a.attgenerated = '' and a.attidentity <> 'a'
                         order by a.attnum desc loop
               value := case when col.kind = 'N' then col.name || ' + 1'
                             when col.kind = 'B' then 'not ' || col.name
                             when col.kind = 'D' and col.type <> 'time' and col.type <> 'timetz'
                               then col.name || ' + interval ''1 day'''
                             when col.kind = 'S' then format('case when %1$s = '''' then ''x'' when left(%1$s, 1) = ''x'' then ''y''
                                                              || substr(%1$s, 2) else ''x'' || substr(%1$s, 2) end', col.name)
                             else 'null' end;
               begin
                 execute format('update only %1$s set %2$s = %3$s where ctid = (select ctid from only %1$s where %2$s is not null limit 1)',
                                victim, col.name, value);
                 get diagnostics hit = row_count;
               exception when others then hit := 0;
               end;
               exit when hit = 1;
             end loop;"
        ),
    )
}

/// Unique indexes are told to take no rows in while one is put in for the second time.
fn row_doubled(table: &str) -> String {
    done(
        &format!("victim regclass := {table}::regclass; cols text; closed oid[];"),
        &format!(
            "{UNHINDERED}
             select string_agg(quote_ident(attname), ', ' order by attnum) into strict cols from pg_attribute
              where attrelid = victim and attnum > 0 and not attisdropped and attgenerated = '';
             select coalesce(array_agg(indexrelid), array[]::oid[]) into closed from pg_index
              where indrelid = victim and (indisunique or indisexclusion) and indisready;
             if cardinality(closed) > 0 then
               update pg_index set indisready = false where indexrelid = any (closed);
             end if;
             execute format('insert into %1$s (%2$s) overriding system value select %2$s from only %1$s limit 1', victim, cols);
             get diagnostics hit = row_count;
             if cardinality(closed) > 0 then
               update pg_index set indisready = true where indexrelid = any (closed);
             end if;"
        ),
    )
}

/// Builds the index once more without the entries of one key, and puts its file in the place of the index's own. Every definition and
/// every row stays as it is: only who compares the heap with the index can see it.
fn index_broken(index: &str) -> String {
    done(
        &format!(
            "victim regclass := {index}::regclass; tab regclass; col text; type text; value text; def text;
             other oid; files oid[]; spaces oid[];"
        ),
        "select i.indrelid::regclass, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod)
           into strict tab, col, type
           from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
                join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
          where i.indexrelid = victim and m.amname = 'btree' and i.indpred is null and i.indisvalid;
         execute format('select %1$s::text from only %2$s where %1$s is not null limit 1', col, tab) into strict value;
         def := substring(pg_get_indexdef(victim) from position(' USING btree (' in pg_get_indexdef(victim)));
         execute format('create index lifeboat_mutation on %s %s where %s <> %L::%s', tab, def, col, value, type);
         select i.indexrelid into strict other from pg_index i join pg_class c on c.oid = i.indexrelid
          where i.indrelid = tab and c.relname = 'lifeboat_mutation';
         select array[v.relfilenode, o.relfilenode], array[v.reltablespace, o.reltablespace] into strict files, spaces
           from pg_class v, pg_class o where v.oid = victim and o.oid = other;
         update pg_class set relfilenode = files[2], reltablespace = spaces[2] where oid = victim;
         update pg_class set relfilenode = files[1], reltablespace = spaces[1] where oid = other;
         execute format('drop index %s', other::regclass);
         hit := 1;",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_is_done_either_to_the_artifact_or_by_sql() {
        let victim = |name: &str| Victim { name: name.to_owned(), database: Some("shop".to_owned()) };
        let by_sql = |mutation: &&Mutation| {
            let name = if **mutation == Mutation::GrantRevoked { "reader on table a.b" } else { "c on a.b" };
            sabotage(**mutation, &victim(name)).is_some()
        };
        let first = Mutation::ALL.iter().position(|one| *one == Mutation::RowChanged).unwrap();
        assert_eq!(Mutation::ALL.iter().filter(by_sql).count(), Mutation::ALL.len() - first);
        assert!(Mutation::ALL[..first].iter().all(|one| sabotage(*one, &victim("x")).is_none()));
    }

    #[test]
    fn names_are_quoted() {
        let victim = Victim { name: r#"a."o'b\c""#.to_owned(), database: None };
        let sql = sabotage(Mutation::RowDeleted, &victim).unwrap().sql;
        assert!(sql.contains(r#"E'a."o''b\\c"'::regclass"#), "{sql}");
        assert!(sabotage(Mutation::GrantRevoked, &victim).is_none(), "no grant");
    }
}
