"""Accounts: tokens for a provider's tokens, their end, who the caller is and what they may spend."""

from __future__ import annotations

from drmaaticd.errors import MethodNotAllowed
from drmaaticd.web.base import Handler


class TokenHandler(Handler):
    """``/token/{username}``: where everyone without a token begins."""

    open_to_all = True

    def set_default_headers(self) -> None:
        """Tokens are kept by no cache at all."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    @classmethod
    def _implements(cls, method: str) -> bool:
        return method != "HEAD" and super()._implements(method)  # a token is made to be read

    def compute_etag(self) -> str | None:
        """None: no token is the same twice."""
        return None

    async def head(self, *args: str, **kwargs: str) -> None:
        """Never succeeds."""
        raise MethodNotAllowed

    async def get(self, name: str) -> None:
        """Write a token of our own for the provider's, which is the bearer of this request alone."""
        authorizations = self.request.headers.get_list("Authorization")
        authorization = authorizations[0] if len(authorizations) == 1 else None
        self.write_json(await self.service.exchange(authorization, name, self.address))


class SignOutHandler(Handler):
    """``/token``."""

    open_to_all = True

    def set_default_headers(self) -> None:
        """As with all about tokens."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    async def delete(self) -> None:
        """Revoke the token that the request came with."""
        await self.service.sign_out(await self.caller())
        self.set_status(204)


class MeHandler(Handler):
    """``/me``."""

    async def get(self) -> None:
        """Write who the caller is."""
        self.write_json(self.service.me(await self.caller()))


class CreditHandler(Handler):
    """``/cpu-credit/``."""

    async def get(self) -> None:
        """Write what the caller may spend, and how long until ``required`` may be."""
        caller = await self.caller()
        query = self.query
        required = None if query.text("required") is None else query.number("required", 0, least=0)
        self.write_json(self.service.cpu_credit(caller, required))
