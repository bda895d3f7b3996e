#!/bin/sh
# Bring a one-node Slurm up on a bare Debian 12, for the tests. To be run as root.
#
#   tests/slurm.sh start             install what is missing, configure it, start it (may be repeated)
#   tests/slurm.sh stop              end its daemons
#   tests/slurm.sh status            0 if jobs can be submitted, 1 if not
#   tests/slurm.sh stop-controller   end the controller in good order
#   tests/slurm.sh kill-controller   kill the controller as a crash would (SIGKILL)
#   tests/slurm.sh start-controller  start it again
#   tests/slurm.sh freeze-controller, thaw-controller   have it answer nobody for a while
#   tests/slurm.sh keep-state, lose-state   keep the controller's files; put the kept ones back (it is down)
#   tests/slurm.sh partitions up|down   let jobs start, or not
#   tests/slurm.sh node resume|drain|down   set the node's state
#   tests/slurm.sh manage COMMAND…   run scontrol, scancel or another command as Slurm's administrator
#   tests/slurm.sh as COMMAND…       run a command under the ordinary account
#   tests/slurm.sh accounting        add slurmdbd over MariaDB (installs another 200 MB)
#   tests/slurm.sh no-accounting     have none again
#
# Everything that the tests run, runs under the account $DRM_ACCOUNT, which tests/gridengine.sh makes.
set -eu

ACCOUNT=${DRM_ACCOUNT:-drmtest}
HOME_FOLDER=/var/lib/$ACCOUNT
TREE=$(cd "$(dirname "$0")/.." && pwd)
HOST=$(hostname -s)
CPUS=${DRM_CPUS:-32}
CONF=/etc/slurm/slurm.conf
GRES_CONF=/etc/slurm/gres.conf
STATE=/var/lib/slurm-test
KEPT=$STATE/kept
RUN=/run/slurm-test
LOGS=/var/log/slurm
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

PACKAGES="slurmctld slurmd slurm-client munge"
MORE_PACKAGES="slurmdbd mariadb-server"

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

# wait_for SECONDS WHAT COMMAND…: until the command succeeds.
wait_for() {
    tries=$(($1 * 10)); what=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited in vain for $what"
        sleep 0.1
    done
}

# The daemons get nothing of the caller's environment: slurmd hands its own on to jobs.
clean() { env -i PATH="$PATH" "$@"; }

# As in gridengine.sh.
alone() { flock -o /run/drmaaticd-tests.lock sh "$0" "$@"; }

# Installing ---------------------------------------------------------------------------------------

installed() {
    for package in "$@"; do
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
    if installed "$@"; then return; fi
    say "installing $*"
    [ -n "$(find /var/lib/apt/lists -name '*_Packages*' -print -quit 2>/dev/null)" ] || quietly apt-get update
    # Its own configuration comes first: where there is an init system, the packages start the daemons.
    DEBIAN_FRONTEND=noninteractive quietly apt-get install -y --no-install-recommends "$@"
}

# Configuring --------------------------------------------------------------------------------------

accounting_lines() {
    if [ -e "$STATE/accounting" ]; then
        printf 'AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n'
        printf 'AccountingStorageEnforce=associations,limits,qos\n'
    else
        printf 'AccountingStorageType=accounting_storage/none\n'
    fi
}

configuration() {
    memory=$(slurmd -C 2>/dev/null | sed -n 's/.*RealMemory=\([0-9]*\).*/\1/p')
    cat <<EOT
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
# A requeued job waits for as long as its credential lives.
AuthInfo=cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd.pid
SlurmctldLogFile=$LOGS/slurmctld.log
SlurmdLogFile=$LOGS/slurmd.log
SlurmdSpoolDir=$STATE/slurmd
StateSaveLocation=$STATE/ctld
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=50
# Slurm forgets before anybody asks.
MinJobAge=10
KillWait=5
MessageTimeout=5
SlurmctldTimeout=30
SlurmdTimeout=30
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
$(accounting_lines)
GresTypes=gpu
Licenses=matlab:2
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$((memory * 9 / 10)) Gres=gpu:2
PartitionName=main Nodes=$HOST Default=YES MaxTime=INFINITE State=UP
# Two jobs at a time, for tests that fill it.
PartitionName=pair Nodes=$HOST MaxCPUsPerNode=2 MaxTime=INFINITE State=UP
# Eight.
PartitionName=eight Nodes=$HOST MaxCPUsPerNode=8 MaxTime=INFINITE State=UP
# No job that is longer than a minute.
PartitionName=short Nodes=$HOST MaxTime=1 State=UP
EOT
}

