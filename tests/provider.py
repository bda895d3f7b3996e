"""A real identity provider on loopback, with every fault that one can have, in a thread of its own.

    with Provider() as provider:
        provider.people["their token"] = {"sub": "0000-0002-1825-0097", "name": "Josiah Carberry"}

It has userinfo, introspection and JWKS endpoints, signs ID tokens, and misbehaves as `fault` says.
A browser can sign in: `/authorize` offers everyone in `people` to choose from, `/token` takes the code.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

PATIENCE = 20.0
CLIENT = "APP-OURS"
SECRET = "introspection secret: not for logs"
PAGE_SECRET = "the page's secret: not for logs"

FAULTS = ("wrong JSON", "no object", "no sub", "500", "redirect", "huge", "never ends", "slow", "cut off")


class Provider:
    """One provider. The attributes are for tests to set and to look at."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, Any]] = {}
        """Access token → claims of userinfo."""
        self.clients: dict[str, str] = {}
        """Access token → the client that it was issued to, `CLIENT` unless told."""
        self.fault = ""
        self.secret: str | None = None
        """What the page's client must prove itself with."""
        self.codes: dict[str, dict[str, str]] = {}
        """Code → what was asked for it; each is taken once."""
        self.lies: dict[str, Any] = {}
        """Claims of ID tokens for the page that are not as they should be."""
        self.sends_id_token = True
        self.holds = False
        """Whether the browser is sent back by a link that one must follow, instead of by itself."""
        self.asked: list[str] = []
        """Paths of the questions so far."""
        self.key = rsa.generate_private_key(65537, 2048)
        self.other_key = rsa.generate_private_key(65537, 2048)
        self.ec_key = ec.generate_private_key(ec.SECP256R1())
        self.kid = "first"
        self.release = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    # -- its life ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        routes = [
            ("/userinfo", _Handler, {"provider": self, "answer": self._userinfo}),
            ("/introspect", _Handler, {"provider": self, "answer": self._introspect}),
            ("/jwks", _Handler, {"provider": self, "answer": self._jwks}),
            ("/elsewhere", _Handler, {"provider": self, "answer": self._elsewhere}),
            ("/token", _Handler, {"provider": self, "answer": self._token}),
            ("/authorize", _Authorize, {"provider": self}),
            ("/decide", _Decide, {"provider": self}),
        ]
        server = HTTPServer(Application(routes, log_function=lambda _: None))
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        server.add_socket(sock)
        self._started.set()
        await self._stop.wait()
        server.stop()
        await server.close_all_connections()

    # -- what it answers -----------------------------------------------------------------------

    def _userinfo(self, handler: RequestHandler) -> Any:
        token = handler.request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.people:
            handler.set_status(401)
            return {"error": "invalid_token"}
        return self.people[token]

    def _introspect(self, handler: RequestHandler) -> Any:
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        assert handler.request.headers["Authorization"] == f"Basic {expected}"
        token = handler.get_body_argument("token")
        if token not in self.people:
            return {"active": False}
        client = self.clients.get(token, CLIENT)
        return {"active": True, "client_id": client, "sub": self.people[token].get("sub")}

    def _jwks(self, handler: RequestHandler) -> Any:
        rsa_key = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        ec_key = json.loads(ECAlgorithm.to_jwk(self.ec_key.public_key()))
        return {
            "keys": [
                rsa_key | {"kid": self.kid, "use": "sig", "alg": "RS256"},
                ec_key | {"kid": "curve"},
                {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
                {"kty": "unheard of", "kid": "odd"},
            ]
        }

    def _elsewhere(self, handler: RequestHandler) -> Any:
        return {"sub": "0000-0002-1825-0097"}

    def _token(self, handler: RequestHandler) -> Any:
        form = {name: handler.get_body_argument(name) for name in handler.request.body_arguments}
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            asked is None
            or form["grant_type"] != "authorization_code"
            or form["redirect_uri"] != asked["redirect_uri"]
            or form["client_id"] != asked["client_id"]
            or base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]
        ):
            handler.set_status(400)
            return {"error": "invalid_grant"}
        basic = base64.b64encode(f"{CLIENT}:{urlencode({'': self.secret or ''})[1:]}".encode()).decode()
        proofs = (form.get("client_secret"), handler.request.headers.get("Authorization"))
        if self.secret is not None and proofs not in ((self.secret, None), (None, f"Basic {basic}")):
            handler.set_status(401)
            return {"error": "invalid_client"}
        person = asked["person"]
        answer = {"access_token": person, "token_type": "Bearer", "expires_in": 600}
        if self.sends_id_token:
            claims = self.people[person] | {"nonce": asked["nonce"]} | self.lies
            answer["id_token"] = self.id_token(**claims)
        return answer

    def id_token(self, *, key: Any = None, algorithm: str = "RS256", kid: str = "", **claims: Any) -> str:
        """An ID token for our client, changed as told."""
        now = int(time.time())
        said = {"iss": self.url, "aud": CLIENT, "sub": "0000-0002-1825-0097", "iat": now, "exp": now + 300}
        return jwt.encode(
            {name: value for name, value in (said | claims).items() if value is not None},
            self.key if key is None else key,
            algorithm=algorithm,
            headers={"kid": kid or self.kid},
        )


