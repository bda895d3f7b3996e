"""Telling systemd how the daemon is (sd_notify(3)): ready, reloading, stopping, alive.

When and how often is the daemon's business; without systemd every call does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

#: Longest that a message may wait for systemd's queue, seconds: it is sent from the loop.
SEND_TIMEOUT = 0.25
#: systemd advises to report at half the time after which it loses patience (sd_watchdog_enabled(3)).
WATCHDOG_SHARE = 0.5


class Notifier:
    """Sends state changes to the service manager.

    `address` is the value of ``NOTIFY_SOCKET`` (a path, or ``@name`` in the abstract namespace), None
    where nobody listens. `watchdog_interval` is how often `watchdog` should be called, in seconds,
    None if it need not be.
    """

    def __init__(self, address: str | None = None, watchdog_interval: float | None = None) -> None:
        self.address = address
        self.watchdog_interval = watchdog_interval
        self._failed = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] | None = None) -> Notifier:
        """What the environment says; its variables are taken out, so that no job inherits them."""
        environ = os.environ if environ is None else environ
        address = environ.pop("NOTIFY_SOCKET", None)
        usec = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        if address is not None and not address.startswith(("/", "@")):
            log.warning("NOTIFY_SOCKET is neither a path nor an abstract name: %s", address)
            address = None
        interval = None
        if address and usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid())):
            interval = int(usec) / 1e6 * WATCHDOG_SHARE
        return cls(address, interval)

    def ready(self, status: str = "") -> None:
        """The daemon accepts connections, for the first time or again after `reloading`."""
        self._send({"READY": "1", "STATUS": status})

    def reloading(self) -> None:
        """SIGHUP has come; `ready` follows."""
        self._send({"RELOADING": "1", "MONOTONIC_USEC": str(time.monotonic_ns() // 1000)})

    def stopping(self, status: str = "") -> None:
        """The daemon has begun to end."""
        self._send({"STOPPING": "1", "STATUS": status})

    def watchdog(self) -> None:
        """The loop turns."""
        self._send({"WATCHDOG": "1"})

    def status(self, text: str) -> None:
        """One line that ``systemctl status`` shows."""
        self._send({"STATUS": text})

    def _send(self, fields: dict[str, str]) -> None:
        if self.address is None:
            return
        lines = (f"{key}={' '.join(value.split())}" for key, value in fields.items() if value)
        message = "\n".join(lines).encode("utf-8", "replace")
        # A leading @ stands for the NUL of Linux's abstract namespace (unix(7)).
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(SEND_TIMEOUT)
                sock.connect(name)
                sock.sendall(message)
            self._failed = False
        except OSError as error:
            if not self._failed:  # once a series: the watchdog would fill the log
                log.warning("systemd cannot be told %s: %s", next(iter(fields)), error)
            self._failed = True
