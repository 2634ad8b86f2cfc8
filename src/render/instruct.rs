//! One step of a drill, as a human does it with public tools. With `engine::drill` (perform) and `render::narrate` (the
//! report), the second of the three folds over [`Step`]: no arm is a wildcard.

use crate::domain::artifact::StreamKind;
use crate::domain::check::{CheckName, Expectation};
use crate::domain::drill::{Check, Step, Target};
use crate::domain::policy::Method;

use super::runbook::{Source, code};
use super::words::plain;

/// A text as one word of a POSIX shell.
pub(super) fn quote(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A block of commands; the fence is longer than any that the commands hold.
pub(super) fn block(commands: &str) -> String {
    let mut fence = "```".to_owned();
    while commands.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}sh\n{}\n{fence}\n", commands.trim_end())
}

/// The heading of a step in a runbook.
pub fn heading(step: &Step) -> String {
    match step {
        Step::Provision => "Make an empty place".to_owned(),
        Step::Restore(restore) => match &restore.until {
            Target::Backup => "Restore as far as the backup goes, and start".to_owned(),
            Target::Latest => "Restore as far as it goes, and start".to_owned(),
            Target::Moment => "Restore to a moment, and start".to_owned(),
        },
        Step::AwaitReady(_) => "Wait for the first useful query".to_owned(),
        Step::Check(check) => format!("Check {}", check.name),
        Step::Sabotage(_) => "Leave out: break it on purpose".to_owned(),
        Step::Destroy => "Clean up, after a rehearsal".to_owned(),
    }
}

/// What a human does for this step, in Markdown.
pub fn instruct(step: &Step, source: &Source<'_>) -> String {
    match step {
        Step::Provision if source.artifact.record.method == Method::ControlPlane => control_plane_place(source),
        Step::Provision => provision(source),
        Step::Restore(restore) => match &restore.until {
            target @ (Target::Backup | Target::Latest | Target::Moment) => match source.artifact.record.method {
                Method::Physical => restore_physical(source, target),
                Method::Logical => restore_logical(source),
                Method::ControlPlane => CONTROL_PLANE.to_owned(),
                Method::RdsSnapshot | Method::Pgbackrest | Method::Barman | Method::Dump => {
                    "This backup was not taken by lifeboat: follow the manual of the tool that took it.\n".to_owned()
                }
            },
        },
        Step::AwaitReady(ready) => {
            let database = ready.database.as_deref().unwrap_or(source.database);
            format!(
                "The database is ready when this query answers within {}. Try it until it does, for at most {}:\n\n{}",
                ready.within,
                ready.timeout,
                block(&format!("time {}", psql(database, &ready.query)))
            )
        }
        Step::Check(check) => instruct_check(check, source),
        Step::Sabotage(sabotage) => format!(
            "Only in rehearsals, never on the real day: the drill runs {} to see whether the checks notice. Leave it out.\n",
            code(&sabotage.sql)
        ),
        Step::Destroy if source.artifact.record.method == Method::ControlPlane => {
            format!("Only after a rehearsal, never on the real day.\n\n{}", block("rm -rf -- \"$TARGET\""))
        }
        Step::Destroy => format!(
            "Only after a rehearsal, never on the real day: stop the server, and remove the copy of the data.\n\n{}",
            block("pg_ctl -D \"$TARGET\" -m immediate stop\nrm -rf -- \"$TARGET\" \"$SOCKET\"")
        ),
    }
}

fn psql(database: &str, sql: &str) -> String {
    format!("psql -X -h \"$SOCKET\" -U \"$ADMIN\" -d {} -c {}", quote(database), quote(sql))
}

fn provision(source: &Source<'_>) -> String {
    let version = source.version().map_or_else(String::new, |version| format!(" {version}"));
    format!(
        "On a machine with PostgreSQL{version} of the same major version, `age`, `zstd` and `tar`, as the user that is to run \
         the server (never root). There must be room for {} and as much again for the log.\n\n{}",
        source.artifact.record.plain_bytes,
        block(&format!(
            "{}BACKUP={}\nKEY={}\nADMIN={}\nTARGET=$HOME/restored\nSOCKET=$HOME/restored-socket\nset -o pipefail\n\
             mkdir -m 0700 -- \"$TARGET\" \"$SOCKET\"\ncd -- \"$BACKUP\"",
            source.fetch.as_deref().unwrap_or_default(),
            quote(&source.folder()),
            quote(source.key),
            quote(&source.admin)
        ))
    )
}