# Two devices that every machine has and no job minds.
devices() {
    printf 'Name=gpu File=/dev/%s\n' zero full
}

prepare() {
    mkdir -p "$STATE/ctld" "$STATE/slurmd" "$RUN" "$LOGS" /run/munge "$(dirname "$CONF")"
    chown slurm: "$STATE/ctld" "$RUN" "$LOGS"
    chown munge: /run/munge
    chmod 755 /run/munge "$STATE"
    [ -e /etc/munge/munge.key ] || quietly mungekey
    configuration >"$CONF.new"
    devices >"$GRES_CONF.new"
    if cmp -s "$CONF.new" "$CONF" && cmp -s "$GRES_CONF.new" "$GRES_CONF"; then
        rm "$CONF.new" "$GRES_CONF.new"
    else
        stop
        mv "$CONF.new" "$CONF"
        mv "$GRES_CONF.new" "$GRES_CONF"
    fi
}

# Its daemons --------------------------------------------------------------------------------------

running() {  # running NAME PIDFILE
    pid=$(cat "$2" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]
}
munge_runs() { running munged /run/munge/munged.pid && munge -n >/dev/null 2>&1; }
controller_runs() { running slurmctld "$RUN/slurmctld.pid"; }
node_runs() { running slurmd "$RUN/slurmd.pid"; }

answers() { timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; }
node_state() { timeout 5 sinfo -h -n "$HOST" -p main -o %T 2>/dev/null; }

usable() {
    answers || return 1
    state=$(node_state)
    case $state in
        idle|mixed|allocated) return 0 ;;
        *drain*|down*) scontrol update node="$HOST" state=resume >/dev/null 2>&1 || : ;;
    esac
    return 1
}

start_munge() {
    munge_runs || runuser -u munge -- munged --force >/dev/null 2>&1 </dev/null || :
    wait_for 10 munged munge_runs
}

start_controller() {
    # As root it could write logs that it cannot write as the user that it becomes.
    controller_runs || clean runuser -u slurm -- slurmctld >/dev/null 2>&1 </dev/null ||
        fail "slurmctld did not start; see $LOGS/slurmctld.log"
    wait_for 30 "the controller" answers
}

start_node() {
    node_runs || clean slurmd -N "$HOST" >/dev/null 2>&1 </dev/null || fail "slurmd did not start"
    wait_for 10 "the node's daemon" node_runs
}

end() {  # end SIGNAL NAME PIDFILE
    running "$2" "$3" || return 0
    kill "-$1" "$pid"
    # A frozen one wakes up to die.
    kill -CONT "$pid" 2>/dev/null || :
    wait_for 30 "the end of $2" sh -c "! kill -0 $pid"
}

stop() {
    end TERM slurmctld "$RUN/slurmctld.pid"
    end TERM slurmd "$RUN/slurmd.pid"
}

start() {
    alone install
    sh "$TREE/tests/gridengine.sh" account
    prepare
    start_munge
    [ ! -e "$STATE/accounting" ] || start_accounting
    if controller_runs; then kill -CONT "$pid"; fi
    start_controller
    start_node
    partitions up
    wait_for 60 "the node" usable
}

partitions() {
    for partition in main pair eight; do
        scontrol update partition="$partition" state="$1" >/dev/null || fail "partition $partition"
    done
}

node() {
    case $1 in
        resume) wait_for 60 "the node" usable ;;
        *) scontrol update node="$HOST" state="$1" reason="a test" >/dev/null || fail "node $1" ;;
    esac
}

