"""Beside the tasks: the index, and the two questions of monitoring."""

from __future__ import annotations

from drmaaticd.errors import Unavailable
from drmaaticd.web import addresses
from drmaaticd.web.accept import prefers
from drmaaticd.web.base import Handler


class IndexHandler(Handler):
    """``/``: links for programs, the page for browsers."""

    def set_default_headers(self) -> None:
        """The answer depends on what the client would rather have."""
        super().set_default_headers()
        self.set_header("Vary", "Accept, Authorization, Origin")

    async def get(self) -> None:
        """Write what this service is, or send a browser on, which has no token to show."""
        accept = self.request.headers.get("Accept")
        if "Authorization" not in self.request.headers and prefers(accept, "text/html", "application/json"):
            self.set_status(303)
            self.set_header("Location", f"{self.service.config.public_url}/ui/")
            return
        self.write_json(self.service.index(await self.caller()))


class HealthHandler(Handler):
    """``/health``: open to everyone, also where anonymous callers are not served."""

    open_to_all = True

    async def get(self) -> None:
        """Write that the process lives. A bad token is refused here too."""
        if "Authorization" in self.request.headers:
            await self.caller()
        self.write_json(self.service.health())


class ReadyHandler(Handler):
    """``/ready``: whether the store and the DRM work."""

    async def get(self) -> None:
        """Write that all works, or raise `Unavailable`; why is for those who may see the metrics."""
        told = addresses.parse(self.address) in self.common.metrics_allow
        if not told or "Authorization" in self.request.headers:
            told = (await self.caller()).is_admin or told
        ready, reason = self.service.ready()
        if not ready:
            raise Unavailable(reason if told else "")
        self.write_json({"status": "ready"})
