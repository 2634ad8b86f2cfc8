#!/usr/bin/env bash
# What an incremental base backup of PostgreSQL 17 or newer would save, and what it costs on the day of the restore: PostgreSQL's own programs, three
# times. Wants the trees of `make majors`, psql and pgbench. SCALE (40), MAJOR (18), DIR (a folder with room).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
bin=${LIFEBOAT_POSTGRES_MAJORS:-$here/target/postgres-majors}/${MAJOR:-18}/bin
pgbench=$(command -v pgbench || find /usr/lib/postgresql -name pgbench | sort | tail -1)
[ -x "$bin/pg_combinebackup" ] || { echo "error: $bin has no pg_combinebackup" >&2; echo "hint: make majors" >&2; exit 1; }

place=$(mktemp -d "${DIR:-/tmp}/incremental-XXXXXX")
chmod 755 "$place"
run() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$place"; fi
ended() { run "$bin/pg_ctl" -D "$place/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$place"; }
trap ended EXIT

run "$bin/initdb" -U postgres -D "$place/data" -N -k >/dev/null
printf '%s\n' 'summarize_wal = on' "listen_addresses = ''" "unix_socket_directories = '$place'" 'max_wal_size = 4GB' 'shared_buffers = 512MB' |
    run tee -a "$place/data/postgresql.conf" >/dev/null
run "$bin/pg_ctl" -D "$place/data" -l "$place/log" -w start >/dev/null
run "$pgbench" -h "$place" -U postgres -i -q -s "${SCALE:-40}" postgres >/dev/null 2>&1
run psql -X -q -h "$place" -U postgres -c checkpoint postgres

took() { local began; began=$(date +%s%N); "$@" >/dev/null 2>&1; awk -v ns=$(($(date +%s%N) - began)) 'BEGIN { printf "%.2f", ns / 1e9 }'; }
size() { du -sm "$1" | cut -f 1; }
base() { run "$bin/pg_basebackup" -h "$place" -U postgres -c fast -X fetch "$@"; }

echo '| full, s | MB | incremental, s | MB | combined, s | copied, s |'
echo '|---:|---:|---:|---:|---:|---:|'
for _ in 1 2 3; do
    rm -rf "$place/full" "$place/part" "$place/whole" "$place/copy"
    full=$(took base -D "$place/full")
    run "$pgbench" -h "$place" -U postgres -n -t 2000 -c 2 postgres >/dev/null 2>&1
    part=$(took base -D "$place/part" --incremental="$place/full/backup_manifest")
    whole=$(took run "$bin/pg_combinebackup" "$place/full" "$place/part" -o "$place/whole")
    copy=$(took run cp -r "$place/full" "$place/copy")
    echo "| $full | $(size "$place/full") | $part | $(size "$place/part") | $whole | $copy |"
done
