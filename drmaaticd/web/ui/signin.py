"""Signing in and out: at a provider (RFC 6749, section 4.1, with PKCE) or by pasting a token."""

from __future__ import annotations

import contextlib
import time
from typing import Any
from urllib.parse import quote

from drmaaticd.errors import DrmaaticdError, Forbidden, InvalidInput, NotAuthenticated, TooManyRequests
from drmaaticd.web.base import Handler
from drmaaticd.web.interface import Begun
from drmaaticd.web.ui import flow
from drmaaticd.web.ui.formpage import FormPage
from drmaaticd.web.ui.session import ISSUED, PASTED, cookie_attributes

#: Characters of a pasted token, and of a provider's code, that are looked at.
MAX_TOKEN = 4096

#: What a provider may say (RFC 6749, section 4.1.2.1; OpenID Connect Core 1.0, section 3.1.2.6) → our words.
_REFUSALS = {
    "access_denied": "{0} was not allowed to tell who you are, so you are not signed in.",
    "login_required": "{0} did not sign you in.",
    "interaction_required": "{0} did not sign you in.",
    "consent_required": "{0} was not allowed to tell who you are, so you are not signed in.",
    "temporarily_unavailable": "{0} is overloaded or being maintained. Try again later.",
    "server_error": "{0} has failed. Try again later.",
}
_MISCONFIGURED = "{0} refuses this service's request ({1}). Tell its administrator."
_STRANGE = "{0} sent an answer that this service does not understand."

LOST = (
    "This sign-in was not begun in this browser, is more than ten minutes old, or has been used already. "
    "Begin again."
)


class _SignInBase(FormPage):
    """What the pages of signing in share: everybody may see them."""

    open_to_all = True
    section = "sign-in"
    # A disabled account's too: else there were no way to another.
    ends_session = (NotAuthenticated, Forbidden)

    def set_default_headers(self) -> None:
        """As with all about tokens: kept by no cache."""
        super().set_default_headers()
        if hasattr(self, "common"):
            self.set_header("Cache-Control", "no-store")

    @property
    def next(self) -> str:
        """Where to go afterwards."""
        return flow.safe_next(self.query.text("next"), self.root)

    @property
    def here(self) -> str:
        """What the navigation's link to sign in leads back to."""
        return self.next

    def write_sign_in(self, *, status: int = 200, next: str | None = None, **values: Any) -> None:
        """Write the page; `problem` is why nobody is signed in, `wrong` what is wrong with the token."""
        self.set_status(status)
        shown: dict[str, Any] = {"problem": "", "wrong": "", "done": ""}
        desk = self.service.desk
        self.write_page(
            "signin.html",
            title="Sign in",
            ways=desk.ways_in(),
            anonymous=desk.anonymous(),
            next=self.next if next is None else next,
            **(shown | values),
        )

    async def end_former_session(self) -> None:
        """Revoke the token that was made for the session there is: no other use of it is meant."""
        kind, token = self.cookie_token
        if kind != ISSUED:
            return
        # What does not count any more needs no end.
        with contextlib.suppress(NotAuthenticated, Forbidden, TooManyRequests):
            await self.service.sign_out(await self.service.desk.check_token(token, self.address))

    async def admit_form(self) -> None:
        """Our own forms alone, from whomever: a session that has ended does not matter here."""
        self.check_same_origin()


class SignInPage(_SignInBase):
    """``/ui/sign-in``."""

    async def get(self) -> None:
        """Write the ways to sign in."""
        await self.caller()
        self.write_sign_in(done="out" if self.query.flag("signed_out") else "")

    async def post(self) -> None:
        """Begin a session with the token that was pasted."""
        self.check_same_origin()
        token = "".join(self.fields.get("token", "").split()).removeprefix("Bearer")
        try:
            if not token:
                raise InvalidInput("Paste a token first.")
            if len(token) > MAX_TOKEN or not token.isascii():
                raise NotAuthenticated
            await self.service.desk.check_token(token, self.address)
        except NotAuthenticated:
            self.write_sign_in(
                status=400, wrong="This is no token of this service, or it has expired or was revoked."
            )
        except (InvalidInput, Forbidden) as error:
            self.write_sign_in(status=error.status, wrong=error.detail)
        else:
            await self.end_former_session()
            self.begin_session(PASTED, token)
            self.redirect_to(self.next)