fn control_plane_place(source: &Source<'_>) -> String {
    format!(
        "On a machine with lifeboat, PostgreSQL's programs, `age`, `zstd` and `tar`:\n\n{}",
        block(&format!(
            "{}BACKUP={}\nKEY={}\nTARGET=$HOME/lifeboat\nset -o pipefail\nmkdir -m 0700 -- \"$TARGET\"\ncd -- \"$BACKUP\"",
            source.fetch.as_deref().unwrap_or_default(),
            quote(&source.folder()),
            quote(source.key)
        ))
    )
}

/// The way back of lifeboat itself.
const CONTROL_PLANE: &str = "\
Open the parts in order; together they are one tar of the configuration and of the catalog's export:

```sh
for p in base/*.age; do age -d -i \"$KEY\" \"$p\" || exit 1; done | zstd -d | tar -x -C \"$TARGET\"
cat \"$TARGET/HOW-TO.txt\"
```

`origin.json` names the secrets that are not in it: bring keys and password files from where they are kept, with mode 0600. Paths of stores in
`config/lifeboat.toml` are as they were on the lost machine: correct them if need be. Then read the catalog in:

```sh
cd -- \"$TARGET/config\"
cat ../catalog/*.jsonl > ../catalog.jsonl
lifeboat catalog import ../catalog.jsonl
```
";

fn restore_physical(source: &Source<'_>, target: &Target) -> String {
    let mut text = String::from("Open the parts in order; together they are one tar of the data folder:\n\n");
    text.push_str(&block(
        "for p in base/*.age; do age -d -i \"$KEY\" \"$p\" || exit 1; done | zstd -d | tar -x -C \"$TARGET\"\n\
         pg_verifybackup \"$TARGET\"",
    ));
    if let Some(manifest) = source.artifact.manifest
        && !manifest.fingerprint.tablespaces.is_empty()
    {
        text.push_str(
            "\nThis server has tablespaces. In the tar they are folders below `pg_tblspc`; PostgreSQL wants links. Choose a \
             new place for each, move it there, and remove the map that tells the server to make the old links:\n\n",
        );
        let mut commands = String::from("mkdir -p -m 0700 -- \"$HOME/restored-tablespaces\"\n");
        for space in &manifest.fingerprint.tablespaces {
            commands.push_str(&format!(
                "mv -- \"$TARGET/pg_tblspc/{0}\" \"$HOME/restored-tablespaces/{0}\"    # {1}, was at {2}\n\
                 ln -s -- \"$HOME/restored-tablespaces/{0}\" \"$TARGET/pg_tblspc/{0}\"\n",
                space.oid,
                plain(&space.name),
                plain(&space.location)
            ));
        }
        commands.push_str("rm -f -- \"$TARGET/tablespace_map\"");
        text.push_str(&block(&commands));
    }
    if *target != Target::Backup {
        text.push_str(
            "\nThe log behind the backup, if the store holds one, goes on from where it ended. Open all of it into `pg_wal`, and have it \
             replayed (to a moment: `recovery_target_time` in `postgresql.auto.conf`, with its zone):\n\n",
        );
        text.push_str(&block(
            "for p in ../wal/*/*.zst.age; do\n  \
               [ -e \"$p\" ] || continue\n  \
               n=$(basename \"$p\" .zst.age); n=${n%.[0-9]}\n  \
               case $n in\n    \
                 # A segment that was not finished: its pieces, each at its place.\n    \
                 *.piece) w=$TARGET/pg_wal/${n%%.*}; o=${n#*.}; o=$((0x${o%%-*}))\n             \
                          [ $o -gt 0 ] || : > \"$w\"\n             \
                          age -d -i \"$KEY\" \"$p\" | zstd -dq | dd of=\"$w\" bs=1M seek=$o oflag=seek_bytes conv=notrunc status=none || exit 1\n             \
                          truncate -s \"$(jq .fingerprint.server.wal_segment_bytes manifest.json)\" \"$w\" ;;\n    \
                 *) age -d -i \"$KEY\" \"$p\" | zstd -dqf -o \"$TARGET/pg_wal/$n\" || exit 1 ;;\n  \
               esac\n  \
               : > \"$TARGET/recovery.signal\"\n\
             done",
        ));
        if *target == Target::Moment {
            text.push_str(
                "\nAnd no further than to the moment, with its zone (what was committed at it is there, what came later is not):\n\n",
            );
            text.push_str(&block(
                "MOMENT='2026-01-31 03:00:00+00'\n\
                 echo \"recovery_target_time = '$MOMENT'\" >> \"$TARGET/postgresql.auto.conf\"\n\
                 echo \"recovery_target_action = 'promote'\" >> \"$TARGET/postgresql.auto.conf\"",
            ));
        }
    }
    text.push_str(
        "\nStart it cut off from everything else: it must not archive into the old archive, nor answer applications, before it \
         has been checked. The log that the backup needs is in it. Where the source keeps `postgresql.conf` and `pg_hba.conf` \
         elsewhere (Debian: `/etc/postgresql`), make them first.\n\n",
    );
    text.push_str(&block(
        "chmod 0700 \"$TARGET\"\n\
         [ -e \"$TARGET/postgresql.conf\" ] || : > \"$TARGET/postgresql.conf\"\n\
         echo 'local all all trust' > \"$SOCKET/hba.conf\"\n\
         OPTIONS=\"-c listen_addresses='' -c unix_socket_directories=$SOCKET -c hba_file=$SOCKET/hba.conf -c archive_mode=off\"\n\
         OPTIONS=\"$OPTIONS -c primary_conninfo='' -c max_logical_replication_workers=0 -c shared_preload_libraries='' -c restore_command=false\"\n\
         pg_ctl -D \"$TARGET\" -w -t 86400 -l \"$SOCKET/server.log\" -o \"$OPTIONS\" start\n\
         grep -E 'redo done|consistent recovery state|FATAL|PANIC' \"$SOCKET/server.log\"",
    ));
    text
}

