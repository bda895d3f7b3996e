"""The processes of a job as one thing: suspended, resumed and ended together.

Works in a thread of its own, as it looks at every process of the machine. A job that has a control
group is that group; any other is what `processes.find` finds.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import stat
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from drmaaticd.drm import cgroups, processes
from drmaaticd.drm.accounts import Account
from drmaaticd.drm.processes import Stat, Target

log = logging.getLogger(__name__)

A = TypeVar("A")
T = TypeVar("T")

#: Seconds for which a job's first process, the launcher, is spared when all else is killed, so that
#: it can say how the command ended.
LAUNCHER_GRACE = 2.0

#: Seconds between two looks at a tree that is to end: the first pause and the longest.
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5

#: Seconds from one sweep for leftovers to the next; the jobs that end meanwhile share one.
SWEEP_PAUSE = 0.1


#: Removes a folder in the background, however large it is, under the account whose it is.
_REMOVE = """
remove() { rm -rf -- "$1" || { chmod -R u+rwx -- "$1"; rm -rf -- "$1"; }; }
remove "$1" </dev/null >/dev/null 2>&1 &
"""
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Tree:
    """Which processes are meant."""

    target: Target
    cgroup: Path | None = None
    scratch: Path | None = None
    """Where its launcher makes the temporary folder, and leaves it if it is killed."""

    def members(self, account: Account) -> Sequence[Stat]:
        """Those that live, now. Blocking. Raises OSError."""
        if self.cgroup is not None and self.cgroup.exists():
            stats = [processes.read_stat(pid) for pid in cgroups.pids(self.cgroup)]
            return [stat for stat in stats if stat is not None and stat.state not in "ZX"]
        return account.find([self.target])[self.target]


class Trees:
    """Acts on trees. All methods run on the loop; what blocks is done in this object's thread."""

    def __init__(self, kill_after: float, account: Account) -> None:
        """`kill_after`: seconds from SIGTERM to SIGKILL. `account`: whose the processes are."""
        self._kill_after = kill_after
        self._account = account
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-signals")
        self._leftovers: dict[Tree, None] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._unclear: set[str] = set()
        """Runs (`Target.run`) of which something may be left."""
        self._when_clear: list[tuple[set[str], Callable[[], None]]] = []

    async def suspend(self, tree: Tree) -> None:
        """Stop every process of the tree. Raises OSError."""
        account = self._account
        await self._run(lambda: processes.stop_all(lambda: tree.members(account), account.send))

    async def resume(self, tree: Tree) -> None:
        """Let every process of the tree go on. Raises OSError."""
        account = self._account
        await self._run(lambda: account.send(tree.members(account), signal.SIGCONT))

    async def end(self, tree: Tree) -> None:
        """End the tree: SIGTERM, SIGCONT so that stopped ones hear it, after a while SIGKILL.

        Returns when none is left, or none that this process may signal.
        """
        loop = asyncio.get_running_loop()
        self._unclear.add(tree.target.run)
        deadline = loop.time() + self._kill_after
        pause = FIRST_PAUSE
        step = _ask_to_end
        while await self._attempt(step, tree):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
            late = loop.time() - deadline
            step = _is_alive if late < 0 else _kill_command if late < LAUNCHER_GRACE else _kill
        await self._attempt(_clear, tree)
        self._cleared([tree])

    def sweep_later(self, tree: Tree) -> None:
        """Kill what a job whose first process has ended left behind; one look serves many jobs."""
        self._leftovers[tree] = None
        self._unclear.add(tree.target.run)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    async def sweep(self, tree: Tree) -> None:
        """Kill what a job left behind, and return when nothing is left."""
        pause = FIRST_PAUSE
        while await self._attempt(_sweep, [tree]):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    async def _sweep(self) -> None:
        pause = SWEEP_PAUSE
        while self._leftovers:
            left = await self._sweep_once()
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE) if left else SWEEP_PAUSE
        self._sweeper = None

    async def _sweep_once(self) -> bool:
        """Sweep all that is to be swept; whether anything was, which is looked at again."""
        trees = list(self._leftovers)
        found = await self._attempt(_sweep, trees)
        left = trees if found is True else found
        clear = set(trees).difference(left)
        for tree in clear:
            self._leftovers.pop(tree, None)
        self._cleared(clear)
        return bool(left)

    def when_clear(self, runs: Iterable[str], action: Callable[[], None]) -> None:
        """Do this once nothing can be left of these runs (`Target.run`): at once, or when it is swept.

        Not at all if this is closed before: what is on record of them tells the next one to look.
        """
        unclear = self._unclear.intersection(runs)
        if unclear:
            self._when_clear.append((unclear, action))
        else:
            action()

    def _cleared(self, trees: Iterable[Tree]) -> None:
        runs = {tree.target.run for tree in trees}
        self._unclear -= runs
        waiting, self._when_clear = self._when_clear, []
        for unclear, action in waiting:
            unclear -= runs
            if unclear:
                self._when_clear.append((unclear, action))
            else:
                action()

    async def _attempt(self, work: Callable[[Account, A], T], on: A) -> T | Literal[True]:
        """Do it in the thread; True, "there is more to do", if the machine is too short of something."""
        try:
            return await self._run(lambda: work(self._account, on))
        except OSError as error:
            log.warning("processes of ended jobs could not be looked at and are tried again: %s", error)
            return True

    async def close(self) -> None:
        """Sweep once more and end the thread; a tree that is just being ended is left as it is."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        if self._leftovers:
            await self._sweep_once()
        self._thread.shutdown(wait=True)

    def _run(self, work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)


def _ask_to_end(account: Account, tree: Tree) -> bool:
    account.send(tree.members(account), signal.SIGTERM)
    return account.send(tree.members(account), signal.SIGCONT) > 0


def _is_alive(account: Account, tree: Tree) -> bool:
    return bool(tree.members(account))


def _kill_command(account: Account, tree: Tree) -> bool:
    """SIGKILL all but the launcher; returns whether anything is left that may be signalled."""
    root = tree.target.root
    members = tree.members(account)
    others = [known for known in members if root is None or known.pid != root.pid]
    return account.send(others, signal.SIGKILL) > 0 or len(others) < len(members)


def _kill(account: Account, tree: Tree) -> bool:
    """SIGKILL all; returns whether there was anything to signal."""
    members = tree.members(account)
    if members and tree.cgroup is not None and cgroups.kill(tree.cgroup):
        return True
    return account.send(members, signal.SIGKILL) > 0


def _sweep(account: Account, trees: list[Tree]) -> list[Tree]:
    """SIGKILL the leftovers of these trees; returns the trees that had any."""
    left = [tree for tree in trees if tree.cgroup is not None and _kill(account, tree)]
    loose = [tree for tree in trees if tree.cgroup is None]
    found = account.find([tree.target for tree in loose]) if loose else {}
    left.extend(tree for tree in loose if account.send(found[tree.target], signal.SIGKILL))
    for tree in set(trees).difference(left):
        _clear(account, tree)
    return left


def _clear(account: Account, tree: Tree) -> None:
    """Remove what a tree of which nothing lives any more has left: its group and its temporary folder."""
    if tree.cgroup is not None:
        cgroups.remove(tree.cgroup)
    if tree.scratch is not None and _is_folder_of(account, tree.scratch):
        with account.piped(["/bin/sh", "-c", _REMOVE, "sh", str(tree.scratch)], _ENVIRONMENT):
            log.info("%s, which a killed launcher has left, is removed", tree.scratch)


def _is_folder_of(account: Account, path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == account.uid
