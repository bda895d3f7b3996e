"""The one error body: exceptions → ``application/problem+json`` (RFC 9457).

What is not in `errors`' tree and no `HTTPError` of Tornado's is a bug: a bare 500, whose traceback
goes to the log and never into the answer.
"""

from __future__ import annotations

import http
from dataclasses import dataclass, field
from typing import Any

from tornado.web import HTTPError

from drmaaticd.errors import DrmaaticdError, InvalidInput, MethodNotAllowed, NotFound
from drmaaticd.web import jsontext

#: The titles of Tornado's own errors, which are those of ours.
_TITLES = {error.status: error.title for error in (InvalidInput, NotFound, MethodNotAllowed)}

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer: its status, further headers and members of the body."""

    status: int
    members: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The problem document."""
        return jsontext.dumps(self.members)


def is_bug(error: BaseException | None) -> bool:
    """Whether this exception was meant for no caller, and belongs into the log with its traceback."""
    return not isinstance(error, DrmaaticdError | HTTPError)


def problem_of(error: BaseException | None, status: int = 500) -> Problem:
    """The answer to an exception; `status` is that of an error without one."""
    if isinstance(error, DrmaaticdError):
        return _of_domain(error)
    if isinstance(error, HTTPError):
        status = error.status_code
    return Problem(status, _members(status, _phrase(status)))


def _of_domain(error: DrmaaticdError) -> Problem:
    members = _members(error.status, error.title)
    if error.detail:
        members["detail"] = error.detail
    if error.errors:
        members["errors"] = [wrong.as_json() for wrong in error.errors]
    for name, value in error.extra.items():
        members.setdefault(name, value)
    return Problem(error.status, members, dict(error.headers))


def _members(status: int, title: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": title, "status": status}


def _phrase(status: int) -> str:
    if status in _TITLES:
        return _TITLES[status]
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"
