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
#   tests/slurm.sh remove            end it and remove the folder of a release (below)
#
# With SLURM_RELEASE=bullseye, trixie or another of Debian's releases, all this is about the Slurm of that
# release, in a folder of its own (debootstrap, 600 MB), on ports of its own: both may run at the same time.
#
# Everything that the tests run, runs under the account $DRM_ACCOUNT, which tests/gridengine.sh makes.
set -eu

ACCOUNT=${DRM_ACCOUNT:-drmtest}
HOME_FOLDER=/var/lib/$ACCOUNT
TREE=$(cd "$(dirname "$0")/.." && pwd)
HOST=$(hostname -s)
CPUS=${DRM_CPUS:-32}
RELEASE=${SLURM_RELEASE:-}
# Where the folder of a release begins; the paths below are those within. $IN runs a command there.
ROOT=${RELEASE:+/var/lib/slurm-versions/$RELEASE}
IN=${RELEASE:+chroot $ROOT}
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
CONF=/etc/slurm/slurm.conf
GRES_CONF=/etc/slurm/gres.conf
STATE=/var/lib/slurm-test
KEPT=$STATE/kept
RUN=/run/slurm-test
LOGS=/var/log/slurm
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

# The controller's; the node's and slurmdbd's come next. 6817 is what Slurm takes unless told.
PORT=6817
[ -z "$RELEASE" ] || PORT=$((7000 + $(printf %s "$RELEASE" | cksum | cut -d ' ' -f 1) % 1000 * 10))

PACKAGES="slurmctld slurmd slurm-client munge"
MORE_PACKAGES="slurmdbd mariadb-server"
# What tests and the engine run as the account, of a release from outside its folder.
COMMANDS="sbatch squeue scancel scontrol sacct sinfo sacctmgr"

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
clean() { env -i PATH="$PATH" $IN "$@"; }

# As in gridengine.sh.
alone() { flock -o "/run/drmaaticd-tests${RELEASE:+-$RELEASE}.lock" sh "$0" "$@"; }

# Installing ---------------------------------------------------------------------------------------

installed() {
    for package in "$@"; do
        $IN dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || return 1
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
    say "installing $*${RELEASE:+ of $RELEASE}"
    [ -n "$(find "$ROOT/var/lib/apt/lists" -name '*_Packages*' -print -quit 2>/dev/null)" ] || quietly $IN apt-get update
    # Its own configuration comes first: where there is an init system, the packages start the daemons.
    quietly env DEBIAN_FRONTEND=noninteractive $IN apt-get install -y --no-install-recommends "$@"
}

# A release in a folder -----------------------------------------------------------------------------

MOUNTS="/proc /dev /sys $HOME_FOLDER"

make_release() {
    [ -n "$RELEASE" ] || return 0
    if [ ! -e "$ROOT/.complete" ]; then
        say "making $ROOT"
        command -v debootstrap >/dev/null || (RELEASE='' ROOT='' IN=''; install_packages debootstrap)
        quietly debootstrap --variant=minbase "$RELEASE" "$ROOT" "$MIRROR"
        # Packages start nothing.
        printf '#!/bin/sh\nexit 101\n' >"$ROOT/usr/sbin/policy-rc.d"
        chmod 755 "$ROOT/usr/sbin/policy-rc.d"
        : >"$ROOT/.complete"
    fi
    $IN getent group "$ACCOUNT" >/dev/null || $IN groupadd --gid "$(id -g "$ACCOUNT")" "$ACCOUNT"
    $IN getent passwd "$ACCOUNT" >/dev/null ||
        $IN useradd --uid "$(id -u "$ACCOUNT")" --gid "$ACCOUNT" --home-dir "$HOME_FOLDER" --shell /bin/sh "$ACCOUNT"
    cp /etc/hosts "$ROOT/etc/hosts"
    for mount in $MOUNTS; do
        mkdir -p "$ROOT$mount"
        mountpoint -q "$ROOT$mount" || mount --bind "$mount" "$ROOT$mount"
    done
}

