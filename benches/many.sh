#!/usr/bin/env bash
# Many policies on one machine: how long `lifeboat serve` takes to know them all, what it needs when nothing is due, and how long a page of `lifeboat status` takes; with the
# catalog in a file and on a server. A table in Markdown. POLICIES (10000), RUNS (11), SECONDS_IDLE (60), PORT (19464), BIN, PGBIN, DIR as in ground.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
NAME_OF_RUN=many
# shellcheck source=benches/ground.sh
. "$here/benches/ground.sh"
RUNS=${RUNS_OF_STATUS:-11}
POLICIES=${POLICIES:-10000}
SECONDS_IDLE=${SECONDS_IDLE:-60}
PORT=${PORT:-19464}
command -v curl >/dev/null || die "curl is needed"
and_end() { [ -n "${service:-}" ] && kill -9 "$service" 2>/dev/null; }
[ -x /usr/bin/time ] || die "GNU time is needed: apt-get install time"

say "a cluster, a backup of each kind and a drill, PostgreSQL $MAJOR"
as_user "$PGBIN/initdb" -U bench -k -N -D "$PGDATA" >/dev/null 2>&1
printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$W'" | as_user tee -a "$PGDATA/postgresql.conf" >/dev/null
as_user "$PGBIN/pg_ctl" -D "$PGDATA" -l "$W/log" -w start >/dev/null
sql -d postgres -c 'create database bench' -c 'create database catalog'
sql -c 'create table one as select n from generate_series(1, 1000) n'
install -d -o "$USER_NAME" "$W/home"
lifeboat() { as_user "$W/lifeboat" -c "$W/home/${CONFIG:-lifeboat}.toml" "$@"; }
as_user "$W/lifeboat" init "postgresql://bench@/bench?host=$W" --policy orders --dir "$W/home" >/dev/null
lifeboat backup orders >"$W/out" 2>&1 || { cat "$W/out" >&2; die "the backup broke"; }
lifeboat drill orders --drill restore-latest >"$W/out" 2>&1 || { cat "$W/out" >&2; die "the drill did not pass"; }
lifeboat catalog export "$W/home/one.jsonl" >/dev/null 2>&1

say "$POLICIES policies of them"
as_user python3 - "$W/home" "$POLICIES" "$PORT" <<'PYTHON'
import hashlib, json, re, sys
home, count, port = sys.argv[1], int(sys.argv[2]), sys.argv[3]
lines = open(f"{home}/one.jsonl").read().splitlines()
rows = lines[1:-1]
events = [row for row in rows if row.startswith('{"event"')]
reads = [row for row in rows if row.startswith('{"read"')]
uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
digest, rows_written = hashlib.sha256(), 0
with open(f"{home}/many.jsonl", "wb") as out:
    def put(line):
        data = line.encode() + b"\n"
        digest.update(data)
        out.write(data)
    put(lines[0])
    names = [f"p{n:05}" for n in range(count)]
    for kind in (events, reads):
        for n, name in enumerate(names):
            for row in kind:
                row = row.replace('"policy":"orders"', f'"policy":"{name}"').replace('orders/', f'{name}/')
                put(uuid.sub(lambda found: found[0][:-8] + f"{n:08x}", row))
                rows_written += 1
    put('{"token":{"given":0}}')
    out.write(json.dumps({"end": {"rows": rows_written + 1, "sha256": digest.hexdigest()}}, separators=(",", ":")).encode() + b"\n")
policy = open(f"{home}/policies/orders.toml").read()
zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]
import os
os.remove(f"{home}/policies/orders.toml")
for n, name in enumerate(names):
    # Due once a year, and not now: nothing may begin while idleness is measured.
    text = re.sub(r'^name = "orders"', f'name = "{name}"', policy, count=1, flags=re.M)
    text = re.sub(r'schedule = "[^"]*"', f'schedule = "{n % 60} {n % 24} {1 + n % 28} {(1, 6)[n % 2]} *"', text)
    text = re.sub(r'timezone = "[^"]*"', f'timezone = "{zones[n % 5]}"', text)
    open(f"{home}/policies/{name}.toml", "w").write(text)
