#!/bin/sh
# Make or bring up to date the virtual environment that the Makefile works in.
#
#   tools/venv.sh FOLDER [EXTRA]      EXTRA: test, dev; none: what the daemon needs to run
#
# Needs a Python >= 3.11 ($PYTHON names one) with its venv module. What pip did is kept in
# FOLDER/pip.log, and shown if it failed. Two calls at a time on one folder wait for each other.
set -eu

venv=${1:?usage: tools/venv.sh FOLDER [EXTRA]}
extra=${2:-}

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.11 or later that can be run"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or later was found; install one, or name it: make PYTHON=/path/to/python3"
}

# Debian and Ubuntu keep `venv` in a package of its own, named after the version.
need_venv_module() {
    if "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; then return; fi
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing $package, which this Python lacks"
        log=$(mktemp)
        if apt-get update >"$log" 2>&1 &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >>"$log" 2>&1
        then rm -f "$log"; return; fi
        cat "$log" >&2
        rm -f "$log"
        fail "$package could not be installed"
    fi
    fail "$1 has no venv module; install it (Debian, Ubuntu: apt-get install $package) and try again"
}

works() { [ -x "$venv/bin/python" ] && new_enough "$venv/bin/python"; }

make_venv() {
    python=$(find_python)
    need_venv_module "$python"
    say "making $venv with $("$python" --version 2>&1)"
    "$python" -m venv --clear "$venv"
}

install() {
    target=.
    [ -z "$extra" ] || target=".[$extra]"
    say "installing what is needed${extra:+ for $extra} into $venv (the first time this takes a minute)"
    if ! "$venv/bin/python" -m pip --disable-pip-version-check install --upgrade --upgrade-strategy only-if-needed \
        -e "$target" >"$venv/pip.log" 2>&1
    then
        cat "$venv/pip.log" >&2
        fail "pip failed; its output is above and in $venv/pip.log"
    fi
}

# A second make on the same folder waits here; where there is no flock, nothing is lost but that.
if command -v flock >/dev/null 2>&1; then
    mkdir -p "$(dirname "$venv")"
    exec 9>"$venv.lock"
    flock 9
fi

# An environment that was moved, or whose Python is gone, is made anew.
works || make_venv
install
