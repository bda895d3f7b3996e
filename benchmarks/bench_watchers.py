"""Many who watch one task: what they cost, and how soon the last of them hears of a change."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.bench_loop import Probed
from benchmarks.figures import Figure, below, percentile
from benchmarks.programs import Daemon
from benchmarks.scale import Scale
from benchmarks.wire import PATIENCE, RECEIVE_SIZE, Connection, Unexpected, form, head

REACHED = below(1000, " ms")
WEIGHT = below(64, " KiB")
BLOCK = below(50, " ms")

#: A job that waits for the next turn's file and then ends: each turn has a job of its own.
SCRIPTS = {
    "turn": (
        'until [ -e "$1" ]; do sleep 0.02; done\ndate +%s.%N >end.txt',
        '[[param]]\nname = "gate"\ntype = "string"\nrequired = true',
    )
}

#: Seconds in which memory settles.
SETTLE = 1.0

#: Descriptors beside the watchers' own.
SPARE = 200


class _Watchers:
    """Sockets on which a stream of events is open, and what each has been sent."""

    def __init__(self, port: int, uuids: list[str], count: int) -> None:
        self._poll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        request = head("GET", f"/task/events?ids={','.join(uuids)}")
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
            self.sockets[sock.fileno()] = sock
            self._poll.register(sock, select.EPOLLIN)
            sock.sendall(request)

    def close(self) -> None:
        """Go away."""
        self._poll.close()
        for sock in self.sockets.values():
            sock.close()

    def wait(self, text: bytes) -> float:
        """Until each has been sent this, the wall clock then; what came before is dropped."""
        tails = dict.fromkeys(self.sockets, b"")
        waiting = set(self.sockets)
        while waiting:
            ready = self._poll.poll(PATIENCE)
            if not ready:
                raise Unexpected(f"{len(waiting)} were not told {text!r}")
            for fd, _ in ready:
                data = self.sockets[fd].recv(RECEIVE_SIZE)
                if not data:
                    raise Unexpected("a stream ended")
                if text in tails[fd] + data:
                    waiting.discard(fd)
                tails[fd] = (tails[fd] + data)[-len(text) :]
        return time.time()


def watchers(place: Path, scale: Scale) -> list[Figure]:
    """Open the streams, then end one job after the other that all of them watch."""
    with _descriptors(scale.watchers + SPARE), ExitStack() as stack:
        daemon = stack.enter_context(
            Daemon(place / "daemon", SCRIPTS, module=("benchmarks.probed", "daemon"), slots=1)
        )
        probe = Probed(daemon)
        connection = stack.enter_context(daemon.connect())
        gates = [place / f"gate-{turn}" for turn in range(scale.watched_changes)]
        uuids = [_post(connection, gate) for gate in gates]
        # An endless one keeps the streams open.
        uuids.append(_post(connection, place / "never"))
        before = daemon.memory
        probe.take()
        crowd = _Watchers(daemon.port, uuids, scale.watchers)
        stack.callback(crowd.close)
        crowd.wait(uuids[-1].encode())
        time.sleep(SETTLE)
        weight = (daemon.memory - before) / scale.watchers / 1024
        opened = probe.take()
        cpu = daemon.cpu
        reached = []
        for gate, uuid in zip(gates, uuids, strict=False):
            gate.touch()
            told = crowd.wait(b'"exit_status":0')
            reached.append(1000 * (told - _ended(daemon, uuid)))
        spent = 1000 * (daemon.cpu - cpu) / len(gates)
        blocked = probe.take()
    return _figures(scale, weight, opened.longest, reached, spent, blocked.longest)


def _figures(
    scale: Scale, weight: float, opening: float, reached: list[float], spent: float, blocked: float
) -> list[Figure]:
    count = f"{scale.watchers:,}"
    return [
        Figure(
            what=f"From a change to the last of {count} watchers",
            value=max(reached),
            shown=f"{median(reached):.0f} ms",
            goal=REACHED,
            note=f"the goal is for the longest, {max(reached):.0f} ms; 95 of 100 within "
            f"{percentile(reached, 0.95):.0f} ms; {len(reached)} jobs' ends, from the job's last act on, so "
            f"that up to 250 ms are the wait for the daemon's next look; {spent:.0f} ms of processor time "
            "for each job, its successor's start included",
        ),
        Figure(
            what="Memory of one watcher",
            value=weight,
            shown=f"{weight:.0f} KiB",
            goal=WEIGHT,
            note=f"resident, of {count} streams that have been told {scale.watched_changes + 1} tasks each",
        ),
        Figure(
            what=f"Longest block of the loop while {count} watchers are told",
            value=blocked,
            shown=f"{blocked:.1f} ms",
            goal=BLOCK,
            note=f"while they came, all at once: {opening:.1f} ms",
        ),
    ]


def _post(connection: Connection, gate: Path) -> str:
    answer = connection.exchange(form("/task/", {"task_name": "turn", "gate": str(gate)}))
    if answer.status != 201:
        raise Unexpected(answer.body.decode())
    return str(answer.json()["uuid"])


def _ended(daemon: Daemon, uuid: str) -> float:
    return float((daemon.tasks / uuid / "end.txt").read_text(encoding="ascii"))


@contextmanager
def _descriptors(count: int) -> Iterator[None]:
    """Have this process and those that it starts open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise RuntimeError(f"{count} open files are needed, and {hard} are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


BENCHMARKS: dict[str, Callable[[Path, Scale], list[Figure]]] = {"watchers": watchers}
