"""Names in the spool that are of no task here: some are left alone, however many somebody makes."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

#: So many names are left alone, and so many told of.
KEPT = 1000
TOLD = 20


class Strangers:
    """What is in the spool and is not this daemon's to answer or to remove."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._cluttered = False

    def leave(self, name: str) -> bool:
        """Whether it stays where it is: it may belong to another daemon's store.

        Not any number of them: whoever may ring may also fill the folder with names.
        """
        if len(self.names) >= KEPT:
            if not self._cluttered:
                log.warning("the spool holds more than %d names of no task; others go", KEPT)
            self._cluttered = True
            return False
        self.names.add(name)
        if len(self.names) <= TOLD:
            log.warning("the spool holds a doorbell of an unknown task, which is left alone: %r", name)
        return True
