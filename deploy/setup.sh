#!/usr/bin/env bash
# Installs what lifeboat needs on Debian or Ubuntu, or says exactly what to install. Safe to run again and again.
set -euo pipefail

missing=()
find_initdb() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null; }
have() { command -v "$1" >/dev/null; }

find_initdb || missing+=(postgresql)
have age || missing+=(age)
have zstd || missing+=(zstd)
have cc || missing+=(build-essential)
have unshare || missing+=(util-linux)
have openssl || missing+=(openssl)

if ! have cargo; then
    echo "error: Rust is missing" >&2
    echo "hint: install it from https://rustup.rs (1.88 or newer), then run this again" >&2
    exit 1
fi
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
command="apt-get install -y --no-install-recommends ${missing[*]}"
if ! have apt-get; then
    echo "error: these are missing: ${missing[*]}" >&2
    echo "hint: install them with this system's package manager" >&2
    exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
    if have sudo && sudo -n true 2>/dev/null; then
        sudo=(sudo)
    else
        echo "error: these are missing, and this user may not install them: ${missing[*]}" >&2
        echo "hint: sudo $command" >&2
        exit 1
    fi
fi
echo "installing: ${missing[*]}"
# Debian would make and start a server of its own on port 5432: nobody asked for that.
if [[ " ${missing[*]} " == *" postgresql "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${sudo[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
"${sudo[@]}" apt-get update -qq
# shellcheck disable=SC2086 # the words of the command are wanted one by one
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive $command -qq -o Dpkg::Options::=--force-confold