# Its commands from outside, for any account: with its own libraries, plugins and munge's socket.
make_commands() {
    [ -n "$RELEASE" ] || return 0
    set -- "$ROOT"/usr/lib/*-linux-gnu*/ld-linux*.so.*
    libraries=$(dirname "$1")
    sed -e "s|^AuthInfo=|&socket=$ROOT/run/munge/munge.socket.2,|" "$ROOT$CONF" >"$ROOT/etc/slurm/outside.conf"
    # Asking the database takes its socket from elsewhere.
    printf '%s\n' "PluginDir=$libraries/slurm-wlm" "AccountingStoragePass=$ROOT/run/munge/munge.socket.2" \
        >>"$ROOT/etc/slurm/outside.conf"
    mkdir -p "$ROOT/outside"
    for name in $COMMANDS; do
        # Some releases' are symbolic links, which outside would lead to another Slurm's.
        program=$($IN readlink -f "/usr/bin/$name")
        cat >"$ROOT/outside/$name" <<EOT
#!/bin/sh
SLURM_CONF=$ROOT/etc/slurm/outside.conf
export SLURM_CONF
exec $1 --library-path $libraries:$libraries/slurm-wlm $ROOT$program "\$@"
EOT
        chmod 755 "$ROOT/outside/$name"
    done
}

remove() {
    [ -n "$RELEASE" ] || fail "remove is for a release; SLURM_RELEASE names it"
    stop_all
    for mount in $MOUNTS; do
        if mountpoint -q "$ROOT$mount"; then umount "$ROOT$mount"; fi
    done
    # What is mounted there is not this release's.
    if grep -q " $ROOT/" /proc/mounts; then fail "something is mounted in $ROOT"; fi
    rm -rf --one-file-system "$ROOT"
}

# Configuring --------------------------------------------------------------------------------------

accounting_lines() {
    if [ -e "$ROOT$STATE/accounting" ]; then
        printf 'AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n'
        [ -z "$RELEASE" ] || printf 'AccountingStoragePort=%s\n' $((PORT + 2))
        printf 'AccountingStorageEnforce=associations,limits,qos\n'
    else
        printf 'AccountingStorageType=accounting_storage/none\n'
    fi
}

port_lines() {
    [ -z "$RELEASE" ] || printf 'SlurmctldPort=%s\nSlurmdPort=%s\n' "$PORT" $((PORT + 1))
}

# In 20.11 a partition's jobs get fewer than MaxCPUsPerNode cores, never all of them.
spare_cores() {
    case ${RELEASE:+$($IN slurmd -V)} in *' 20.'*) echo 1 ;; *) echo 0 ;; esac
}

configuration() {
    spare=$(spare_cores)
    memory=$($IN slurmd -C 2>/dev/null | sed -n 's/.*RealMemory=\([0-9]*\).*/\1/p')
    cat <<EOT
ClusterName=test
$(port_lines)
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
PartitionName=pair Nodes=$HOST MaxCPUsPerNode=$((2 + spare)) MaxTime=INFINITE State=UP
# Eight.
PartitionName=eight Nodes=$HOST MaxCPUsPerNode=$((8 + spare)) MaxTime=INFINITE State=UP
# No job that is longer than a minute.
PartitionName=short Nodes=$HOST MaxTime=1 State=UP
EOT
}

# Two devices that every machine has and no job minds.
devices() {
    printf 'Name=gpu File=/dev/%s\n' zero full
}

