"""Which copies of scripts are still needed, and the removal of the others.

A copy is needed by the scripts in service, and by tasks that may yet run: their launchers name it.
Whether somebody is about to need it, the copy's own date says (`copies`).
"""

from __future__ import annotations

import logging
from itertools import islice

from drmaaticd import launcher
from drmaaticd.copies import digest_of
from drmaaticd.errors import Unavailable
from drmaaticd.gate import FileGate
from drmaaticd.scripts import Catalogue
from drmaaticd.store import Store
from drmaaticd.workspace import Workspace

log = logging.getLogger(__name__)

#: Launchers read in one call to the file gate.
SLICE = 100


class Pruner:
    """Removes copies that nothing needs. All methods run on the loop."""

    def __init__(self, *, store: Store, workspace: Workspace, files: FileGate, catalogue: Catalogue) -> None:
        self._store = store
        self._workspace = workspace
        self._files = files
        self._catalogue = catalogue
        self._needed: dict[str, str] = {}
        """Of an old copy a task that was seen to need it: while that is live, no other is looked for."""

    async def prune(self) -> int:
        """Remove what is not needed; how many contents. What cannot be told now is left for the next time."""
        try:
            return await self._prune()
        except (OSError, Unavailable) as error:
            log.warning("copies of scripts that nothing needs any more are removed later: %s", error)
            return 0

    async def _prune(self) -> int:
        old = await self._files.run(self._workspace.old_scripts)
        if not old:
            return 0
        old -= await self._files.run(self._offered)
        self._needed = {
            digest: uuid for digest, uuid in self._needed.items() if digest in old and self._is_live(uuid)
        }
        gone = 0
        for digest in await self._not_needed(old - self._needed.keys()):
            gone += await self._files.run(self._workspace.remove_script, digest)
        if gone:
            log.info("copies of %d scripts that nothing needs any more were removed", gone)
        return gone

    def _offered(self) -> set[str]:
        """The digests of the scripts in service."""
        return {
            digest_of(script.content)
            for script in self._catalogue.all()
            if script.command is None or script.travels
        }

    def _is_live(self, uuid: str) -> bool:
        task = self._store.get(uuid)
        return task is not None and (task.stop or not task.final)

    async def _not_needed(self, digests: set[str]) -> set[str]:
        """Those that no live task's launcher names.

        The newest tasks first, as they are live for longest: what one of them needs is not looked for soon.
        """
        live = iter(self._store.live_uuids())
        while digests and (some := list(islice(live, SLICE))):
            for uuid, named in (await self._files.run(self._named, some)).items():
                self._needed.update(dict.fromkeys(named & digests, uuid))
                digests = digests - named
        return digests

    def _named(self, uuids: list[str]) -> dict[str, set[str]]:
        control, named = self._workspace.control, self._workspace.scripts_named
        return {uuid: named(launcher.head(control(uuid))) for uuid in uuids}
