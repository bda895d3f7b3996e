"""What all HTML pages share: templates, the Content-Security-Policy, errors that people can read."""

from __future__ import annotations

import gzip
from functools import cache
from importlib import resources
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from tornado.template import Loader

from drmaaticd.errors import DrmaaticdError, NotAuthenticated, NotFound
from drmaaticd.web import problem
from drmaaticd.web.base import Handler
from drmaaticd.web.interface import Caller
from drmaaticd.web.jsontext import clean
from drmaaticd.web.ui import assets, words
from drmaaticd.web.ui.session import COOKIE, XSRF_COOKIE, Session, cookie_attributes, root_of, user_token

#: Bytes of a page from which on it is packed, and how much is tried: 0.4 ms for a list of 25 tasks.
LEAST_PACKED = 1400
PACKING = 5

#: Nothing from elsewhere, nothing inline; a page of ours stands in no frame but may hold a task's file.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)


@cache
def loader() -> Loader:
    """The templates; every value is escaped unless a template says `raw`."""
    folder = resources.files("drmaaticd.web").joinpath("templates")
    return Loader(str(folder), autoescape="xhtml_escape", whitespace="all")


class PageHandler(Session, Handler):
    """The base of all HTML pages."""

    section: ClassVar[str] = ""
    """Which entry of the navigation is current."""
    policy: ClassVar[str] = POLICY
    """The pages' Content-Security-Policy (W3C CSP 3)."""
    ends_session: ClassVar[tuple[type[DrmaaticdError], ...]] = (NotAuthenticated,)
    """What about a session makes it end here."""

    async def caller(self, linked: str | None = None) -> Caller:
        """Who asks; a session that has ended makes an anonymous caller, where these are let in."""
        try:
            return await super().caller(linked)
        except self.ends_session:
            if not self.cookie_token[1] or self.request.method not in ("GET", "HEAD"):
                raise
            self.end_session()
            self.request.cookies.pop(COOKIE, None)
            return await super().caller(linked)

    @property
    def root(self) -> str:
        """What stands before ``/ui/`` in every address."""
        return root_of(self.service.config.public_url)

    def link(self, *parts: str, **query: str) -> str:
        """The address of a page: ``link("task", uuid, a="1")`` is ``/ui/task/<uuid>?a=1``."""
        path = "/".join(quote(part, safe="") for part in parts)
        return f"{self.root}/ui/{path}{'?' if query else ''}{urlencode(query)}"

    @property
    def here(self) -> str:
        """This page's address, to come back to; what a form has sent along is not part of it."""
        get = self.request.method in ("GET", "HEAD")
        return f"{self.root}{self.request.uri if get else self.request.path}"

    def asset(self, name: str) -> str:
        """The address of a file of ``web/static``."""
        return f"{self.root}/ui/static/{assets.version()}/{name}"

    def set_default_headers(self) -> None:
        """As with the session; addresses stay within this site.

        Not ``no-referrer``: with that, browsers send forms with ``Origin: null`` (Fetch standard, "append
        a request `Origin` header"), and where there is no TLS it is all that tells whose form it is.
        """
        super().set_default_headers()
        self.set_header("Referrer-Policy", "same-origin")

    def write_page(self, template: str, *, title: str, **values: Any) -> None:
        """Write a page; `title` is its `h1`'s and the window's."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", self.policy)
        caller = self._caller
        known = self.service.me(caller) if caller is not None and caller.user is not None else None
        names = {
            "title": title,
            "section": self.section,
            "me": known,
            "page_user": user_token(caller),
            "signed_in": known is not None,
            "is_admin": caller is not None and caller.is_admin,
            "ui": self.link,
            "asset": self.asset,
            "root": self.root,
            "xsrf": clean(self.xsrf_token.decode()),
            "words": words,
            "here": self.here,
        }
        self.write(self._packed(loader().load(template).generate(**names, **values)))

    def _packed(self, page: bytes) -> bytes:
        """The page as it is sent. Its secret, the token against forgery, is masked anew in each answer,
        so that nothing can be guessed from the length (the BREACH attack)."""
        self.set_header("Vary", "Cookie, Accept-Encoding")
        if "gzip" not in self.request.headers.get("Accept-Encoding", "") or len(page) < LEAST_PACKED:
            return page
        self.set_header("Content-Encoding", "gzip")
        return gzip.compress(page, PACKING, mtime=0)

    def redirect_to(self, address: str) -> None:
        """Answer 303: the browser asks for `address` with GET."""
        self.set_status(303)
        self.set_header("Location", address)

    # -- errors --------------------------------------------------------------------------------

    def _write_problem(self, error: BaseException | None, status: int = 500) -> bytes:
        answer = problem.problem_of(error, status)
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            if name != "WWW-Authenticate":  # the browser would ask for a password
                self.set_header(name, value)
        if answer.status == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        if isinstance(error, NotAuthenticated) and self.request.method in ("GET", "HEAD"):
            self.redirect_to(self.link("sign-in", next=self.here))
            return b""
        detail = str(answer.members.get("detail", ""))
        self.write_error_page(answer, detail)
        body = b"".join(self._write_buffer)
        self._write_buffer.clear()
        return body

    def write_error_page(self, answer: problem.Problem, detail: str) -> None:
        """Write the page that tells an error."""
        self.write_page(
            "error.html",
            title=str(answer.members["title"]),
            detail=detail,
            errors=answer.members.get("errors", []),
            status=answer.status,
            request_id=self.request_id,
        )


class NoPageHandler(PageHandler):
    """Answers for every path below ``/ui/`` that nobody else has."""

    async def get(self) -> None:
        """Never succeeds."""
        await self.caller()
        raise NotFound("There is no such page.")


def xsrf_settings(public_url: str) -> dict[str, Any]:
    """Tornado's settings for the cookie against request forgery."""
    return {
        "xsrf_cookie_name": XSRF_COOKIE,
        "xsrf_cookie_version": 2,
        # Lax, as the session's: were it not sent with a link from elsewhere (a mail's, a provider's on the
        # way back), that page would get a new one, and forms that are open in other tabs would be void.
        "xsrf_cookie_kwargs": cookie_attributes(public_url),
    }
