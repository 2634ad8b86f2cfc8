#!/usr/bin/env bash
# Backups and restores of one cluster by lifeboat and by other tools, all in one run, interleaved: only ratios of one run count.
# Writes a table in Markdown to standard output; what it does, to standard error. A tool that is not installed is said and left out.
#
#   SCALE=100 RUNS=5 benches/peers.sh > table.md
#
# SCALE  size of the cluster: 100 is about 2 GB          RUNS   rounds; the table has medians
# BIN    the lifeboat to measure (a release build)       DIR    where it all goes: 8 times the cluster, on a real disk
# PGBIN  PostgreSQL's programs                           ONLY   a regular expression over the names of measurements
set -euo pipefail

SCALE=${SCALE:-100}
NAME_OF_RUN=bench
. "$(dirname "$0")/ground.sh"
for tool in /usr/bin/time jq; do command -v "$tool" >/dev/null || die "$tool is needed"; done
and_end() {
    [ -f "$W/barman.conf" ] && as_user barman -c "$W/barman.conf" receive-wal --stop "$NAME" >/dev/null 2>&1
}

# --- the source ---------------------------------------------------------------------------------------------------------------
say "a cluster of scale $SCALE, PostgreSQL $MAJOR, data checksums on"
as_user "$PGBIN/initdb" -D "$PGDATA" -k -U bench --auth=trust --encoding=UTF8 --locale=C --no-sync >/dev/null
cat >> "$PGDATA/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$W'
shared_buffers = '256MB'
max_wal_size = '4GB'
wal_level = replica
archive_mode = on
archive_command = '/bin/true'
max_wal_senders = 10
CONF
as_user "$PGBIN/pg_ctl" -D "$PGDATA" -w -l "$W/source.log" start >/dev/null
as_user "$PGBIN/createdb" bench
as_user "$PGBIN/pgbench" -i -q -s "$SCALE" bench >/dev/null 2>&1
sql -c "create table docs as select n, repeat(md5(n::text), 4) as words, decode(md5(random()::text) || md5(random()::text), 'hex') as noise
        from generate_series(1, $((SCALE * 10000))) n" -c "vacuum analyze docs" -c checkpoint
SIZE=$(du -sm "$PGDATA/base" | cut -f1)
say "its files have $SIZE MiB"