prepare() {
    for folder in "$STATE/ctld" "$STATE/slurmd" "$RUN" "$LOGS" /run/munge "$(dirname "$CONF")"; do
        mkdir -p "$ROOT$folder"
    done
    $IN chown slurm: "$STATE/ctld" "$RUN" "$LOGS"
    $IN chown munge: /run/munge
    chmod 755 "$ROOT/run/munge" "$ROOT$STATE"
    [ -e "$ROOT/etc/munge/munge.key" ] || quietly $IN mungekey
    configuration >"$ROOT$CONF.new"
    devices >"$ROOT$GRES_CONF.new"
    if cmp -s "$ROOT$CONF.new" "$ROOT$CONF" && cmp -s "$ROOT$GRES_CONF.new" "$ROOT$GRES_CONF"; then
        rm "$ROOT$CONF.new" "$ROOT$GRES_CONF.new"
    else
        stop
        # The controller's own number for the cluster, which from 24.11 on must be the database's.
        rm -f "$ROOT$STATE/ctld/clustername"
        mv "$ROOT$CONF.new" "$ROOT$CONF"
        mv "$ROOT$GRES_CONF.new" "$ROOT$GRES_CONF"
    fi
    # In later releases than 22.05 a node's daemon ends where there are no control groups, used or not; older
    # ones do not know the word.
    case ${RELEASE:+$($IN slurmd -V)} in
        ''|*' '2[012].*) ;;
        *) echo CgroupPlugin=disabled >"$ROOT/etc/slurm/cgroup.conf" ;;
    esac
    make_commands
}

# Its daemons --------------------------------------------------------------------------------------

running() {  # running NAME PIDFILE
    pid=$(cat "$ROOT$2" 2>/dev/null) && [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ]
}
munge_runs() { running munged /run/munge/munged.pid && $IN munge -n >/dev/null 2>&1; }
controller_runs() { running slurmctld "$RUN/slurmctld.pid"; }
node_runs() { running slurmd "$RUN/slurmd.pid"; }

answers() { timeout 5 $IN scontrol ping 2>/dev/null | grep -q 'is UP'; }
node_state() { timeout 5 $IN sinfo -h -n "$HOST" -p main -o %T 2>/dev/null; }

usable() {
    answers || return 1
    state=$(node_state)
    case $state in
        idle|mixed|allocated) return 0 ;;
        *drain*|down*) $IN scontrol update node="$HOST" state=resume >/dev/null 2>&1 || : ;;
    esac
    return 1
}

start_munge() {
    munge_runs || $IN runuser -u munge -- munged --force >/dev/null 2>&1 </dev/null || :
    wait_for 10 munged munge_runs
}

start_controller() {
    # As root it could write logs that it cannot write as the user that it becomes.
    controller_runs || clean runuser -u slurm -- slurmctld >/dev/null 2>&1 </dev/null ||
        fail "slurmctld did not start; see $ROOT$LOGS/slurmctld.log"
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
    [ -z "$RELEASE" ] || sh "$TREE/tests/gridengine.sh" account
    alone install
    [ -n "$RELEASE" ] || sh "$TREE/tests/gridengine.sh" account
    prepare
    start_munge
    [ ! -e "$ROOT$STATE/accounting" ] || start_accounting
    if controller_runs; then kill -CONT "$pid"; fi
    start_controller
    start_node
    partitions up
    wait_for 60 "the node" usable
}

partitions() {
    for partition in main pair eight; do
        $IN scontrol update partition="$partition" state="$1" >/dev/null || fail "partition $partition"
    done
}

node() {
    case $1 in
        resume) wait_for 60 "the node" usable ;;
        *) $IN scontrol update node="$HOST" state="$1" reason="a test" >/dev/null || fail "node $1" ;;
    esac
}

# Accounting ---------------------------------------------------------------------------------------

DATABASE_PID=$RUN/slurmdbd.pid

database() { $IN mariadb --socket=/run/mysqld/mysqld.sock "$@"; }