# Accounting ---------------------------------------------------------------------------------------

DATABASE_PID=$RUN/slurmdbd.pid

database() { mariadb --socket=/run/mysqld/mysqld.sock "$@"; }

start_accounting() {
    # shellcheck disable=SC2086
    install_packages $MORE_PACKAGES
    mkdir -p /run/mysqld
    chown mysql: /run/mysqld
    if ! database -e 'select 1' >/dev/null 2>&1; then
        # Not by `clean`: a function in the background keeps the caller's output open.
        env -i PATH="$PATH" setsid mariadbd-safe --user=mysql >/dev/null 2>&1 </dev/null &
        wait_for 60 MariaDB database -e 'select 1'
    fi
    database -e "create database if not exists slurm_acct_db;
        create user if not exists slurm@localhost identified via unix_socket;
        grant all on slurm_acct_db.* to slurm@localhost;"
    cat >/etc/slurm/slurmdbd.conf <<EOT
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
SlurmUser=slurm
LogFile=$LOGS/slurmdbd.log
PidFile=$DATABASE_PID
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
EOT
    chown slurm: /etc/slurm/slurmdbd.conf
    chmod 600 /etc/slurm/slurmdbd.conf
    running slurmdbd "$DATABASE_PID" || clean runuser -u slurm -- slurmdbd >/dev/null 2>&1 </dev/null ||
        fail "slurmdbd did not start"
    wait_for 30 slurmdbd sacctmgr -n show cluster
    sacctmgr -n show cluster test format=cluster | grep -q test || sacctmgr -i add cluster test >/dev/null
    sacctmgr -n show qos long format=name | grep -q long || sacctmgr -i add qos long >/dev/null
    # With which whoever is not known here may start no job.
    sacctmgr -n show account lab format=account | grep -q lab || sacctmgr -i add account lab >/dev/null
    for name in "$ACCOUNT" root; do
        sacctmgr -n show assoc user="$name" account=lab format=user | grep -q "$name" ||
            sacctmgr -i add user "$name" account=lab qos=normal,long >/dev/null
    done
}

stop_accounting() {
    end TERM slurmdbd "$DATABASE_PID"
    database -e shutdown >/dev/null 2>&1 || :
}

as_account() {
    cd "$HOME_FOLDER"
    exec runuser -u "$ACCOUNT" -- env -i PATH="$PATH" HOME="$HOME_FOLDER" USER="$ACCOUNT" LOGNAME="$ACCOUNT" \
        LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 DRM_CLUSTER=slurm ${CI:+CI="$CI"} \
        ${DRM_CONTROL:+DRM_CONTROL="$DRM_CONTROL"} "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
[ "$(id -u)" = 0 ] || fail "to be run as root"
case $command in
    start) start ;;
    install) install_packages $PACKAGES ;;
    stop) stop; stop_accounting; end TERM munged /run/munge/munged.pid ;;
    status) controller_runs && node_runs && usable ;;
    kill-controller) end KILL slurmctld "$RUN/slurmctld.pid" ;;
    stop-controller) end TERM slurmctld "$RUN/slurmctld.pid" ;;
    start-controller) start_controller ;;
    freeze-controller) controller_runs; kill -STOP "$pid" ;;
    thaw-controller) controller_runs; kill -CONT "$pid" ;;
    keep-state) rm -rf "$KEPT"; cp -a "$STATE/ctld" "$KEPT" ;;
    lose-state) rm -rf "$STATE/ctld"; cp -a "$KEPT" "$STATE/ctld" ;;
    accounting) mkdir -p "$STATE"; : >"$STATE/accounting"; start ;;
    no-accounting) rm -f "$STATE/accounting"; start; stop_accounting ;;
    partitions) partitions "$1" ;;
    node) node "$1" ;;
    manage) [ $# -gt 0 ] || fail "manage needs a command"; "$@" ;;
    as) [ $# -gt 0 ] || fail "as needs a command"; as_account "$@" ;;
    *) sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