class _Handler(RequestHandler):
    def initialize(self, provider: Provider, answer: Callable[[RequestHandler], Any]) -> None:
        self.provider = provider
        self.answer = answer

    async def get(self) -> None:
        self.provider.asked.append(self.request.path)
        fault = self.provider.fault
        if fault and self.request.path != "/elsewhere":
            await self._misbehave(fault)
        else:
            self.write(json.dumps(self.answer(self)))

    async def post(self) -> None:
        await self.get()

    async def _misbehave(self, fault: str) -> None:
        faults: dict[str, Callable[[], Awaitable[None] | None]] = {
            "wrong JSON": lambda: self.write("{'sub': no"),
            "no object": lambda: self.write('["0000-0002-1825-0097"]'),
            "no sub": lambda: self.write('{"name": "Somebody"}'),
            "500": lambda: self.set_status(500),
            "redirect": lambda: self.redirect(f"{self.provider.url}/elsewhere"),
            "huge": lambda: self.write(json.dumps({"sub": "0000-0002-1825-0097", "pad": "x" * 2_000_000})),
            "never ends": self._never_ends,
            "slow": self._slow,
            "cut off": self._cut_off,
        }
        done = faults[fault]()
        if done is not None:
            await done

    async def _never_ends(self) -> None:
        while not self.provider.release.is_set():
            self.write(" " * 65_536)
            try:
                await self.flush()
            except Exception:  # noqa: BLE001 - the client has had enough
                return

    async def _slow(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.provider.release.wait)

    async def _cut_off(self) -> None:
        self.set_header("Content-Length", "1000")
        self.write('{"sub": ')
        await self.flush()
        self.request.connection.stream.close()  # type: ignore[attr-defined]


class _Authorize(RequestHandler):
    """Where people say who they are: everybody is believed."""

    def initialize(self, provider: Provider) -> None:
        self.provider = provider

    def get(self) -> None:
        asked = dict(parse_qsl(self.request.query))
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        links = "".join(
            f'<li><a href="/decide?{urlencode(asked | {"person": token})}">'
            f"{html.escape(person.get('name', person['sub']))}</a></li>"
            for token, person in self.provider.people.items()
        )
        deny = f'<a href="/decide?{urlencode(asked)}">Deny</a>'
        self.write(f"<!doctype html><title>Sign in</title><ul>{links}</ul>{deny}")


class _Decide(RequestHandler):
    """Sends the browser back."""

    def initialize(self, provider: Provider) -> None:
        self.provider = provider

    def get(self) -> None:
        asked = dict(parse_qsl(self.request.query))
        answer = {"error": "access_denied", "error_description": "<b>Visit evil.example</b>"}
        if "person" in asked:
            code = secrets.token_urlsafe(16)
            self.provider.codes[code] = asked
            answer = {"code": code}
        address = f"{asked['redirect_uri']}?{urlencode(answer | {'state': asked['state']})}"
        if self.provider.holds:
            self.write(f'<!doctype html><title>Back</title><a href="{html.escape(address)}">Go back</a>')
        else:
            self.redirect(address)
