"""The composition root: builds every room, owns every timer and thread, starts and stops them.

Nothing else creates a room or a background task that outlives a request.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.ioloop import PeriodicCallback
from tornado.netutil import bind_sockets

from drmaaticd import logs, runas
from drmaaticd.admin import AdminSocket
from drmaaticd.administration import Administration
from drmaaticd.auth.accounts import Accounts
from drmaaticd.auth.keys import KeyRing
from drmaaticd.changes import Changes
from drmaaticd.config import Config
from drmaaticd.controls import Controls
from drmaaticd.desk import Desk
from drmaaticd.engines import environment_to_start_anew, make_engine
from drmaaticd.errors import ConfigurationError, Finding, StoreError
from drmaaticd.gate import FileGate
from drmaaticd.housekeeping import Housekeeping
from drmaaticd.intake import Intake
from drmaaticd.notify import Notifier
from drmaaticd.pruning import Pruner
from drmaaticd.scripts import Catalogue
from drmaaticd.service import Service
from drmaaticd.signals import Signals, held
from drmaaticd.store import Store
from drmaaticd.submission import Submitter
from drmaaticd.sync import Sync
from drmaaticd.ticker import SteadyLoop, Timer
from drmaaticd.watching import Watching
from drmaaticd.web.app import WebApplication, make_app, make_server
from drmaaticd.web.requestid import RequestIdFilter
from drmaaticd.workspace import Workspace

log = logging.getLogger(__name__)

#: Seconds between two looks at ``scripts.d``.
SCRIPTS_INTERVAL = 2.0

#: Seconds between two times of forgetting expired tokens and full accounts of credit.
ACCOUNTS_INTERVAL = 600.0

#: Seconds that requests under way are given when the daemon is told to stop.
DRAIN_SECONDS = 20.0

#: Seconds between two looks whether they have been answered.
DRAIN_LOOK = 0.05

#: prctl(2): whether the process's memory and /proc entries are open to its own account.
PR_SET_DUMPABLE = 4


class Daemon:
    """Everything, once. `serve` returns when the daemon has been told to stop."""

    def __init__(self, config: Config, notifier: Notifier) -> None:
        self.config = config
        self._notifier = notifier
        self._stop = asyncio.Event()
        self._status = 0
        self._background: list[asyncio.Task[Any]] = []
        self._timers: list[Timer] = []
        self._watchdog: PeriodicCallback | None = None
        self._started = False
        self._reload_asked = False
        self._undo: list[Callable[[], Awaitable[None]]] = []

    def stop(self, status: int = 0) -> None:
        """Make `serve` end, orderly, as soon as it can, and return this exit status."""
        self._status = max(self._status, status)
        self._stop.set()

    def reload(self) -> None:
        """Read the scripts again; once everything is started, if it is not, and never when it is to end."""
        self._reload_asked = not self._started
        if self._started and not self._stop.is_set():
            task = asyncio.get_running_loop().create_task(self._reload())
            self._background.append(task)
            task.add_done_callback(self._background.remove)

    async def serve(self) -> int:
        """Start everything, serve until `stop`, stop everything in order; returns the exit status."""
        try:
            await self._serve()
        except _ToldToStop:
            log.info("told to stop before it served")
            self._notifier.stopping()
        finally:
            for undo in reversed(self._undo):
                await undo()
        log.info("stopped")
        return self._status

    async def _serve(self) -> None:
        server, sockets = await self._build()
        await self._start()
        try:
            await self._recover()
            await self._open(server, sockets)
            await self._stop.wait()
            await self._close(server)
        finally:
            await self._end()

    def _go_on(self) -> None:
        """Raise `_ToldToStop` if that is so."""
        if self._stop.is_set():
            raise _ToldToStop

    # -- building ------------------------------------------------------------------------------

    async def _build(self) -> tuple[HTTPServer, list[socket.socket]]:
        self._go_on()
        config = self.config
        files = FileGate()
        self._cleanup(files.close)
        self.store = store = await files.run(Store.open, config.paths.state_dir)
        self._undo.append(store.close)
        self._go_on()
        changes = Changes()
        store.on_change = changes.publish
        store.on_failure = self._store_failed
        jobs = runas.account(config)
        if jobs is not None:
            self._cleanup(jobs.close)
            await files.run(runas.prepare, config, jobs)
        workspace = Workspace(config.paths.tasks_dir, jobs=jobs)
        await files.run(_check_tasks, store, workspace)
        await files.run(workspace.prepare, lambda uuid: store.get(uuid) is not None)
        self._catalogue = Catalogue(config.paths.scripts_dir, config.groups)
        self._files = files
        await self._load_scripts()
        self._go_on()
        # Bound before the engine starts jobs: a port that is taken ends the start without a trace.
        sockets = _bind(config)
        for sock in sockets:
            self._cleanup(sock.close)
        config = config.listening_on(sockets[0].getsockname()[1])
        self._engine = engine = make_engine(config, account=jobs)
        self._sync = sync = Sync(store=store, engine=engine, workspace=workspace, files=files, config=config)
        engine.listener = sync.note
        self._submitter = submitter = Submitter(
            store=store, engine=engine, workspace=workspace, files=files, sync=sync, config=config
        )
        self._controls = controls = Controls(
            store=store, engine=engine, workspace=workspace, files=files, sync=sync, submitter=submitter
        )
        pruner = Pruner(store=store, workspace=workspace, files=files, catalogue=self._catalogue)
        self._housekeeping = housekeeping = Housekeeping(
            store=store, workspace=workspace, files=files, pruner=pruner, config=config
        )
        sync.on_final += [controls.forget, housekeeping.settled]
        keys = await files.run(KeyRing.open, config.paths.state_dir, time.time())
        self._accounts = accounts = Accounts(config=config, store=store, keys=keys, files=files)
        self._cleanup(accounts.close)
        sync.on_final.append(accounts.settled)
        self._intake = intake = Intake(
            config=config,
            catalogue=self._catalogue,
            store=store,
            workspace=workspace,
            files=files,
            changes=changes,
            submitter=submitter,
            accounts=accounts,
        )
        self._watching = watching = Watching(
            store=store,
            recheck=accounts.recheck,
            payer=accounts.payer,
            most=config.server.max_streams,
            most_each=config.server.max_streams_per_caller,
        )
        changes.listen(None, watching.publish)
        administration = Administration(
            config=config,
            accounts=accounts,
            store=store,
            catalogue=self._catalogue,
            engine=engine,
            files=files,
            reload=self._load_scripts,
        )
        service = Service(
            config=config,
            catalogue=self._catalogue,
            store=store,
            workspace=workspace,
            engine=engine,
            files=files,
            changes=changes,
            intake=intake,
            controls=controls,
            housekeeping=housekeeping,
            accounts=accounts,
            watching=watching,
            desk=Desk(config=config, accounts=accounts, store=store, administration=administration),
        )
        self._app = make_app(service)
        return make_server(self._app, config), sockets

    def _cleanup(self, function: Callable[[], object]) -> None:
        async def undo() -> None:
            function()

        self._undo.append(undo)

    def _store_failed(self, reason: str) -> None:
        log.critical("the store has failed, nothing more is acknowledged, the daemon ends: %s", reason)
        self.stop(status=1)

    # -- starting ------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._go_on()
        self._warn()
        await self._engine.start()
        self._undo.append(self._engine.close)
        self._go_on()

    async def _recover(self) -> None:
        """Take up what the daemon before left. It is taken up again if this is told to stop meanwhile."""
        self._run("submissions", self._submitter.run_forever())
        self._run("reaping", self._sync.reaper.run_forever())
        self._accounts.recover()
        recovery = asyncio.create_task(self._submitter.recover())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((recovery, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not recovery.done():
            recovery.cancel()
            await asyncio.gather(recovery, return_exceptions=True)
        self._go_on()
        await recovery
        self._controls.recover()

    async def _open(self, server: HTTPServer, sockets: list[socket.socket]) -> None:
        """Begin what is done every so often, and take requests."""
        self._run("housekeeping", self._housekeeping.run_forever())
        self._run("the streams of events", self._watching.run_forever())
        drm = self.config.drm
        self._timers = [
            Timer("the spool pass", drm.sync_interval, self._sync.spool_pass),
            Timer("the sweep", drm.sweep_interval, self._sync.sweep),
            Timer("the look at scripts.d", SCRIPTS_INTERVAL, self._poll_scripts),
            Timer("the pruning of accounts", ACCOUNTS_INTERVAL, self._accounts.prune),
        ]
        for timer in self._timers:
            timer.start()
        self._watchdog = PeriodicCallback(
            self._notifier.watchdog, (self._notifier.watchdog_interval or 3600.0) * 1000
        )
        self._watchdog.start()
        self._admin = AdminSocket(self.config.paths.state_dir, self._accounts)
        await self._admin.start()
        self._undo.append(self._admin.close)
        server.add_sockets(sockets)
        self._announce(sockets)
        self._started = True
        if self._reload_asked:
            self.reload()

    def _warn(self) -> None:
        for finding in self.config.warnings():
            log.warning("%s", finding)
        if text := runas.as_root(self.config):
            log.warning("%s", text)
        text, warn = runas.trust(self.config)
        if text:
            log.log(logging.WARNING if warn else logging.INFO, "%s", text)

    def _announce(self, sockets: list[socket.socket]) -> None:
        host, port = sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"listening on http://{shown}:{port}", file=sys.stderr, flush=True)
        self._notifier.ready(f"listening on http://{shown}:{port}")

    def _run(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run for as long as the daemon; an end that nobody asked for ends the daemon, loudly."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                log.critical("%s ended: the daemon cannot go on", name, exc_info=task.exception())
                self.stop(status=1)

        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        task.add_done_callback(ended)
        self._background.append(task)

    # -- scripts -------------------------------------------------------------------------------

    async def _reload(self) -> None:
        self._notifier.reloading()
        try:
            await self._load_scripts()
        finally:
            if not self._stop.is_set():
                self._notifier.ready()

    async def _poll_scripts(self) -> None:
        if await self._files.run(self._catalogue.changed):
            await self._load_scripts()

    async def _load_scripts(self) -> None:
        for finding in await self._files.run(self._catalogue.load):
            log.warning("%s", finding)
        log.info("%d scripts are in service", len(self._catalogue.all()))

    # -- stopping ------------------------------------------------------------------------------

    async def _close(self, server: HTTPServer) -> None:
        """Accept nothing more, and let requests under way finish for a while."""
        log.info("stopping; jobs go on")
        self._notifier.stopping()
        self._intake.stopping = True
        server.stop()
        self._watching.stop()
        await self._admin.close()
        await _drain(server, self._app, DRAIN_SECONDS)

    async def _end(self) -> None:
        """Stop what runs by itself, as far as it has been started."""
        await self._app.close()
        await self._intake.close()
        if self._watchdog is not None:
            self._watchdog.stop()
        for timer in self._timers:
            await timer.stop()
        await self._submitter.close()
        await self._controls.close()
        background = tuple(self._background)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._housekeeping.close()


class _ToldToStop(Exception):
    """The daemon was told to stop before it was started."""


async def _drain(server: HTTPServer, app: WebApplication, seconds: float) -> None:
    """Let requests under way be answered until time is up, then close every connection."""
    waited = 0.0
    while app.requests_under_way and waited < seconds:
        await asyncio.sleep(DRAIN_LOOK)
        waited += DRAIN_LOOK
    await server.close_all_connections()


def _bind(config: Config) -> list[socket.socket]:
    server = config.server
    try:
        return bind_sockets(server.port, server.address)
    except OSError as error:
        raise ConfigurationError(
            [
                Finding(
                    config.file or config.paths.state_dir,
                    f"cannot listen on {server.address} port {server.port}: {error.strerror or error}",
                    key="server.port",
                )
            ]
        ) from error


def _check_tasks(store: Store, workspace: Workspace) -> None:
    """Refuse an empty folder in the place of the tasks': live ones would be given up, and their files missed.

    Raises `StoreError`.
    """
    folder, count = workspace.tasks_dir, store.count_folders()
    if count and workspace.is_blank():
        raise StoreError(
            f"{folder} holds no tasks, but the store knows {count} that have their files there: is its file "
            f"system mounted, is tasks_dir right? If the files are lost for good: "
            f"mkdir -p {workspace.control_dir}"
        )


def protect_memory() -> None:
    """Keep jobs under the same account from reading this process's memory (and so its keys)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        log.warning("the memory could not be protected: %s", os.strerror(ctypes.get_errno()))


def run(config: Config, signals: Signals) -> int:
    """Run the daemon until it is told to stop; returns its exit status.

    Raises `ConfigurationError` or `StoreError` if it cannot start.
    """
    environment = environment_to_start_anew(config)
    if environment is not None:
        log.info("starting anew, with room for libdrmaa's thread-local storage")
        with held():
            if not signals.stop_asked:
                os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606  # ourselves
    logs.mark_records(RequestIdFilter())
    os.umask(0o027)
    protect_memory()
    return asyncio.run(serve(config, signals))


async def serve(config: Config, signals: Signals) -> int:
    """Build a daemon and have it serve until a signal ends it; returns its exit status."""
    SteadyLoop()
    daemon = Daemon(config, Notifier.from_environment())
    signals.attach(daemon.stop, daemon.reload)
    try:
        return await daemon.serve()
    finally:
        signals.ignore()