start_accounting() {
    # shellcheck disable=SC2086
    install_packages $MORE_PACKAGES
    mkdir -p "$ROOT/run/mysqld"
    $IN chown mysql: /run/mysqld
    # Later releases call the same folder so.
    [ -e "$ROOT/run/mariadbd" ] || ln -s mysqld "$ROOT/run/mariadbd"
    if ! database -e 'select 1' >/dev/null 2>&1; then
        # Not by `clean`: a function in the background keeps the caller's output open.
        env -i PATH="$PATH" setsid $IN mariadbd-safe --user=mysql --skip-networking >/dev/null 2>&1 </dev/null &
        wait_for 60 MariaDB database -e 'select 1'
    fi
    database -e "create database if not exists slurm_acct_db;
        create user if not exists slurm@localhost identified via unix_socket;
        grant all on slurm_acct_db.* to slurm@localhost;"
    cat >"$ROOT/etc/slurm/slurmdbd.conf" <<EOT
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 2))
SlurmUser=slurm
LogFile=$LOGS/slurmdbd.log
PidFile=$DATABASE_PID
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
EOT
    $IN chown slurm: /etc/slurm/slurmdbd.conf
    chmod 600 "$ROOT/etc/slurm/slurmdbd.conf"
    running slurmdbd "$DATABASE_PID" || clean runuser -u slurm -- slurmdbd >/dev/null 2>&1 </dev/null ||
        fail "slurmdbd did not start"
    wait_for 30 slurmdbd $IN sacctmgr -n show cluster
    $IN sacctmgr -n show cluster test format=cluster | grep -q test || $IN sacctmgr -i add cluster test >/dev/null
    $IN sacctmgr -n show qos long format=name | grep -q long || $IN sacctmgr -i add qos long >/dev/null
    # With which whoever is not known here may start no job.
    $IN sacctmgr -n show account lab format=account | grep -q lab || $IN sacctmgr -i add account lab >/dev/null
    for name in "$ACCOUNT" root; do
        $IN sacctmgr -n show assoc user="$name" account=lab format=user | grep -q "$name" ||
            $IN sacctmgr -i add user "$name" account=lab qos=normal,long >/dev/null
    done
}

stop_accounting() {
    end TERM slurmdbd "$DATABASE_PID"
    database -e shutdown >/dev/null 2>&1 || :
}

stop_all() {
    stop
    stop_accounting
    end TERM munged /run/munge/munged.pid
}

as_account() {
    cd "$HOME_FOLDER"
    exec runuser -u "$ACCOUNT" -- env -i PATH="${RELEASE:+$ROOT/outside:}$PATH" HOME="$HOME_FOLDER" USER="$ACCOUNT" LOGNAME="$ACCOUNT" \
        LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 DRM_CLUSTER=slurm ${CI:+CI="$CI"} \
        ${DRM_CONTROL:+DRM_CONTROL="$DRM_CONTROL"} "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
[ "$(id -u)" = 0 ] || fail "to be run as root"
case $command in
    start) start ;;
    install) make_release; install_packages $PACKAGES ;;
    stop) stop_all ;;
    remove) remove ;;
    status) controller_runs && node_runs && usable ;;
    kill-controller) end KILL slurmctld "$RUN/slurmctld.pid" ;;
    stop-controller) end TERM slurmctld "$RUN/slurmctld.pid" ;;
    start-controller) start_controller ;;
    freeze-controller) controller_runs; kill -STOP "$pid" ;;
    thaw-controller) controller_runs; kill -CONT "$pid" ;;
    keep-state) rm -rf "$ROOT$KEPT"; cp -a "$ROOT$STATE/ctld" "$ROOT$KEPT" ;;
    lose-state) rm -rf "$ROOT$STATE/ctld"; cp -a "$ROOT$KEPT" "$ROOT$STATE/ctld" ;;
    accounting) mkdir -p "$ROOT$STATE"; : >"$ROOT$STATE/accounting"; start ;;
    no-accounting) rm -f "$ROOT$STATE/accounting"; start; stop_accounting ;;
    partitions) partitions "$1" ;;
    node) node "$1" ;;
    manage) [ $# -gt 0 ] || fail "manage needs a command"; $IN "$@" ;;
    as) [ $# -gt 0 ] || fail "as needs a command"; as_account "$@" ;;
    *) sed -n '2,/^set -eu/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;;
esac
