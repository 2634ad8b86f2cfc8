#!/usr/bin/env bash
# Replay of one cluster's log after one base backup, by several restore_commands, all in one run, in turn: only ratios of one run count.
# Writes a table in Markdown to standard output; what it does, to standard error. A tool that is not installed is said and left out.
#
#   SEGMENTS=64 RUNS=5 benches/replay.sh > table.md
#
# SEGMENTS  how much log, in segments of 16 MiB          RUNS   rounds; the table has medians
# BIN       the lifeboat to measure (a release build)    DIR    where it all goes: 10 GB, on a real disk
# PGBIN     PostgreSQL's programs                        ONLY   a regular expression over the names of measurements
set -euo pipefail

SEGMENTS=${SEGMENTS:-64}
SCALE=${SCALE:-20}
NAME_OF_RUN=replay
. "$(dirname "$0")/ground.sh"
as_user mkdir "$W/plain"

# --- the source, and one base backup of it --------------------------------------------------------------------------------------
say "a cluster of scale $SCALE, PostgreSQL $MAJOR"
as_user "$PGBIN/initdb" -D "$PGDATA" -k -U bench --auth=trust --encoding=UTF8 --locale=C --no-sync >/dev/null
cat >> "$PGDATA/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$W'
shared_buffers = '256MB'
max_wal_size = '4GB'
checkpoint_timeout = '1h'
wal_level = replica
archive_mode = on
archive_command = 'cp %p $W/plain/%f'
synchronous_commit = off
CONF
as_user "$PGBIN/pg_ctl" -D "$PGDATA" -w -l "$W/source.log" start >/dev/null
as_user "$PGBIN/createdb" bench
as_user "$PGBIN/pgbench" -i -q -s "$SCALE" bench >/dev/null 2>&1
as_user "$PGBIN/pg_basebackup" -D "$W/base" -c fast -X none 2>/dev/null
# What is before it is not replayed.
START=$(sed -n 's/^START WAL LOCATION.*file \(.*\))$/\1/p' "$W/base/backup_label")
for path in "$W/plain"/*; do [[ ${path##*/} < $START ]] && rm "$path"; done
rm -f "$W/plain"/*.backup

# --- the log: pgbench's own transactions, in several waves; each checkpoint makes full pages again, as on any busy server ----------
segment_now() { sql -c "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 17))::bit(32)::int"; }
FIRST=$(segment_now)
while (($(segment_now) < FIRST + SEGMENTS)); do
    sql -c checkpoint
    as_user "$PGBIN/pgbench" -n -c 4 -j 2 -T 12 bench >/dev/null 2>&1
    say "$(($(segment_now) - FIRST)) segments"
done
sql -c "create table done as select count(*) as n from pgbench_history" -c "select pg_switch_wal()" >/dev/null
WANTED=$(sql -c "select n from done")
until [ "$(sql -c "select last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) from pg_stat_archiver")" = t ]; do sleep 0.2; done
as_user "$PGBIN/pg_ctl" -D "$PGDATA" -w -m fast stop >/dev/null
COUNT=$(find "$W/plain" -type f | grep -cE '/[0-9A-F]{24}$')
say "$COUNT segments, $WANTED transactions"

# --- the same log in each tool's own archive ---------------------------------------------------------------------------------------
as_user "$W/lifeboat" init "postgresql://bench@/bench?host=$W" --policy "$NAME" --dir "$W/lb" >/dev/null 2>&1
as_user mkdir -p "$W/lb/store"
LIFEBOAT="$W/lifeboat -c $W/lb/lifeboat.toml wal fetch $NAME"
for path in "$W/plain/"*; do
    as_user "$W/lifeboat" -c "$W/lb/lifeboat.toml" wal push "$NAME" "$path"
done
PGBACKREST=
if command -v pgbackrest >/dev/null; then
    for dir in pgbackrest pgbackrest-log spool; do as_user mkdir "$W/$dir"; done
    conf() {
        cat <<CONF
[global]
repo1-path=$W/pgbackrest
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=a-long-enough-passphrase-for-a-bench
compress-type=zst
compress-level=$LEVEL
process-max=$JOBS
log-level-console=warn
log-level-file=off
log-path=$W/pgbackrest-log
lock-path=$W/pgbackrest-log
spool-path=$W/spool
archive-async=$1
[$NAME]
pg1-path=$2
pg1-socket-path=$W
pg1-user=bench
pg1-database=bench
CONF
    }
    conf n "$PGDATA" > "$W/push.conf"
    conf n "$BACK" > "$W/sync.conf"
    conf y "$BACK" > "$W/async.conf"
    as_user "$PGBIN/pg_ctl" -D "$PGDATA" -w -l "$W/source.log" -o "-c archive_mode=off" start >/dev/null
    as_user pgbackrest --config="$W/push.conf" --stanza="$NAME" --no-online stanza-create >/dev/null 2>&1 ||
        as_user pgbackrest --config="$W/push.conf" --stanza="$NAME" stanza-create
    as_user "$PGBIN/pg_ctl" -D "$PGDATA" -w -m fast stop >/dev/null
    for path in "$W/plain/"*; do
        as_user pgbackrest --config="$W/push.conf" --stanza="$NAME" archive-push "$path"
    done
    PGBACKREST=yes
else
    say "SKIPPED: pgbackrest is not installed here"
fi

# --- measuring ----------------------------------------------------------------------------------------------------------------------
busy_ticks() { awk '/^cpu /{print $2 + $3 + $4 + $7 + $8}' /proc/stat; }
# replay NAME RESTORE-COMMAND: one line of NAME, wall seconds from start to promoted, CPU seconds of the whole machine.
replay() {
    local name=$1 command=$2 from to before
    [[ $name =~ $ONLY ]] || return 0
    rm -rf "$BACK" "$W/spool"
    as_user mkdir "$W/spool"
    as_user cp -a "$W/base" "$BACK"
    cat >> "$BACK/postgresql.conf" <<CONF
port = 5433
archive_mode = off
restore_command = '$command'
recovery_target_timeline = current
CONF
    as_user touch "$BACK/recovery.signal"
    sync
    cat "$W"/plain/* "$W"/lb/store/"$NAME"/wal/*/* "$BACK"/base/*/* >/dev/null
    before=$(busy_ticks)
    from=$(date +%s.%N)
    as_user "$PGBIN/pg_ctl" -D "$BACK" -W -l "$W/back.log" start >/dev/null
    until [ "$(as_user "$PGBIN/psql" -XAt -p 5433 -c 'select pg_is_in_recovery()' 2>/dev/null)" = f ]; do
        sleep 0.05
        [ -f "$BACK/postmaster.pid" ] || [ "$(date +%s)" -lt "$((${from%.*} + 5))" ] || { tail -n 20 "$W/back.log" >&2; die "$name failed"; }
    done
    to=$(date +%s.%N)
    [ "$(as_user "$PGBIN/psql" -XAt -p 5433 -c 'select n from done')" = "$WANTED" ] || die "$name: not all came back"
    awk -v n="$name" -v f="$from" -v t="$to" -v c="$(($(busy_ticks) - before))" \
        'BEGIN{printf "%s\t%.2f\t%.2f\n", n, t - f, c / 100}' >> "$RAW"
    say "$(tail -n 1 "$RAW")"
    as_user "$PGBIN/pg_ctl" -D "$BACK" -m immediate stop >/dev/null
    if find "$BACK/pg_wal" -name 'lifeboat*' | grep -q .; then say "left in pg_wal: $(find "$BACK/pg_wal" -name 'lifeboat*')"; fi
    rm -f "$W/back.log"
}

for ((round = 1; round <= RUNS; round++)); do
    say "round $round of $RUNS"
    replay "cp from a plain folder" "cp $W/plain/%f %p"
    replay "lifeboat" "$LIFEBOAT %f %p"
    replay "lifeboat --ahead 0" "$LIFEBOAT --ahead 0 %f %p"
    if [ -n "$PGBACKREST" ]; then
        replay "pgBackRest archive-get" "pgbackrest --config=$W/sync.conf --stanza=$NAME archive-get %f %p"
        replay "pgBackRest archive-get, async" "pgbackrest --config=$W/async.conf --stanza=$NAME archive-get %f %p"
    fi
done

echo "$COUNT segments of 16 MiB ($WANTED transactions of pgbench at scale $SCALE), PostgreSQL $MAJOR, medians of $RUNS rounds, $(nproc) cores, $JOBS processes, warm cache."
echo
echo "| restore_command | wall s | ratio to cp | CPU s, whole machine |"
echo "|---|---:|---:|---:|"
awk -F'\t' '
    function median(name, column,    n, i, j, list, t) {
        n = count[name]
        for (i = 1; i <= n; i++) list[i] = value[name, i, column]
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (list[j] < list[i]) { t = list[i]; list[i] = list[j]; list[j] = t }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    { if (!($1 in count)) order[++names] = $1
      count[$1]++
      for (c = 2; c <= 3; c++) value[$1, count[$1], c] = $c + 0 }
    END {
        for (i = 1; i <= names; i++) {
            base = median(order[1], 2)
            printf "| %s | %.2f | %.2f | %.1f |\n", order[i], median(order[i], 2), median(order[i], 2) / base, median(order[i], 3)
        }
    }' "$RAW"
