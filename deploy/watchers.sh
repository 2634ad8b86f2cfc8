#!/usr/bin/env bash
# Installs what the tests of watching talk to, from Debian: Prometheus with promtool, Alertmanager with amtool, an SMTP server, yamllint. For tests
# only: those that miss one of these say that they are skipped. Nothing is started. Safe to run again and again.
set -euo pipefail

missing=()
have() { command -v "$1" >/dev/null; }
have promtool || missing+=(prometheus)
have amtool || missing+=(prometheus-alertmanager)
have yamllint || missing+=(yamllint)
/usr/bin/python3 -c 'import aiosmtpd' 2>/dev/null || missing+=(python3-aiosmtpd)
[ ${#missing[@]} -gt 0 ] || exit 0

command="apt-get install -y --no-install-recommends ${missing[*]}"
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
# Debian would start them as services: nobody asked for that.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
    made=yes
fi
trap '[ -z "$made" ] || "${sudo[@]}" rm -f "$policy"' EXIT
"${sudo[@]}" apt-get update -qq
# shellcheck disable=SC2086 # the words of the command are wanted one by one
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive $command -qq
