"""The text of ``run.sh`` with its places to fill in (``@name@``); filled in by `launcher.render`.

POSIX sh, read by whatever ``/bin/sh`` is on the node. Each quirk that a line works around is named
at that line, in the script itself: it is what an administrator opens when a job misbehaves.
"""

TEMPLATE = r"""#!/bin/sh
# The launcher of a drmaaticd task. Generated: it is replaced by rename, never edited in place.
# It claims the task, runs its command and leaves behind how that ended.
control=@control@
spool=@spool@
folder=@folder@
command=@command@
task=@task@
attempt=@attempt@
cpus=@cpus@
array=@array@
rerunnable=@rerunnable@
shared=@shared@

# First: start anew with a clean environment. Only what the DRM tells its jobs is kept.
if [ "${1-}" != --clean ]; then
  LC_ALL=C; PATH=@path@; export LC_ALL PATH
  set --
  # A value with a newline can look like further names: a name counts only if it is set.
  for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
    case $name in
      @drm_variables@) eval "[ -z \"\${$name+set}\" ] || set -- \"\$@\" \"\$name=\$$name\"" ;;
    esac
  done
  user=${USER:-${LOGNAME:-$(id -un 2>/dev/null || id -u)}}
  exec env -i "$@" "PATH=$PATH" "HOME=${HOME:-/}" "USER=$user" "LOGNAME=$user" SHELL=/bin/sh \
    LANG=C.UTF-8 LC_ALL=C "TMPDIR=${TMPDIR:-/tmp}" PYTHONUNBUFFERED=1 "DRMAATICD_TASK_ID=$task" \
    /bin/sh "$control/run.sh" --clean
fi
umask 027
exec </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-

# A shell without a trap dies of these and writes nothing. The command gets them with their default
# meaning, as traps are not inherited.
caught=
trap 'caught=yes' HUP INT TERM USR1 USR2 XCPU

say() { printf 'drmaaticd: %s\n' "$*" >&2; }
refuse() { say "$*"; exit 1; }

# Which job is this? Each DRM has its own names; a restart count that only says whether the job was
# restarted, or none at all, is not exact.
exact=
index=
if [ -n "${SLURM_JOB_ID-}" ]; then
  id=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} restart=${SLURM_RESTART_COUNT:-0} exact=yes
  index=${SLURM_ARRAY_TASK_ID-}
elif [ -n "${PBS_JOBID-}" ]; then
  id=$PBS_JOBID restart=0 index=${PBS_ARRAY_INDEX:-${PBS_ARRAYID-}}
  case $id in *\[*\]*) id="${id%%\[*}[]${id#*\]}" ;; esac
elif [ -n "${LSB_JOBID-}" ]; then
  id=$LSB_JOBID restart=0 index=${LSB_JOBINDEX-}
elif [ -n "${JOB_ID-}" ]; then
  id=$JOB_ID restart=${RESTARTED:-0} index=${SGE_TASK_ID-}
else
  id=${DRMAATICD_JOB_ID-} restart=${DRMAATICD_RESTART_COUNT:-0} exact=yes
  index=${DRMAATICD_TASK_INDEX-}
fi
case $id in ''|*[!A-Za-z0-9._\[\]-]*) refuse "no usable job id in the environment: '$id'" ;; esac
case $restart in ''|*[!0-9]*) restart=0 ;; esac

here=$control
bell=$spool/$task
if [ -n "$array" ]; then
  case $index in ''|0*|*[!0-9]*) refuse "no usable array index in the environment: '$index'" ;; esac
  here=$control/$index
  bell=$spool/$task.$index
  mkdir -p "$here" || refuse "cannot make $here"
  # The daemon may have to take the claim for nobody here.
  [ -z "$shared" ] || chmod g+w "$here" 2>/dev/null || :
  export DRMAATICD_TASK_INDEX="$index"
else
  unset index DRMAATICD_TASK_INDEX
fi

# Claim the task: of all copies that may be started, one runs. Whatever ln says (NFS may have done
# it and lost the answer), the link decides.
base=$attempt
take_claim() { ln -s "$id.$restart" "$here/claim" 2>/dev/null; held=$(readlink "$here/claim"); }
has_begun() { [ -e "$here/running.$1" ] || has_ended "$1" any; }
# Whether that attempt has ended, in whichever way or, with "final", not by a signal to the launcher.
has_ended() {
  for file in "$here/ended.$1".*; do
    [ -e "$file" ] || continue
    case $2$file in final*.caught) ;; *) return 0 ;; esac
  done
  return 1
}
for try in 1 2 3 4 5; do
  take_claim
  [ -z "$held" ] || break
  sleep 1
done
old=${held##*.}
case $old in ''|*[!0-9]*) old= ;; esac
if [ -z "$held" ]; then
  refuse "cannot claim the task in $here"
elif [ "$held" = "$id.$restart" ] && ! has_begun $((base + restart)); then
  :
elif [ -n "$old" ] && [ "$held" = "$id.$old" ]; then
  # The same job once more.
  if [ -z "$exact" ] && [ "$old" -ge "$restart" ]; then
    has_begun $((base + old)) || exit 0
    restart=$((old + 1))
  fi
  [ "$restart" -gt "$old" ] && [ -n "$rerunnable" ] || exit 0
  ! has_ended $((base + old)) final || exit 0
  mv -f "$here/claim" "$here/claim.$old" 2>/dev/null
  take_claim
  [ "$held" = "$id.$restart" ] || exit 0
else
  exit 0
fi
attempt=$((base + restart))

# Made at once, so that the ending needs no new inode on a disk that may be full by then.
running=$here/running.$attempt
for try in 1 2 3 4 5; do
  true 2>/dev/null >"$running" && break
  sleep 1
done
if [ ! -e "$running" ]; then
  rm -f "$here/claim"
  refuse "cannot write in $here"
fi
# What the launcher's own helpers used so far; the same again at the end shows what the command used.
{ command times >>"$running"; } 2>/dev/null

# When the node can start no process any more, sh gives up and comes here; exec still works.
status=1 word=start
trap 'exec mv -f "$running" "$here/ended.$attempt.$status.0${word:+.$word}"' EXIT

# A failed redirection ends the shell for special built-ins, but not for true and command.
ring() {
  for try in 1 2 3; do
    true 2>/dev/null >>"$bell.$1" && break
    sleep 1
  done
}

own_tmp=
# A command may leave folders that it may not write to (the Go module cache is made of such).
clear_tmp() { rm -rf "$own_tmp" || { chmod -R u+rwx "$own_tmp"; rm -rf "$own_tmp"; }; }
finish() {
  status=$1 word=$2
  [ -z "$caught" ] || word=caught
  { command times >>"$running"; } 2>/dev/null
  ended=$here/ended.$attempt.$status.$(date +%s)${word:+.$word}
  patience=600
  while ! mv -f "$running" "$ended" 2>/dev/null; do
    [ ! -e "$ended" ] || break
    # Without its file it makes a new one; without the whole folder it gives up sooner.
    [ -e "$running" ] || ! true 2>/dev/null >"$ended" || break
    [ -d "$here" ] || [ "$patience" -le 60 ] || patience=60
    patience=$((patience - 1))
    [ "$patience" -gt 0 ] || break
    sleep 1
  done
  trap - EXIT
  ring ended
  [ -z "$own_tmp" ] || clear_tmp 2>/dev/null
  case $status in @kept_statuses@) exit 1 ;; esac
  exit "$status"
}

ring started

cd "$folder" 2>/dev/null || { sleep 1; cd "$folder" 2>/dev/null; } || finish 1 folder

# Standard output and error: never through a link, never onto something that is there already.
out=@out@
err=@err@
rm -f "$out" "$err" 2>/dev/null
set -C
true 2>/dev/null >"$out" && true 2>/dev/null >"$err" || { set +C; finish 1 output; }
set +C
[ -f "$command" ] && [ -x "$command" ] || { say "cannot execute $command" 2>>"$err"; finish 127 command; }

case ${DRMAATICD_RUN:-/} in
  */*) ;;
  # By this name the embedded engine finds it, should this launcher be killed.
  *) own_tmp=$TMPDIR/drmaaticd-$DRMAATICD_RUN; mkdir -m 700 "$own_tmp" 2>/dev/null || own_tmp= ;;
esac
[ -n "$own_tmp" ] ||
  own_tmp=$(mktemp -d "$TMPDIR/drmaaticd-XXXXXXXX" 2>/dev/null ||
    mktemp -d /tmp/drmaaticd-XXXXXXXX 2>/dev/null)
[ -z "$own_tmp" ] || export TMPDIR="$own_tmp"
for granted in "${NSLOTS-}" "${SLURM_CPUS_PER_TASK-}" "${NCPUS-}" "${LSB_DJOB_NUMPROC-}"; do
  case $granted in ''|0*|*[!0-9]*) ;; *) cpus=$granted; break ;; esac
done
export DRMAATICD_CPUS="$cpus"

# It stays while modules and setup lines run, so that their failure is told from the command's.
# Within the job's shell a script's own variables count, whatever their names, and its own PATH: what is
# said there is said in literals, under a name of our own, and of rm the system's is taken.
drmaaticd_preparing=$here/preparing
prepares=@prepares@
[ -z "$prepares" ] || true 2>/dev/null >"$drmaaticd_preparing"

run() { (
  unset LC_ALL OLDPWD DRMAATICD_JOB_ID DRMAATICD_RESTART_COUNT
@environment@
@modules@
@setup@
  @prepared@
  exec @command@ @arguments@
) >>"$out" 2>>"$err"; }
[ -z "$caught" ] || finish 143 ''
# What sh itself would say of a command that was killed goes nowhere. (It has to be a function: for a
# redirected group of one subshell dash 0.5.12 forgets the subshell's own redirections.)
run 2>/dev/null
status=$?
# A signal to the whole job may reach the command before it reaches this shell, which then waits for it.
case $status in
  129|130|138|140|143|152) [ -n "$caught" ] || sleep 1 ;;
esac
word=
if [ -n "$prepares" ] && [ -e "$drmaaticd_preparing" ]; then
  rm -f "$drmaaticd_preparing"
  word=setup
  [ "$status" -ne 0 ] || status=1
fi
finish "$status" "$word"
"""