class StartHandler(_SignInBase):
    """``/ui/sign-in/{provider}``: on the way to a provider."""

    async def get(self, provider: str) -> None:
        """Send the browser to the provider, with a note of what it is about."""
        begun: Begun = self.service.desk.begin_sign_in(provider, self.back(provider))
        under_way = flow.Flow(
            provider, begun.state, begun.verifier, begun.nonce, self.next, started=int(time.time())
        )
        for name in flow.to_forget((name, morsel.value) for name, morsel in self.request.cookies.items()):
            self.forget(name)
        self.set_cookie(under_way.cookie, under_way.text(), max_age=flow.SECONDS, **self.attributes)
        self.redirect_to(begun.url)

    def back(self, provider: str) -> str:
        """Where the provider sends the browser back to, which is registered there."""
        return f"{self.service.config.public_url}/ui/sign-in/{quote(provider, safe='')}/back"

    @property
    def attributes(self) -> dict[str, Any]:
        """What the cookie of a sign-in under way has."""
        return cookie_attributes(self.service.config.public_url) | {"path": f"{self.root}/ui/sign-in"}

    def forget(self, name: str) -> None:
        """Take such a cookie away."""
        self.clear_cookie(name, **self.attributes)


class BackHandler(StartHandler):
    """``/ui/sign-in/{provider}/back``: back from a provider."""

    async def get(self, provider: str) -> None:
        """Begin a session for whom the provider has signed in."""
        caller = await self.caller()
        under_way = self._under_way(provider)
        if under_way is None:
            if caller.user is not None:  # reloaded, or by the browser's Back
                self.redirect_to(self.link(""))
            else:
                self.write_sign_in(status=400, problem=LOST)
            return
        self.forget(under_way.cookie)  # no `state` counts twice
        try:
            told = await self._redeem(provider, under_way)
        except DrmaaticdError as error:
            status = 403 if isinstance(error, NotAuthenticated) else error.status
            for name, value in error.headers.items():
                if name == "Retry-After":
                    self.set_header(name, value)
            problem = error.detail or error.title
            self.write_sign_in(status=status, next=under_way.next, problem=problem)
            return
        await self.end_former_session()
        self.begin_session(ISSUED, told["access_token"], told["expires_in"])
        self.redirect_to(flow.safe_next(under_way.next, self.root))

    def _under_way(self, provider: str) -> flow.Flow | None:
        """The sign-in of this browser that the answer belongs to."""
        state = self.query.text("state") or ""
        morsel = self.request.cookies.get(flow.cookie_of(state))
        found = None if morsel is None else flow.Flow.parse(morsel.value)
        return found if found is not None and found.fits(provider, state, time.time()) else None

    async def _redeem(self, provider: str, under_way: flow.Flow) -> dict[str, Any]:
        error = self.query.text("error")
        if error is not None:
            words = _REFUSALS.get(error) or _MISCONFIGURED
            raise Forbidden(words.format(provider, error if error.isidentifier() else "with no known reason"))
        # Another issuer's answer (RFC 9207): the code must not be sent to this one.
        issuer = self.service.desk.issuer(provider)
        if issuer is not None and self.query.text("iss") not in (None, issuer):
            raise Forbidden(_STRANGE.format(provider))
        code = self.query.text("code") or ""
        if not 0 < len(code) <= MAX_TOKEN:
            raise InvalidInput(_STRANGE.format(provider))
        return await self.service.desk.sign_in(
            provider,
            code,
            verifier=under_way.verifier,
            nonce=under_way.nonce,
            redirect_uri=self.back(provider),
            address=self.address,
        )


class SignedInPage(_SignInBase):
    """``/ui/signed-in``: for a tab that was opened to sign in, while another holds what was typed."""

    section = ""

    @property
    def here(self) -> str:
        """This page."""
        return self.link("signed-in")

    async def get(self) -> None:
        """Write who is signed in."""
        known = (await self.caller()).user is not None
        self.write_page("signedin.html", title=f"You are {'' if known else 'not '}signed in")


class SignOutPage(_SignInBase):
    """``/ui/sign-out``."""

    async def post(self) -> None:
        """End the session, and the token if it was made for it."""
        self.check_same_origin()
        self.end_session()
        await self.end_former_session()
        self.redirect_to(self.link("sign-in", signed_out="1"))


ROUTES: tuple[tuple[str, type[Handler]], ...] = (
    (r"/ui/sign-in/?", SignInPage),
    (r"/ui/sign-in/([^/]+)/?", StartHandler),
    (r"/ui/sign-in/([^/]+)/back/?", BackHandler),
    (r"/ui/signed-in/?", SignedInPage),
    (r"/ui/sign-out/?", SignOutPage),
)
