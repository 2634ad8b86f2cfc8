# shellcheck shell=bash disable=SC2034
# What the benchmarks share: sourced by them. They set NAME_OF_RUN before, and may define `and_end`, which is called before all is removed.
# BIN, ONLY, PGBIN, RUNS, DIR: see there.
RUNS=${RUNS:-5}
BIN=${BIN:-target/release/lifeboat}
ONLY=${ONLY:-.}
PGBIN=${PGBIN:-$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)}
LEVEL=3
JOBS=2
NAME=bench

say() { echo "$(date +%T) $*" >&2; }
die() { echo "$(basename "$0"): $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1 || { say "SKIPPED: $1 is not installed here"; return 1; }; }

[ -x "$BIN" ] || die "there is no $BIN: make release"
[ -x "$PGBIN/postgres" ] || die "no PostgreSQL found: name the folder of its programs with PGBIN"
command -v setpriv >/dev/null || die "setpriv is needed"
MAJOR=$("$PGBIN/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')

# Everything runs as one unprivileged user: PostgreSQL refuses root, and the tools shall have the same rights.
USER_NAME=$(id -un)
if [ "$(id -u)" = 0 ]; then USER_NAME=postgres; fi
as_user() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$USER_NAME" --regid="$USER_NAME" --init-groups env HOME="$W" "$@"
    else
        env HOME="$W" "$@"
    fi
}

W=$(mktemp -d "${DIR:-/var/tmp}/lifeboat-$NAME_OF_RUN-XXXXXX")
PGDATA=$W/source
BACK=$W/back
RAW=$W/raw.tsv
and_end() { :; }
ended() {
    set +e
    and_end
    for data in "$BACK" "$PGDATA"; do
        [ -f "$data/postmaster.pid" ] && as_user "$PGBIN/pg_ctl" -D "$data" -m immediate stop >/dev/null 2>&1
    done
    rm -rf "$W"
}
trap ended EXIT
trap 'exit 130' INT TERM
chmod 755 "$W"
if [ "$(id -u)" = 0 ]; then chown "$USER_NAME": "$W"; fi
install -m 755 "$BIN" "$W/lifeboat"
export LC_ALL=C PGUSER=bench PGHOST=$W PGPORT=5432 PGDATABASE=bench

sql() { as_user "$PGBIN/psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }
