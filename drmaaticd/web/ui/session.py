"""Who sits at the browser: a cookie that holds one of the daemon's tokens, under ``/ui/`` alone.

The API never looks at a cookie, and the page never at ``Authorization``. A request that changes
something must come from the page itself: same origin, and with the token against request forgery
(Tornado's double-submit cookie), in the header ``X-Xsrftoken`` or the query's ``_xsrf``.
"""

from __future__ import annotations

import contextlib
from http.cookies import Morsel
from typing import Any
from urllib.parse import quote, urlsplit

from tornado.web import HTTPError

from drmaaticd.errors import Forbidden, NotAuthenticated
from drmaaticd.web.base import Handler
from drmaaticd.web.interface import Caller
from drmaaticd.web.paths import task_uuid

#: The cookie's value is one of these, a dot, and the token.
COOKIE = "drmaaticd_session"
ISSUED = "issued"
"""The token was made for this session and ends with it."""
PASTED = "pasted"
"""The token was brought along and outlives the session."""

XSRF_COOKIE = "drmaaticd_xsrf"

#: A read-only link's secret, for the addresses of its one task: it is then in none of them.
LINK_COOKIE = "drmaaticd_link"

#: For whom the page was made that sends a request (`user_token`).
USER_HEADER = "X-Page-User"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def root_of(public_url: str) -> str:
    """The path below which everything stands, without a trailing slash: mostly empty."""
    return urlsplit(public_url).path.rstrip("/")


def cookie_attributes(public_url: str) -> dict[str, Any]:
    """What every cookie of the page has; ``Secure`` unless the page is served without TLS."""
    return {
        "path": f"{root_of(public_url)}/ui",  # for /ui itself too (RFC 6265, section 5.1.4)
        "httponly": True,
        "samesite": "Lax",
        "secure": urlsplit(public_url).scheme == "https",
    }


def user_token(caller: Caller | None) -> str:
    """The key of a user, percent-encoded as JavaScript's ``encodeURIComponent`` does; empty for nobody."""
    return "" if caller is None or caller.user is None else quote(caller.user, safe="!'()*-._~")


class Session(Handler):
    """Mixed into a handler, makes its caller the one of the session."""

    @property
    def cookie_token(self) -> tuple[str, str]:
        """How the session's token came here, and the token; both empty without a session."""
        morsel: Morsel[str] | None = self.request.cookies.get(COOKIE)
        kind, dot, token = (morsel.value if morsel is not None else "").partition(".")
        return (kind, token) if dot and kind in (ISSUED, PASTED) and token.isascii() else ("", "")

    def begin_session(self, kind: str, token: str, seconds: float | None = None) -> None:
        """Set the cookie; `seconds` is how long the browser keeps it, else until it is closed."""
        attributes = cookie_attributes(self.service.config.public_url)
        if seconds is not None:
            attributes["max_age"] = int(seconds)
        self.set_cookie(COOKIE, f"{kind}.{token}", **attributes)

    def end_session(self) -> None:
        """Take the cookie away."""
        attributes = cookie_attributes(self.service.config.public_url)
        self.clear_cookie(COOKIE, **attributes)

    def set_default_headers(self) -> None:
        """As with the API, but nothing here is for other origins, and the cookie decides."""
        super().set_default_headers()
        for name in [name for name in self._headers if name.startswith("Access-Control-")]:
            self.clear_header(name)
        self.set_header("Vary", "Cookie")

    def authorization(self) -> str | None:
        """The session's token. Raises `Forbidden` for a request that somebody else's page has sent."""
        if self.request.method not in _SAFE:
            self.check_same_origin()
        _, token = self.cookie_token
        return f"Bearer {token}" if token else None

    def follow_link(self, caller: Caller, uuid: str) -> Caller:
        """The caller, with what the cookie of a link lets them read while it lasts."""
        morsel: Morsel[str] | None = self.request.cookies.get(LINK_COOKIE)
        if morsel is not None:
            with contextlib.suppress(NotAuthenticated):  # it has expired: they may be somebody by now
                return self.service.follow(caller, task_uuid(uuid), morsel.value)
        return caller

    async def caller(self, linked: str | None = None) -> Caller:
        """Who asks, by the cookie. Raises as `Handler.caller`, and `Forbidden` for a forgery.

        A page says for whom it was made: what is done there must not become somebody else's, or nobody's,
        because in another tab that person has signed out or the session was found to have ended.
        """
        caller = await super().caller(linked)
        made_for = self.request.headers.get(USER_HEADER)
        if self.request.method not in _SAFE and made_for not in (None, user_token(caller)):
            raise NotAuthenticated("Your session has ended.")
        return caller

    def check_same_origin(self) -> None:
        """Raise `Forbidden` unless the request was sent by one of our own pages."""
        if not self._same_origin():
            raise Forbidden("This request did not come from a page of this service.")
        try:
            self.check_xsrf_cookie()
        except HTTPError as error:
            raise Forbidden("The page is too old; load it again.") from error

    def _same_origin(self) -> bool:
        headers = self.request.headers
        site = headers.get("Sec-Fetch-Site")
        if site is not None:  # set by the browser alone (W3C Fetch Metadata)
            return site == "same-origin"
        origin = urlsplit(headers.get("Origin", ""))
        public = urlsplit(self.service.config.public_url)
        return bool(origin.netloc) and (
            origin.netloc == headers.get("Host") or (origin.scheme, origin.netloc) == public[:2]
        )


def with_session(handler: type[Handler]) -> type[Handler]:
    """The handler of an API path, for the page: the same answers, the session's caller."""
    return type(f"Page{handler.__name__}", (Session, handler), {"__doc__": handler.__doc__})