fn restore_logical(source: &Source<'_>) -> String {
    let mut text = String::from("Make an empty server, put back roles and memberships, then each database:\n\n");
    let mut commands = String::new();
    let first = source.artifact.manifest.and_then(|manifest| manifest.fingerprint.databases.first());
    let encoding = first.map_or("UTF8", |database| database.encoding.as_str());
    commands.push_str(&format!(
        "initdb -D \"$TARGET\" -U \"$ADMIN\" --auth=trust --encoding={} --locale=C.UTF-8\n\
         OPTIONS=\"-c listen_addresses='' -c unix_socket_directories=$SOCKET\"\n\
         pg_ctl -D \"$TARGET\" -w -l \"$SOCKET/server.log\" -o \"$OPTIONS\" start\n\
         age -d -i \"$KEY\" globals.sql.zst.age | zstd -d | psql -X -h \"$SOCKET\" -U \"$ADMIN\" -d postgres\n",
        quote(encoding)
    ));
    let dumps: Vec<(&str, &str)> = source
        .artifact
        .manifest
        .map(|manifest| {
            let dump = |stream: &'_ crate::domain::artifact::Stream| match &stream.kind {
                StreamKind::Dump { .. } => true,
                StreamKind::Tar | StreamKind::Globals => false,
            };
            manifest.streams.iter().filter(|s| dump(s)).map(|s| (s.name.as_str(), name_of(&s.kind))).collect()
        })
        .unwrap_or_default();
    let dumps = if dumps.is_empty() { vec![("base", source.database)] } else { dumps };
    for (index, (folder, database)) in dumps.iter().enumerate() {
        commands.push_str(&format!(
            "\n# database {}\n\
             for p in {}/*.age; do age -d -i \"$KEY\" \"$p\" || exit 1; done | zstd -d > \"$SOCKET/{index}.dump\"\n\
             pg_restore -h \"$SOCKET\" -U \"$ADMIN\" -d postgres --create --exit-on-error \"$SOCKET/{index}.dump\"\n\
             rm -- \"$SOCKET/{index}.dump\"\n",
            plain(database),
            quote(folder)
        ));
    }
    text.push_str(&block(&commands));
    text.push_str(&format!(
        "\nThat the role {} exists already is no error. A dump can run code as who restores it: do this only with a \
         backup whose signature you have verified.\n",
        code(&source.admin)
    ));
    if source.artifact.manifest.is_none() {
        text.push_str(
            "\nIf there are folders below `base`, each is one database: do the last block for each of them.\n",
        );
    }
    text
}

fn name_of(kind: &StreamKind) -> &str {
    match kind {
        StreamKind::Dump { database } => database,
        StreamKind::Tar | StreamKind::Globals => "",
    }
}

