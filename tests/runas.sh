#!/bin/sh
# Make the two accounts of `[drm] run_as` and the sudo rule between them, for the tests. To be run as root.
#
#   tests/runas.sh start             make the accounts, a copy of this tree for them, and the rule
#   tests/runas.sh stop              take copy and rule away
#   tests/runas.sh as COMMAND…       run a command under the daemon's account
#   tests/runas.sh as-job COMMAND…   run a command under the jobs' account
#
# $RUNAS_PART names the copy, its temporary folders and its rule, so that two can be used at a time. The Python
# environment is that of tests/gridengine.sh.
set -eu

ACCOUNT=${RUNAS_ACCOUNT:-drmserve}
JOBS=${RUNAS_JOBS:-drmjobs}
HOME_FOLDER=/var/lib/$ACCOUNT
VENV=/var/lib/${DRM_ACCOUNT:-drmtest}/venv
PART=${RUNAS_PART:-local}
PLACE=$HOME_FOLDER/$PART
COPY=$PLACE/tree
RULE=/etc/sudoers.d/drmaaticd-tests-$PART
TREE=$(cd "$(dirname "$0")/.." && pwd)
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# make NAME NUMBER HOME
make() {
    getent group "$1" >/dev/null || groupadd --gid "$2" "$1"
    getent passwd "$1" >/dev/null || useradd --uid "$2" --gid "$1" --home-dir "$3" --shell /bin/sh "$1"
}

accounts() {
    command -v sudo >/dev/null || sh "$TREE/tests/setup-debian.sh"
    make "$ACCOUNT" 4712 "$HOME_FOLDER"
    make "$JOBS" 4713 "/var/lib/$JOBS"
    id -nG "$ACCOUNT" | tr ' ' '\n' | grep -qx "$JOBS" || usermod -aG "$JOBS" "$ACCOUNT"
    mkdir -p "$HOME_FOLDER" "/var/lib/$JOBS"
    chown "$ACCOUNT:$ACCOUNT" "$HOME_FOLDER"
    chown "$JOBS:$JOBS" "/var/lib/$JOBS"
    chmod 711 "$HOME_FOLDER"
    chmod 755 "/var/lib/$JOBS"
}

# The accounts may not be able to enter this tree's folders. What jobs could write to is refused: it is root's.
copy() {
    # What jobs made, the daemon's account cannot remove by itself.
    rm -rf "$PLACE"
    mkdir -p "$COPY"
    chown "$ACCOUNT:$ACCOUNT" "$PLACE"
    cp -R "$TREE/drmaaticd" "$TREE/tests" "$TREE/scripts.d" "$TREE/systemd" "$TREE/docs" "$TREE/pyproject.toml" "$COPY"
    find "$COPY" -name __pycache__ -prune -exec rm -rf {} +
    # Neither account can write there: every daemon and every job's helper would compile it anew.
    "$VENV/bin/python" -m compileall -q "$COPY"
    chown -R root:root "$COPY"
    chmod -R u+rwX,go+rX,go-w "$COPY"
}

rule() {
    printf '%s\n' "$ACCOUNT ALL=($JOBS) NOPASSWD: $VENV/bin/python -I $COPY/drmaaticd/jobhelper.py" >"$RULE.new"
    chmod 440 "$RULE.new"
    visudo -cqf "$RULE.new" || fail "sudo does not take the rule"
    mv "$RULE.new" "$RULE"
}

run_as() {  # run_as ACCOUNT HOME COMMAND…
    account=$1; home=$2; shift 2
    cd "$home"
    exec runuser -u "$account" -- env -i PATH="$PATH" HOME="$home" USER="$account" LOGNAME="$account" \
        LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 DRM_CLUSTER="${DRM_CLUSTER:-runas}" RUNAS_JOBS="$JOBS" \
        ${DRM_PARTITION:+DRM_PARTITION="$DRM_PARTITION"} ${CI:+CI="$CI"} "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
[ "$(id -u)" = 0 ] || fail "to be run as root"
case $command in
    start)
        sh "$TREE/tests/gridengine.sh" account
        flock -o /run/drmaaticd-tests.lock sh "$0" accounts
        copy
        rule
        ;;
    accounts) accounts ;;
    stop) rm -f "$RULE"; rm -rf "$PLACE" ;;
    as) [ $# -gt 0 ] || fail "as needs a command"; run_as "$ACCOUNT" "$HOME_FOLDER" "$@" ;;
    as-job) [ $# -gt 0 ] || fail "as-job needs a command"; run_as "$JOBS" "/var/lib/$JOBS" "$@" ;;
    *) sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
