#!/usr/bin/env bash
# A physical backup into a bucket and into a folder, and back from both, on one cluster: wall seconds, processor seconds of lifeboat, peak memory; medians. A table in
# Markdown. The bucket is one of SeaweedFS on loopback (deploy/s3-servers.sh), which has the same two cores. SCALE (100), RUNS (5), BIN, PGBIN, DIR as in ground.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
NAME_OF_RUN=s3
# shellcheck source=benches/ground.sh
. "$here/benches/ground.sh"
SCALE=${SCALE:-100}
weed=${LIFEBOAT_S3_SERVERS:-$here/target/s3-servers}/weed
[ -x "$weed" ] || die "there is no $weed: deploy/s3-servers.sh"
[ -x /usr/bin/time ] || die "GNU time is needed: apt-get install time"
and_end() { [ -n "${server:-}" ] && { pkill -9 -P "$server" 2>/dev/null; kill -9 "$server" 2>/dev/null; }; }

say "a cluster of scale $SCALE, PostgreSQL $MAJOR"
as_user "$PGBIN/initdb" -U bench -k -N -D "$PGDATA" >/dev/null
printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$W'" 'max_wal_size = 8GB' 'shared_buffers = 512MB' | as_user tee -a "$PGDATA/postgresql.conf" >/dev/null
as_user "$PGBIN/pg_ctl" -D "$PGDATA" -l "$W/log" -w start >/dev/null
sql -d postgres -c 'create database bench'
as_user "$PGBIN/pgbench" -i -q -s "$SCALE" bench >/dev/null 2>&1
# Half of it does not compress.
sql -c "create table noise as select i, encode(sha512(i::text::bytea), 'base64') || encode(sha512((-i)::text::bytea), 'base64') as text from generate_series(1, $SCALE * 10000) i" -c checkpoint

install -d -o "$USER_NAME" "$W/weed" "$W/home"
cat >"$W/weed/s3.json" <<'JSON'
{"identities":[{"name":"admin","credentials":[{"accessKey":"AKIDBENCH","secretKey":"SECRETBENCH"}],"actions":["Admin","Read","Write","List","Tagging"]}]}
JSON
export AWS_ACCESS_KEY_ID=AKIDBENCH AWS_SECRET_ACCESS_KEY=SECRETBENCH AWS_REGION=us-east-1
as_user env TMPDIR="$W/weed" WEED_MASTER_VOLUME_GROWTH_COPY_1=1 "$weed" server -dir="$W/weed" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
    -master.port=19333 -volume.port=19480 -filer -filer.port=19488 -s3 -s3.port=18333 -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$W/weed/s3.json" \
    -volume.max=500 -master.volumeSizeLimitMB=512 -master.volumePreallocate=false >"$W/weed/log" 2>&1 &
server=$!
for _ in $(seq 200); do curl -fs 127.0.0.1:18333/healthz >/dev/null && break; sleep 0.1; done
python3 - <<'PYTHON'
import urllib.request, hashlib, hmac, datetime, os
# One signed request: make the bucket.
key, secret, host, now = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], "127.0.0.1:18333", datetime.datetime.now(datetime.timezone.utc)
stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
empty = hashlib.sha256(b"").hexdigest()
request = f"PUT\n/bench\n\nhost:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{stamp}\n\nhost;x-amz-content-sha256;x-amz-date\n{empty}"
scope = f"{day}/us-east-1/s3/aws4_request"
sign = lambda k, m: hmac.new(k, m.encode(), hashlib.sha256).digest()
k = sign(sign(sign(sign(b"AWS4" + secret.encode(), day), "us-east-1"), "s3"), "aws4_request")
signature = hmac.new(k, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}".encode(), hashlib.sha256).hexdigest()
urllib.request.urlopen(urllib.request.Request(f"http://{host}/bench", method="PUT", headers={"x-amz-content-sha256": empty, "x-amz-date": stamp,
    "Authorization": f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}"}))
PYTHON

as_user "$W/lifeboat" init "postgresql://bench@/bench?host=$W" --policy orders --dir "$W/home" >/dev/null
bucket=$'kind = "s3"\nbucket = "bench"\nendpoint = "http://127.0.0.1:18333"\nregion = "us-east-1"'
sed -i -E '/^kind = "logical"/d' "$W/home/policies/orders.toml"
for kind in folder bucket; do cp "$W/home/lifeboat.toml" "$W/home/$kind.toml"; done
python3 - "$W/home/bucket.toml" "$bucket" <<'PYTHON'
import re, sys
text = open(sys.argv[1]).read()
text = re.sub(r'(\[stores\.primary\]\n)(?:[a-z_]+ = .*\n)+', lambda found: found[1] + sys.argv[2] + "\n", text)
open(sys.argv[1], "w").write(text.replace("lifeboat.db", "bucket.db"))
PYTHON
chown -R "$USER_NAME": "$W/home"

measure() { # what, kind, command…
    local what=$1 kind=$2
    shift 2
    as_user /usr/bin/time -o "$W/time" -f '%e %U %S %M' "$@" >"$W/out" 2>&1 || { cat "$W/out" >&2; die "$what $kind failed"; }
    read -r wall user system peak <"$W/time"
    echo "$what $kind $wall $(awk -v a="$user" -v b="$system" 'BEGIN { print a + b }') $peak" >>"$RAW"
    say "$what, $kind: $wall s, $((peak / 1024)) MiB"
}
one() { # kind
    local config=$W/home/$1.toml
    measure backup "$1" "$W/lifeboat" -c "$config" backup orders --job physical
    measure verify "$1" "$W/lifeboat" -c "$config" verify orders
    measure restore "$1" "$W/lifeboat" -c "$config" restore orders --to "$BACK"
    rm -rf "$BACK"
}
for round in $(seq "$RUNS"); do
    say "round $round of $RUNS"
    # Each has the other's caches before it once.
    if [ $((round % 2)) = 1 ]; then one folder; one bucket; else one bucket; one folder; fi
    # The next round verifies its own backup alone.
    rm -rf "$W/home/store/orders"
    as_user env TMPDIR="$W/weed" "$weed" shell -master=127.0.0.1:19333 <<<'fs.rm -r /buckets/bench/orders' >/dev/null 2>&1 || die "the bucket could not be emptied"
    rm -f "$W"/home/*.db*
done
echo "$(du -sm "$PGDATA/base" | cut -f 1) MB of tables, PostgreSQL $MAJOR, $(nproc) cores, medians of $RUNS rounds, warm cache."
echo
python3 - "$RAW" <<'PYTHON'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
median = lambda what, kind, at: statistics.median(float(row[at]) for row in rows if row[:2] == [what, kind])
print("| | folder, s | bucket, s | ratio | CPU of lifeboat, folder, s | CPU of lifeboat, bucket, s | peak, folder, MiB | peak, bucket, MiB |\n|---|---:|---:|---:|---:|---:|---:|---:|")
for what in ("backup", "verify", "restore"):
    f, b = median(what, "folder", 2), median(what, "bucket", 2)
    cpu = [f"{median(what, kind, 3):.2f}" for kind in ("folder", "bucket")]
    peak = [f"{max(float(row[4]) for row in rows if row[:2] == [what, kind]) / 1024:.0f}" for kind in ("folder", "bucket")]
    print(f"| {what} | {f:.2f} | {b:.2f} | {b / f:.2f} | {cpu[0]} | {cpu[1]} | {peak[0]} | {peak[1]} |")
PYTHON
