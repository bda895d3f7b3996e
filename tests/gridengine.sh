#!/bin/sh
# Bring a one-node Grid Engine cell up on a bare Debian 12, for the tests. To be run as root.
#
#   tests/gridengine.sh start         install what is missing, make the cell, start it (may be repeated)
#   tests/gridengine.sh stop          end both of its daemons
#   tests/gridengine.sh status        0 if jobs can be submitted, 1 if not
#   tests/gridengine.sh kill-master   kill the queue master as a crash would (SIGKILL)
#   tests/gridengine.sh start-master  start it again
#   tests/gridengine.sh freeze-master, thaw-master   have it answer nobody for a while
#   tests/gridengine.sh mend          start what does not run, enable the queue
#   tests/gridengine.sh rouse         restart the execution daemon; its jobs run on
#   tests/gridengine.sh account       make the ordinary account and its Python environment alone
#   tests/gridengine.sh manage COMMAND…  run qmod, qconf or another of the cell's commands as its administrator
#   tests/gridengine.sh as COMMAND…   run a command under that account, with the cell's environment
#
# Everything that the tests run, runs under the account $DRM_ACCOUNT: as root, what permissions,
# umask and squashed roots break would stay hidden.
set -eu

ACCOUNT=${DRM_ACCOUNT:-drmtest}
HOME_FOLDER=/var/lib/$ACCOUNT
VENV=$HOME_FOLDER/venv
TREE=$(cd "$(dirname "$0")/.." && pwd)

SGE_ROOT=/var/lib/gridengine
SGE_CELL=default
COMMON=$SGE_ROOT/$SGE_CELL/common
SPOOL=/var/spool/gridengine
LIBRARY=/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0
SLOTS=${DRM_SLOTS:-8}
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export SGE_ROOT SGE_CELL PATH

PACKAGES="gridengine-master gridengine-exec gridengine-client gridengine-drmaa1.0 python3-venv"

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

# wait_for SECONDS WHAT COMMAND…: until the command succeeds.
wait_for() {
    tries=$(($1 * 5)); what=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited in vain for $what"
        sleep 0.2
    done
}

# The daemons get nothing of the caller's environment: an exec daemon hands its own on to each job.
clean() { env -i PATH="$PATH" SGE_ROOT="$SGE_ROOT" SGE_CELL="$SGE_CELL" "$@"; }

# Whoever administers the cell: root itself may not, until it has been made a manager.
as_manager() { runuser -u sgeadmin -- env SGE_ROOT="$SGE_ROOT" SGE_CELL="$SGE_CELL" "$@"; }

# alone COMMAND: this script with that command, while nobody else installs anything for the tests: apt and
# pip bear no company. What is started meanwhile does not inherit the lock.
alone() { flock -o /run/drmaaticd-tests.lock sh "$0" "$@"; }

# Installing ---------------------------------------------------------------------------------------

installed() {
    for package in $PACKAGES; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || return 1
    done
}

quietly() {
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        fail "$* failed; its output is above"
    fi
    rm -f "$log"
}

install_packages() {
    installed && return
    say "installing $PACKAGES"
    debconf-set-selections <<EOT
gridengine-common shared/gridenginemaster string $(hostname)
gridengine-common shared/gridenginecell string default
gridengine-common shared/gridengineconfig boolean true
gridengine-client shared/gridenginemaster string $(hostname)
gridengine-client shared/gridenginecell string default
gridengine-client shared/gridengineconfig boolean true
gridengine-master shared/gridenginemaster string $(hostname)
gridengine-master shared/gridenginecell string default
gridengine-master shared/gridengineconfig boolean true
EOT
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null)" ] || quietly apt-get update
    DEBIAN_FRONTEND=noninteractive quietly apt-get install -y --no-install-recommends $PACKAGES
    # The installation starts both with the caller's environment, and before the host has its name.
    stop
}

# The account and a Python that it can read -----------------------------------------------------------

make_account() {
    # Above the cell's min_uid and min_gid, as people's accounts are.
    getent group "$ACCOUNT" >/dev/null || groupadd --gid 4711 "$ACCOUNT"
    getent passwd "$ACCOUNT" >/dev/null ||
        useradd --uid 4711 --gid "$ACCOUNT" --home-dir "$HOME_FOLDER" --shell /bin/sh "$ACCOUNT"
    mkdir -p "$HOME_FOLDER"
    chown "$ACCOUNT:$ACCOUNT" "$HOME_FOLDER"
    chmod 755 "$HOME_FOLDER"
}

