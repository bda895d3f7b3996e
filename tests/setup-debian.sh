#!/bin/sh
# Bring the system programs that some tests start, beside Python's own packages.
#
# As root on Debian or Ubuntu what is missing is installed; elsewhere it is named, and the tests that
# need it say that they were skipped. With CI=true nothing may be missing.
set -eu

# command        Debian package
needed='
chromium         chromium
curl             curl
systemd-analyze  systemd
sudo             sudo
'

say() { printf '%s\n' "$*" >&2; }

missing=
packages=
while read -r command package; do
    [ -n "$command" ] || continue
    if ! command -v "$command" >/dev/null 2>&1; then
        missing="$missing $command"
        packages="$packages $package"
    fi
done <<EOT
$needed
EOT

[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing for the tests:$packages"
    log=$(mktemp)
    # shellcheck disable=SC2086
    if apt-get update >"$log" 2>&1 &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages >>"$log" 2>&1
    then rm -f "$log"; exit 0; fi
    cat "$log" >&2
    rm -f "$log"
fi

say "not installed, so the tests that need them are skipped:$missing (Debian, Ubuntu: apt-get install$packages)"
[ "${CI:-}" != true ] || exit 1
