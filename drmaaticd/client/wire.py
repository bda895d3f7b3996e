"""Requests and their second tries, over one kept connection. What is asked is the business of `api`.

A request is repeated where that cannot do a thing twice (RFC 9110, section 9.2.2, or an idempotency
key) and where it may help: the connection broke, or the service named a time (``Retry-After``).
"""

from __future__ import annotations

import email.utils
import random
import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests

from drmaaticd.client.failures import ApiError, ClientError, Unreachable

#: Seconds for connecting, and of silence while an answer is awaited.
TIMEOUT = (10.0, 120.0)
#: Seconds for which a service that is away or busy is borne.
PATIENCE = 60.0
#: Seconds between two tries where the service names none: the first, the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0

#: Methods that may be repeated: PUT and DELETE say how things shall be in the end.
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
#: What passes: the service, or what stands before it, is busy or being restarted.
PASSING = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})

#: RFC 6750, section 2.1, and room for whatever a service calls a token; never what ends a header.
_TOKEN = re.compile(r"[\x21-\x7e]+")
#: What urllib3 calls it when there never was a connection.
_NOT_CONNECTED = frozenset({"NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "SSLError"})

#: What urllib3 puts before its reasons: an object, whose address says nothing to people.
_WHERE = re.compile(r"^(<.*?>|HTTPS?Connection(Pool)?\(.*?\)): ")

Notice = Callable[[ClientError, float], None]


class Schedule:
    """When to try again, and when no more; `patience` in seconds counts from the last `renew`."""

    def __init__(self, patience: float, notice: Notice | None = None) -> None:
        self._patience = patience
        self._notice = notice
        self.renew()

    def renew(self) -> None:
        """There was progress: all patience is back."""
        self._deadline = time.monotonic() + self._patience
        self._pause = FIRST_PAUSE

    def again(self, error: ClientError) -> bool:
        """Wait for the next try. False, at once, where there should be none."""
        pause = getattr(error, "retry_after", None)
        if pause is None:
            # Many clients of a service that comes back must not come at the same moment.
            pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        if time.monotonic() + pause > self._deadline:
            return False
        if self._notice is not None:
            self._notice(error, pause)
        time.sleep(pause)
        return True


class Wire:
    """One service and the bearer of one token. Not for several threads at once.

    Raises ValueError for a URL that is none or carries a password, and for a token that could not
    stand in a header; neither is repeated in the error.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout: tuple[float, float] = TIMEOUT,
        patience: float = PATIENCE,
        notice: Notice | None = None,
    ) -> None:
        self.url = checked_url(url)
        self.timeout = timeout
        self.patience = patience
        self.notice = notice
        self._answered = False
        self._token = checked_token(token)
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json, */*;q=0.5"
        self._session.headers["User-Agent"] = "drmaatic"
        # Always set: without it requests would send what ~/.netrc holds for this host.
        self._session.auth = Bearer(self._token)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON."""
        with self.call(method, path, **options) as response:
            try:
                return response.json()
            except ValueError as error:
                raise ClientError(f"{self.url}{path} answered no JSON: is it drmaaticd?") from error
            except requests.RequestException as error:
                raise Unreachable(f"the answer broke off: {reason(error)}") from error

    def call(
        self, method: str, path: str, *, patience: float | None = None, **options: Any
    ) -> requests.Response:
        """The answer to one request, repeated as this module says; the caller closes it.

        Raises `ApiError` for a refusal and `Unreachable`. `patience` is in seconds.
        """
        keyed = "Idempotency-Key" in (options.get("headers") or {})
        schedule = Schedule(self.patience if patience is None else patience, self.notice)
        broke = False
        while True:
            try:
                return self._once(method, path, options)
            except Unreachable as error:
                # A wrong address is told at once; a service that was there is waited for.
                may = (method in REPEATABLE or keyed) and (error.connected or self._answered)
                if not may or not schedule.again(error):
                    raise
                broke = broke or error.connected
            except ApiError as error:
                error.repeated = broke
                # The try that broke off may still be arriving in the service's eyes.
                own = keyed and broke and error.status == HTTPStatus.CONFLICT
                may = own or passing(error)
                if not (may and (method in REPEATABLE or keyed)) or not schedule.again(error):
                    raise

    def _once(self, method: str, path: str, options: Mapping[str, Any]) -> requests.Response:
        options = {"timeout": self.timeout, **options}
        try:
            response = self._session.request(method, self.url + path, allow_redirects=False, **options)
        except requests.RequestException as error:
            raise Unreachable(
                f"{self.url} does not answer: {reason(error)}", connected=_was_connected(error)
            ) from error
        self._answered = True
        if response.ok and not response.is_redirect:
            return response
        with response:
            raise self._refusal(response)

    def _refusal(self, response: requests.Response) -> ApiError:
        """What a refusal says (RFC 9457), or its status line if it is none of the daemon's."""
        title = f"HTTP {response.status_code} {response.reason or ''}".rstrip()
        try:
            problem = response.json()
        except (ValueError, requests.RequestException):
            problem = None
        if not isinstance(problem, dict):
            problem = {}
        wrong = problem.get("errors")
        return ApiError(
            response.status_code,
            self._without_token(problem.get("title") or title),
            self._without_token(problem.get("detail") or ""),
            {
                str(entry.get("name")): self._without_token(entry.get("detail"))
                for entry in (wrong if isinstance(wrong, list) else ())
                if isinstance(entry, dict)
            },
            retry_after=retry_after(response.headers.get("Retry-After")),
            content_range=response.headers.get("Content-Range", ""),
            uuid=problem["uuid"] if isinstance(problem.get("uuid"), str) else None,
            request_id=response.headers.get("X-Request-ID"),
        )

    def _without_token(self, text: Any) -> str:
        return str(text).replace(self._token, "…") if self._token else str(text)


class Bearer(requests.auth.AuthBase):
    """Puts the token, if there is one, into each request (RFC 6750)."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises ValueError, without what may be a password in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the service's URL must be http://… or https://…")
    if "@" in parts.netloc:
        raise ValueError("the service's URL holds a name or password, which belong to `drmaatic login`")
    if parts.query or parts.fragment:
        raise ValueError("the service's URL ends before any ? or #")
    return url.rstrip("/")


def checked_token(token: str | None) -> str | None:
    """The token. Raises ValueError, without the token in it, if it can be none."""
    if token is not None and not _TOKEN.fullmatch(token):
        raise ValueError("this is no token: it is empty, or has spaces or other characters that no token has")
    return token


def passing(error: ClientError) -> bool:
    """Whether the same may succeed later."""
    if isinstance(error, ApiError):
        # A 429 without a time is one that no waiting mends.
        throttled = error.status == HTTPStatus.TOO_MANY_REQUESTS and error.retry_after is not None
        return throttled or error.status in PASSING
    return isinstance(error, Unreachable)


def retry_after(header: str | None) -> float | None:
    """Seconds from now (RFC 9110, section 10.2.3: a number, or a date). None for neither."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - time.time())


def reason(error: Exception) -> str:
    """The innermost cause in words: requests and urllib3 each wrap it once or twice."""
    cause: Any = error
    while True:
        inner = getattr(cause, "reason", None)
        if not isinstance(inner, Exception):
            inner = next((a for a in getattr(cause, "args", ()) if isinstance(a, Exception)), None)
        if inner is None:
            break
        cause = inner
    text = str(getattr(cause, "reason", None) or cause)
    return _WHERE.sub("", text) or type(cause).__name__


def _was_connected(error: requests.RequestException) -> bool:
    if isinstance(error, requests.ConnectTimeout | requests.exceptions.SSLError):
        return False
    cause = error.args[0] if error.args else None
    return type(getattr(cause, "reason", None)).__name__ not in _NOT_CONNECTED