# What setup.py asks for, without the package itself: the tests run from the tree.
requirements() {
    /usr/bin/python3 - "$TREE/setup.py" <<'EOT'
import ast, sys
lists = {}
for node in ast.parse(open(sys.argv[1], encoding="utf-8").read()).body:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
        lists[node.targets[0].id] = ast.literal_eval(node.value)
print("\n".join(lists["RUNTIME"] + lists["TEST"]))
EOT
}

make_environment() {
    wanted=$(requirements)
    if [ "$wanted" = "$(cat "$VENV/.requirements" 2>/dev/null)" ]; then return; fi
    say "making $VENV, a Python environment that $ACCOUNT can read"
    [ -x "$VENV/bin/python" ] || quietly /usr/bin/python3 -m venv "$VENV"
    printf '%s\n' "$wanted" >"$VENV/.requirements.new"
    quietly "$VENV/bin/python" -m pip --disable-pip-version-check install -r "$VENV/.requirements.new"
    mv "$VENV/.requirements.new" "$VENV/.requirements"
}

# The cell ---------------------------------------------------------------------------------------------

running() {  # running NAME PIDFILE
    pid=$(cat "$2" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]
}
master_runs() { running sge_qmaster "$SPOOL/qmaster/qmaster.pid"; }
# Its spool folder is named after what it takes its host's name for: the machine's or localhost.
execd_runs() {
    for file in "$SPOOL"/execd/*/execd.pid; do
        if running sge_execd "$file"; then return 0; fi
    done
    return 1
}

name_host() {
    [ "$(cat "$COMMON/host_aliases" 2>/dev/null)" != "$(hostname) localhost" ] || return 0
    stop
    hostname >"$COMMON/act_qmaster"
    # Without it: access denied (client IP resolved to host name "localhost").
    printf '%s localhost\n' "$(hostname)" >"$COMMON/host_aliases"
}

start_master() {
    if ! master_runs; then
        clean sge_qmaster >/dev/null 2>&1 </dev/null || fail "sge_qmaster did not start"
    fi
    wait_for 60 "the queue master" qstat
    # One that was killed may take its queue up as it was long before: disabled by a test, and enabled again.
    as_manager qmod -e all.q >/dev/null 2>&1 || :
}

# change CONFIGURATION EDIT: `qconf -m…` calls an editor; this one applies a sed script.
change() {
    editor=$(mktemp)
    printf '#!/bin/sh\nexec sed -i -e %s "$1"\n' "'$2'" >"$editor"
    chmod 755 "$editor"
    # An editor that is done within a second leaves the file's time as it was, and qconf changes nothing.
    sed -i 's/^exec sed/sleep 1.1; exec sed/' "$editor"
    # shellcheck disable=SC2086
    as_manager env EDITOR="$editor" qconf $1 >/dev/null || { rm -f "$editor"; fail "qconf $1 failed"; }
    rm -f "$editor"
}

set_value() { printf 's|^%s .*|%s %s|;' "$1" "$1" "$2"; }

configure() {
    as_manager qconf -sh 2>/dev/null | grep -qx "$(hostname)" || as_manager qconf -ah "$(hostname)" >/dev/null
    as_manager qconf -ss 2>/dev/null | grep -qx "$(hostname)" || as_manager qconf -as "$(hostname)" >/dev/null
    as_manager qconf -sm | grep -qx root || as_manager qconf -am root >/dev/null
    as_manager qconf -ssconf | grep -Eq '^schedule_interval +0:0:1$' ||
        change -msconf "$(set_value schedule_interval 0:0:1; set_value flush_submit_sec 1
            set_value flush_finish_sec 1; set_value job_load_adjustments NONE; set_value load_formula slots)"
    # An execution daemon that lost its master looks for it when it reports its load.
    as_manager qconf -sconf global | grep -Eq '^load_report_time +00:00:02$' ||
        change "-mconf global" "$(set_value load_report_time 00:00:02)"
    made=$(mktemp)
    chmod 644 "$made"
    if ! as_manager qconf -shgrp @allhosts >/dev/null 2>&1; then
        printf 'group_name @allhosts\nhostlist %s\n' "$(hostname)" >"$made"
        as_manager qconf -Ahgrp "$made" >/dev/null
    fi
    if ! as_manager qconf -sp smp >/dev/null 2>&1; then
        printf '%s\n' 'pe_name smp' 'slots 999' 'user_lists NONE' 'xuser_lists NONE' 'start_proc_args NONE' \
            'stop_proc_args NONE' 'allocation_rule $pe_slots' 'control_slaves FALSE' \
            'job_is_first_task TRUE' 'urgency_slots min' 'accounting_summary FALSE' 'qsort_args NONE' >"$made"
        as_manager qconf -Ap "$made" >/dev/null
    fi
    start_execd
    if ! as_manager qconf -sq all.q >/dev/null 2>&1; then
        as_manager qconf -sq | sed -e 's|^qname .*|qname all.q|;s|^hostlist .*|hostlist @allhosts|' \
            -e "s|^slots .*|slots $SLOTS|;s|^pe_list .*|pe_list smp|;s|^load_thresholds .*|load_thresholds NONE|" \
            -e 's|^shell_start_mode .*|shell_start_mode unix_behavior|;s|^rerun .*|rerun FALSE|' >"$made"
        as_manager qconf -Aq "$made" >/dev/null
    fi
    rm -f "$made"
    as_manager qconf -rattr queue slots "$SLOTS" all.q >/dev/null
}

start_execd() {
    execd_runs && return
    clean sge_execd >/dev/null 2>&1 </dev/null || fail "sge_execd did not start"
    wait_for 30 "the execution daemon" execd_runs
}

usable() { qstat -f 2>/dev/null | awk '$1 ~ /^all\.q@/ { found = 1; if ($6 != "") bad = 1 } END { exit !found || bad }'; }

kill_master() {
    master_runs || return 0
    kill -KILL "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}

stop_execd() {
    execd_runs || return 0
    kill -TERM "$pid"
    wait_for 20 "the execution daemon's end" sh -c "! kill -0 $pid"
}

# What a test may have left: quick, where it left nothing.
mend() {
    if master_runs && execd_runs && usable; then return; fi
    start
}

# A master that was away is found again by the execution daemon after half a minute or longer; by a new
# one at once.
rouse() {
    stop_execd
    start_execd
    wait_for 60 "all.q" usable
}

stop() {
    stop_execd
    if master_runs; then
        kill -TERM "$pid"
        wait_for 30 "the queue master's end" sh -c "! kill -0 $pid"
    fi
}

start() {
    alone install
    alone environment
    name_host
    start_master
    configure
    wait_for 60 "all.q" usable
}

as_account() {
    cd "$HOME_FOLDER"
    exec runuser -u "$ACCOUNT" -- env -i PATH="$PATH" HOME="$HOME_FOLDER" USER="$ACCOUNT" LOGNAME="$ACCOUNT" \
        LANG=C.UTF-8 SGE_ROOT="$SGE_ROOT" SGE_CELL="$SGE_CELL" DRMAA_LIBRARY_PATH="$LIBRARY" \
        PYTHONDONTWRITEBYTECODE=1 DRM_CLUSTER=gridengine ${CI:+CI="$CI"} \
        ${DRM_CONTROL:+DRM_CONTROL="$DRM_CONTROL"} "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
[ "$(id -u)" = 0 ] || fail "to be run as root"
case $command in
    start) start ;;
    stop) stop ;;
    status) master_runs && execd_runs && usable ;;
    kill-master) kill_master ;;
    start-master) start_master ;;
    freeze-master) master_runs; kill -STOP "$pid" ;;
    thaw-master) master_runs; kill -CONT "$pid" ;;
    rouse) rouse ;;
    mend) mend ;;
    account) alone environment ;;
    install) install_packages ;;
    environment) make_account; make_environment ;;
    manage) [ $# -gt 0 ] || fail "manage needs a command"; as_manager "$@" ;;
    as) [ $# -gt 0 ] || fail "as needs a command"; as_account "$@" ;;
    *) sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