# --- measuring ----------------------------------------------------------------------------------------------------------------
busy_ticks() { awk '/^cpu /{print $2 + $3 + $4 + $7 + $8}' /proc/stat; }
# measure NAME STORED-FOLDER COMMAND…: one line of NAME, wall, CPU of its processes, CPU of the whole machine, peak KiB, stored MiB.
measure() {
    local name=$1 stored=$2 before after
    shift 2
    [[ $name =~ $ONLY ]] || return 0
    before=$(busy_ticks)
    if ! as_user /usr/bin/time -f '%e %U %S %M' -o "$W/time" "$@" >"$W/out" 2>"$W/err"; then
        tail -n 20 "$W/err" "$W/out" >&2;
        die "$name failed"
    fi
    after=$(busy_ticks)
    local wall user system peak mib=0
    read -r wall user system peak < <(tail -n 1 "$W/time")
    if [ -n "$stored" ]; then mib=$(du -sm "$stored" | cut -f1); fi
    awk -v n="$name" -v w="$wall" -v u="$user" -v s="$system" -v p="$peak" -v m="$mib" -v t="$((after - before))" \
        'BEGIN{printf "%s\t%.2f\t%.2f\t%.2f\t%d\t%d\n", n, w, u + s, t / 100, p / 1024, m}' >> "$RAW"
    say "$(tail -n 1 "$RAW")"
}
wanted() { [[ $1 =~ $ONLY ]]; }
settle() { sql -c checkpoint; sync; cat "$PGDATA"/base/*/* > /dev/null; }
clear_back() {
    [ -f "$BACK/postmaster.pid" ] && as_user "$PGBIN/pg_ctl" -D "$BACK" -m immediate stop >/dev/null
    rm -rf "$BACK"
}
# Starts what was restored and waits until it can be written: appended to a restore, this is "ready".
cat > "$W/ready.sh" <<READY
#!/bin/sh
set -e
chmod 700 '$BACK'
'$PGBIN/pg_ctl' -D '$BACK' -w -t 600 -l '$W/back.log' -o "-c port=5433 -c archive_mode=off -c allow_in_place_tablespaces=on" start >/dev/null
until [ "\$('$PGBIN/psql' -XAt -p 5433 -c 'select pg_is_in_recovery()' 2>/dev/null)" = f ]; do sleep 0.02; done
READY
chmod 755 "$W/ready.sh"
then_ready() { echo "set -euo pipefail; $1; $W/ready.sh"; }

# --- lifeboat: one folder for each way ----------------------------------------------------------------------------------------
lifeboat_home() {
    local home=$W/lb-$1 policy
    policy=$home/policies/$NAME.toml
    as_user "$W/lifeboat" init "postgresql://bench@/bench?host=$W" --policy "$NAME" --dir "$home" >/dev/null 2>&1
    sed -i "s|^method = \"physical\"|&\nread = \"$2\"|; s|^tier = .*||" "$policy"
    if [ "$3" = sampled ]; then
        sed -i 's|^\[encryption\]|[content]\nsample_over = "1 MiB"\nsample_percent = 1\n\n&|' "$policy"
    fi
    sed -i "s|^# dir = .*|dir = \"$home/scratch\"|; s|^# parallel = .*|parallel = $JOBS|" "$home/lifeboat.toml"
    # A machine without unshare measures too.
    sed -i 's|^isolation = .*||' "$home/drills/"*.toml
}
lifeboat_backup() {
    local home=$W/lb-$1
    rm -rf "$home/store/$NAME"
    measure "backup: lifeboat $1" "$home/store" "$W/lifeboat" -c "$home/lifeboat.toml" backup "$NAME" --job "$2"
}
lifeboat_drill() {
    local home=$W/lb-$1
    wanted "drill: lifeboat $1" || return 0
    measure "drill: lifeboat $1" "" "$W/lifeboat" -c "$home/lifeboat.toml" --output json drill "$NAME" --drill "$2"
    # The part of it that brings the server back: by its own transcript.
    jq -r --arg n "restore, ready: lifeboat $1, in a drill" \
        '[.steps[] | select(.phase == "restore" or .phase == "start" or .phase == "ready") | .took] | add | [$n, ., 0, 0, 0, 0] | @tsv' \
        "$W/out" >> "$RAW"
    say "$(tail -n 1 "$RAW")"
}
for way in "local local full" "local-sampled local sampled" "stream stream full" "stream-sampled stream sampled" "logical auto full"; do
    # shellcheck disable=SC2086 # three words
    lifeboat_home $way
done
KEY=$W/lb-local/keys/working.agekey
RECIPIENT=$(sed -n 's/^# public key: //p' "$KEY")
if [ -z "$RECIPIENT" ]; then RECIPIENT=$(grep -o 'age1[a-z0-9]*' "$W/lb-local/policies/$NAME.toml" | head -n 1); fi

# --- pgBackRest ---------------------------------------------------------------------------------------------------------------
PGBACKREST=
if have pgbackrest; then
    PGBACKREST="pgbackrest --config=$W/pgbackrest.conf --stanza=$NAME"
    for dir in pgbackrest pgbackrest-log; do as_user mkdir "$W/$dir"; done
    cat > "$W/pgbackrest.conf" <<CONF
[global]
repo1-path=$W/pgbackrest
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=a-long-enough-passphrase-for-a-bench
repo1-bundle=y
repo1-retention-full=9
compress-type=zst
compress-level=$LEVEL
process-max=$JOBS
start-fast=y
log-level-console=warn
log-level-file=off
log-path=$W/pgbackrest-log
lock-path=$W/pgbackrest-log
spool-path=$W/pgbackrest-log
[$NAME]
pg1-path=$PGDATA
pg1-socket-path=$W
pg1-user=bench
pg1-database=bench
CONF
fi
archive_by() {
    sql -c "alter system set archive_command = '$1'" -c "select pg_reload_conf()" >/dev/null
    sleep 0.5
}
pgbackrest_backup() {
    [ -n "$PGBACKREST" ] && wanted "backup: pgBackRest" || return 0
    rm -rf "${W:?}/pgbackrest"
    as_user mkdir "$W/pgbackrest"
    # shellcheck disable=SC2086 # it is a command with arguments
    as_user $PGBACKREST stanza-create
    archive_by "$PGBACKREST archive-push %p"
    # shellcheck disable=SC2086
    measure "backup: pgBackRest" "$W/pgbackrest" $PGBACKREST --type=full backup
    archive_by /bin/true
}
pgbackrest_restore() {
    [ -n "$PGBACKREST" ] && [ -d "$W/pgbackrest/backup/$NAME" ] || return 0
    local restore="mkdir -m 700 $BACK && $PGBACKREST --pg1-path=$BACK --type=immediate --target-action=promote restore"
    clear_back
    measure "restore, ready: pgBackRest" "" bash -c "$(then_ready "$restore")"
    clear_back
    measure "drill: pgBackRest restore, then pg_amcheck" "" bash -c "$(then_ready "$restore")
        $PGBIN/pg_amcheck -p 5433 --all --install-missing --parent-check --heapallindexed --jobs=$JOBS"
    clear_back
}

# --- Barman: no encryption ----------------------------------------------------------------------------------------------------
BARMAN=
if have barman && [ "$MAJOR" -ge 15 ]; then
    BARMAN="barman -c $W/barman.conf"
    as_user mkdir "$W/barman"
    cat > "$W/barman.conf" <<CONF
[barman]
barman_home = $W/barman
barman_user = $USER_NAME
log_file = $W/barman.log
log_level = WARNING
[$NAME]
description = bench
conninfo = host=$W user=bench dbname=bench
streaming_conninfo = host=$W user=bench dbname=bench
backup_method = postgres
streaming_archiver = on
slot_name = barman
create_slot = auto
immediate_checkpoint = true
path_prefix = $PGBIN
backup_compression = zstd
backup_compression_level = $LEVEL
backup_compression_format = tar
CONF
    # shellcheck disable=SC2086
    if as_user $BARMAN cron >/dev/null 2>&1 && sleep 3 && as_user $BARMAN switch-wal --force --archive "$NAME" >/dev/null 2>&1; then
        say "barman receives the log"
    else
        say "SKIPPED: barman could not be set up: $(tail -n 3 "$W/barman.log" 2>/dev/null)"
        BARMAN=
    fi
fi
barman_backup() {
    [ -n "$BARMAN" ] && wanted "backup: Barman" || return 0
    rm -rf "$W/barman/$NAME/base/"*
    # shellcheck disable=SC2086
    (measure "backup: Barman streaming, zstd, no encryption" "$W/barman/$NAME/base" $BARMAN backup "$NAME") || {
        say "SKIPPED from here on: Barman failed: $(tail -n 5 "$W/barman.log")"
        BARMAN=
    }
}

# --- pipes --------------------------------------------------------------------------------------------------------------------
pipes_backup() {
    have age && have zstd || return 0
    rm -rf "$W/pipe" "$W/dump-fd" "$W/dump-fc"
    as_user mkdir "$W/pipe" "$W/dump-fc"
    measure "backup: pg_basebackup, zstd -$LEVEL -T$JOBS, age" "$W/pipe" bash -o pipefail -c \
        "$PGBIN/pg_basebackup -D - -Ft -X fetch -c fast | zstd -q -$LEVEL -T$JOBS | age -r $RECIPIENT > $W/pipe/base && sync $W/pipe/base"
    measure "backup: pg_dump -Fd -j$JOBS" "$W/dump-fd" bash -c "$PGBIN/pg_dump -Fd -j $JOBS -f $W/dump-fd && sync $W/dump-fd/*"
    measure "backup: pg_dump -Fc, zstd -$LEVEL -T$JOBS, age" "$W/dump-fc" bash -o pipefail -c \
        "$PGBIN/pg_dump -Fc -Z0 | zstd -q -$LEVEL -T$JOBS | age -r $RECIPIENT > $W/dump-fc/dump && sync $W/dump-fc/dump"
}
pipes_restore() {
    clear_back
    if [ -f "$W/pipe/base" ]; then
        measure "restore, ready: age, zstd, tar" "" bash -c "$(then_ready \
            "mkdir -m 700 $BACK && age -d -i $KEY $W/pipe/base | zstd -dq | tar -x -C $BACK && sync -f $BACK")"
        clear_back
    fi
    if [ -d "$W/dump-fd" ]; then
        as_user "$PGBIN/createdb" again
        measure "restore, ready: pg_restore -j$JOBS" "" "$PGBIN/pg_restore" -j "$JOBS" -d again "$W/dump-fd"
        as_user "$PGBIN/dropdb" again
    fi
}

# --- rounds -------------------------------------------------------------------------------------------------------------------
for ((round = 1; round <= RUNS; round++)); do
    say "round $round of $RUNS"
    settle
    pgbackrest_backup
    lifeboat_backup local physical
    lifeboat_backup local-sampled physical
    barman_backup
    lifeboat_backup stream physical
    lifeboat_backup stream-sampled physical
    lifeboat_backup logical logical
    pipes_backup
    pgbackrest_restore
    if [ -d "$W/lb-local/store/$NAME" ]; then
        clear_back
        measure "restore, ready: lifeboat" "" bash -c "$(then_ready "$W/lifeboat -c $W/lb-local/lifeboat.toml restore $NAME --to $BACK")"
        clear_back
    fi
    for way in local local-sampled; do
        if [ -d "$W/lb-$way/store/$NAME" ]; then lifeboat_drill "$way" restore-latest; fi
    done
    if [ -d "$W/lb-logical/store/$NAME" ]; then lifeboat_drill logical restore-logical; fi
    pipes_restore
done

# --- the table: medians, and ratios to pgBackRest's measurement of the same kind ------------------------------------------------
echo "Scale $SCALE ($SIZE MiB of files), PostgreSQL $MAJOR, medians of $RUNS rounds, $(nproc) cores, $JOBS threads, warm cache."
echo
echo "| measurement | wall s | ratio to pgBackRest | CPU s, its processes | CPU s, whole machine | peak MiB | stored MiB |"
echo "|---|---:|---:|---:|---:|---:|---:|"
awk -F'\t' '
    function median(name, column,    n, i, j, list, t) {
        n = count[name]
        for (i = 1; i <= n; i++) list[i] = value[name, i, column]
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (list[j] < list[i]) { t = list[i]; list[i] = list[j]; list[j] = t }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    { if (!($1 in count)) order[++names] = $1
      count[$1]++
      for (c = 2; c <= 6; c++) value[$1, count[$1], c] = $c + 0 }
    END {
        for (i = 1; i <= names; i++) {
            name = order[i]; kind = name; sub(/:.*/, "", kind)
            if (name ~ /pgBackRest/) base[kind] = median(name, 2)
        }
        for (k = 1; k <= split("backup|restore, ready|drill", kinds, "|"); k++)
            for (i = 1; i <= names; i++) {
                name = order[i]; kind = name; sub(/:.*/, "", kind)
                if (kind != kinds[k]) continue
                ratio = base[kind] > 0 ? sprintf("%.2f", median(name, 2) / base[kind]) : "–"
                printf "| %s | %.2f | %s |", name, median(name, 2), ratio
                for (c = 3; c <= 6; c++) { v = median(name, c); printf " %s |", (v > 0 ? sprintf(c < 5 ? "%.1f" : "%d", v) : "–") }
                print ""
            }
    }' "$RAW"