fn instruct_check(check: &Check, source: &Source<'_>) -> String {
    let database = source.database;
    let everywhere = |sql: &str| block(&psql(database, sql));
    let text = match check.name {
        CheckName::Manifest => format!(
            "Every part must have the hash that the manifest says, and the manifest the signature of a key that you trust:\n\n{}",
            block(&signature(source))
        ),
        CheckName::PageChecksums => format!(
            "With the server stopped, every page (only where the source keeps checksums):\n\n{}",
            block(
                "pg_ctl -D \"$TARGET\" -w stop\npg_checksums --check -D \"$TARGET\"\npg_ctl -D \"$TARGET\" -w -l \"$SOCKET/server.log\" -o \"$OPTIONS\" start"
            )
        ),
        CheckName::Amcheck => {
            let depth = if check.heapallindexed { " --heapallindexed" } else { "" };
            let command =
                format!("pg_amcheck -h \"$SOCKET\" -U \"$ADMIN\" --all --install-missing{depth} && echo sound");
            format!("Tables and B-tree indexes, from inside:\n\n{}", block(&command))
        }
        CheckName::Completeness => format!(
            "Compare the objects with those that the manifest lists for each database (kind and identity):\n\n{}",
            block(
                "jq -r '.fingerprint.databases[] | .name as $d | .objects[] | [$d, .kind, .identity] | @tsv' manifest.json | sort > \"$SOCKET/expected\"\n\
                 cut -f 2 \"$SOCKET/expected\" | sort | uniq -c\n\
                 psql -X -h \"$SOCKET\" -U \"$ADMIN\" -d postgres -c '\\l' -c '\\du'",
            )
        ),
        CheckName::Content => format!(
            "Compare the rows of each table with the count that the manifest gives (equal counts are necessary, not \
             sufficient: only lifeboat compares digests):\n\n{}",
            block(
                "jq -r '.fingerprint.databases[] | .name as $d | .tables[] | [$d, .name, (.content.known.rows // \"?\")] | @tsv' manifest.json |\n\
                 while IFS=\"$(printf '\\t')\" read -r d t n; do\n  \
                   m=$(psql -X -At -h \"$SOCKET\" -U \"$ADMIN\" -d \"$d\" -c \"select count(*) from $t\")\n  \
                   [ \"$m\" = \"$n\" ] || echo \"$d $t: $n rows expected, $m found\"\n\
                 done",
            )
        ),
        CheckName::Sequences => {
            format!(
                "Each sequence stands where the manifest says:\n\n{}",
                everywhere("select schemaname, sequencename, last_value from pg_sequences order by 1, 2")
            )
        }
        CheckName::Extensions => {
            format!(
                "The same extensions in the same versions as in the manifest:\n\n{}",
                everywhere("select extname, extversion from pg_extension order by 1")
            )
        }
        CheckName::Collations => format!(
            "Where recorded and actual version differ, text indexes must be rebuilt (`reindex database`):\n\n{}",
            everywhere(
                "select collname, collversion, pg_collation_actual_version(oid) from pg_collation where collversion is distinct from pg_collation_actual_version(oid)"
            )
        ),
        CheckName::Encodings => {
            format!(
                "Encoding and locale of every database:\n\n{}",
                block("psql -X -h \"$SOCKET\" -U \"$ADMIN\" -d postgres -c '\\l'")
            )
        }
        CheckName::Settings => {
            format!(
                "Settings that differ from the defaults, beside those of the manifest:\n\n{}",
                everywhere(
                    "select name, setting, source from pg_settings where source not in ('default', 'override') order by 1"
                )
            )
        }
        CheckName::Heartbeat => format!(
            "The numbers are there without a gap; the newest says how much was lost:\n\n{}",
            everywhere(
                "select count(*) = max(seq) - min(seq) + 1 as whole, max(seq), max(committed_at) from lifeboat.heartbeat"
            )
        ),
        CheckName::ControlPlane => format!(
            "The configuration is valid, and the catalog knows what the stores hold:\n\n{}",
            block("cd -- \"$TARGET/config\"\nlifeboat check\nlifeboat catalog rebuild\nlifeboat status")
        ),
        CheckName::Assert | CheckName::Readiness => match &check.assertion {
            None => "Ask the application's own first query, and see that it answers.\n".to_owned(),
            Some(assertion) => {
                let expected = match &assertion.expect {
                    Expectation::Is(value) => (if *value { "t" } else { "f" }).to_owned(),
                    Expectation::Equals(text) => plain(text),
                    Expectation::Within(low, high) => format!("a number from {low} to {high}"),
                };
                let database = assertion.database.as_deref().unwrap_or(database);
                format!("The answer must be {}:\n\n{}", code(&expected), block(&psql(database, &assertion.sql)))
            }
        },
    };
    if check.required {
        text
    } else {
        format!("{text}\nThis one is wanted, not required: it need not hold up the recovery.\n")
    }
}

/// Hash of every part, and signature of the manifest, with `jq`, `sha256sum` and `openssl`.
pub(super) fn signature(source: &Source<'_>) -> String {
    let mut commands = String::from(
        "jq -r '.streams[].parts[] | .sealed_sha256 + \"  \" + .key' manifest.json | sha256sum --quiet -c && echo parts: right\n",
    );
    for signer in source.signers {
        commands.push_str(&format!(
            "openssl pkeyutl -verify -pubin -inkey {} -rawin -in manifest.json \\\n  \
             -sigfile <(jq -r .signature manifest.json.sig | base64 -d)\n",
            quote(signer)
        ));
    }
    commands
}
