"""Why a form was not taken, for the person who sent it, and what they can do. Pure."""

from __future__ import annotations

import re

from drmaaticd.web.problem import Problem
from drmaaticd.web.ui import words

#: The task's own fields whose name stands before a detail that is told without a list of fields.
_AT_FIELD = re.compile(r"(parent_task|dependencies): (.+)", re.DOTALL)


def field_errors(answer: Problem) -> dict[str, str]:
    """What is wrong with which field; the first finding of each."""
    found: dict[str, str] = {}
    for wrong in answer.members.get("errors", ()):
        found.setdefault(wrong["name"], wrong["detail"])
    at_field = _AT_FIELD.match(str(answer.members.get("detail", "")))
    if at_field and not found:
        found[at_field[1]] = at_field[2]
    return found


def told(answer: Problem, largest: int) -> str:
    """The refusal in words; `largest` is how many bytes a form may have."""
    detail = str(answer.members.get("detail", "") or answer.members["title"])
    if not detail.endswith((".", "!", "?")):
        detail += "."
    detail = detail[:1].upper() + detail[1:]
    wait = answer.headers.get("Retry-After")
    again = f" Try again in {words.duration(max(1, int(wait)))}." if wait and wait.isdecimal() else ""
    match answer.status:
        case 400 | 404:
            count = len(field_errors(answer))
            if count:
                noun = "One field needs" if count == 1 else f"{count} fields need"
                return f"Nothing was started: {noun.lower()} another value."
            return f"Nothing was started. {detail}"
        case 401:
            return "You are signed out. Sign in in another tab, then send the form again."
        case 413 if not answer.members.get("errors"):
            return (
                f"Nothing was started: a form with its files may have at most {words.size(largest)}. {detail}"
            )
        case 422:
            return "This form was sent before, with other values. Send it again to start another task."
        case 429 if not again:
            return f"Nothing was started. {detail} Ask the administrators for more credit."
        case 500 if answer.members.get("uuid"):
            return detail
        case 500:
            return (
                "Nothing was started: the service has failed. Its administrators find the reason in its log."
            )
        case _:
            return f"Nothing was started. {detail}{again}"