config = open(f"{home}/lifeboat.toml").read()
serve = f'\n[serve]\nworkers = 0\nlisten = "127.0.0.1:{port}"\n'
file = re.sub(r'path = "lifeboat.db"', 'path = "many.db"', config) + serve
socket = os.environ["PGHOST"]
server = re.sub(r'path = "lifeboat.db"', f'url = "postgresql://bench@/catalog?host={socket}"', config) + serve
assert file != config + serve and server != config + serve
open(f"{home}/file.toml", "w").write(file)
open(f"{home}/server.toml", "w").write(server)
PYTHON

echo "$POLICIES policies, $(($(wc -l <"$W/home/many.jsonl") - 3)) rows in the catalog, PostgreSQL $MAJOR, $(nproc) cores."
echo
echo "| catalog | what is due, ms | first look, s | memory, MiB | its peak, MiB | of a core when idle, % | a scrape, s | a page of \`status\`, s | all of \`status\`, s |"
echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
# Exit codes above 2 are verdicts.
timed() {
    as_user /usr/bin/time -o "$W/time" -f %e "$W/lifeboat" -c "$W/home/$CONFIG.toml" "$@" >"$W/out" 2>&1 || [ $? -gt 2 ] || { cat "$W/out" >&2; die "$* broke"; }
    tail -n 1 "$W/time"
}
median() { sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
for CONFIG in file server; do
    export CONFIG
    [ $CONFIG = file ] || lifeboat catalog migrate >/dev/null
    say "the catalog is taken in ($CONFIG)"
    lifeboat catalog import "$W/home/many.jsonl" >/dev/null 2>&1 || die "the catalog was not taken in"
    [ $CONFIG = file ] || sql -d catalog -c 'analyze'
    say "status ($CONFIG)"
    page=$(for n in $(seq "$RUNS"); do timed status --page $((n * 3)); done | median)
    all=$(timed status)
    say "serve ($CONFIG)"
    RUST_LOG=warn,lifeboat::engine::serve=debug NO_COLOR=1 setpriv --reuid="$USER_NAME" --regid="$USER_NAME" --init-groups "$W/lifeboat" -c "$W/home/$CONFIG.toml" serve >"$W/serve.log" 2>&1 &
    service=$!
    for _ in $(seq 600); do
        curl -fs -m 60 "127.0.0.1:$PORT/metrics" >"$W/metrics" && grep -q "^lifeboat_policies{seen=\"true\"} $POLICIES" "$W/metrics" && break
        kill -0 $service 2>/dev/null || { cat "$W/serve.log" >&2; die "the service went away"; }
        sleep 0.5
    done
    first=$(awk '$1 == "lifeboat_gather_duration_seconds" { print $2 }' "$W/metrics")
    sleep 20
    ticks() { awk '{ print $14 + $15 }' /proc/$service/stat; }
    before=$(ticks)
    sleep "$SECONDS_IDLE"
    idle=$(awk -v a="$before" -v b="$(ticks)" -v hz="$(getconf CLK_TCK)" -v s="$SECONDS_IDLE" 'BEGIN { printf "%.1f", (b - a) / hz / s * 100 }')
    memory=$(awk '/^VmRSS/ { print int($2 / 1024) }' /proc/$service/status)
    peak=$(awk '/^VmHWM/ { print int($2 / 1024) }' /proc/$service/status)
    scrape=$(for _ in 1 2 3 4 5; do sleep 3; curl -fs -o /dev/null -w '%{time_total}\n' "127.0.0.1:$PORT/metrics"; done | median)
    # The worst of all looks: in the first one every schedule is planned ahead.
    due=$(sed -n 's/.*took_microseconds=\([0-9]*\).*/\1/p' "$W/serve.log" | sort -n | tail -n 1 | awk '{ printf "%.1f", $1 / 1000 }')
    kill -TERM $service
    wait $service || true
    service=
    echo "| $CONFIG | $due | $first | $memory | $peak | $idle | $scrape | $page | $all |"
done
