"""``drmaaticd user`` and ``drmaaticd token``: accounts of a running daemon, which does the work itself.

The daemon is asked over its admin socket (`admin_protocol`); what is allowed it says.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from drmaaticd import admin_protocol, logs
from drmaaticd.admin_protocol import AdminError
from drmaaticd.commands import lookup
from drmaaticd.errors import ConfigurationError
from drmaaticd.units import parse_duration
from drmaaticd.validation import did_you_mean

_ASKS = " The daemon must be running; only root and its own account may ask."


class _Wrong(Exception):
    """The arguments cannot mean anything; worded for the administrator."""


Ask = Callable[..., Any]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe both commands."""
    _add_user(commands.add_parser("user", help="list users, put them into groups, disable them"))
    _add_token(commands.add_parser("token", help="issue, list and revoke tokens, rotate the key"))


def _add_user(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _action(actions, "list", "all users", _user_list)
    _name(_action(actions, "show", "one user, their tokens and CPU credit", _user_show))
    change = _action(actions, "set", "put a user into a group, disable or enable the account", _user_set)
    _name(change)
    change.add_argument("--group", help="a group of the configuration")
    state = change.add_mutually_exclusive_group()
    state.add_argument("--disable", dest="disabled", action="store_true", default=None)
    state.add_argument("--enable", dest="disabled", action="store_false", default=None)


def _add_token(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    issue = _action(actions, "issue", "a token for a service account; it is shown only this once", _issue)
    issue.add_argument("name", metavar="NAME", help="the service account, made if it is new")
    issue.add_argument("--group", help="its group; a new account needs one")
    issue.add_argument("--lifetime", type=_duration, metavar="D", help='such as "90 days"')
    revoke = _action(actions, "revoke", "end one token, or all of a user", _revoke)
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("which", nargs="?", metavar="ID", help="its id (jti); - reads id or token from stdin")
    which.add_argument("--user", metavar="NAME", help="all tokens of this user")
    _action(actions, "list", "tokens that have not expired", _token_list).add_argument(
        "--user", metavar="NAME", help="of this user alone"
    )
    _action(actions, "rotate-key", "sign with a new key from now on", _rotate).add_argument(
        "--overlap",
        type=_duration,
        metavar="D",
        help="for how long tokens of the old key stay good (0 s ends them; default: until they expire)",
    )


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    work: Callable[[argparse.Namespace, Ask], tuple[Any, str]],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name, allow_abbrev=False, help=text, description=text[0].upper() + text[1:] + "." + _ASKS
    )
    lookup.add_argument(parser)
    parser.add_argument("--json", action="store_true", help="the answer as JSON")
    parser.set_defaults(run=run, work=work)
    return parser


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="SOURCE:NAME, or NAME alone where one user has it")


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    """Ask the daemon and print its answer; 1 if it cannot be asked or refuses."""
    try:
        config = lookup.load(lookup.find(arguments.config))
        group = getattr(arguments, "group", None)
        if group is not None and group not in config.groups:
            raise AdminError(
                f"there is no group {group!r} in {config.file}{did_you_mean(group, config.groups)}"
            )

        def ask(do: str, **given: Any) -> Any:
            return admin_protocol.ask(config.paths.state_dir, do, **given)

        result, text = arguments.work(arguments, ask)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    except _Wrong as error:
        print(f"drmaaticd: {error}", file=sys.stderr)
        return 2
    except AdminError as error:
        print(f"drmaaticd: {logs.escape(str(error))}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(result, indent=2))
    elif text:
        print(text)
    return 0


def _user_list(_: argparse.Namespace, ask: Ask) -> tuple[Any, str]:
    found = ask("user.list")
    rows = [
        (one["user"], one["group"], "disabled" if one["disabled"] else "", one.get("name", ""))
        for one in found
    ]
    return found, _table(("USER", "GROUP", "STATE", "NAME"), rows)


def _user_show(arguments: argparse.Namespace, ask: Ask) -> tuple[Any, str]:
    shown = ask("user.show", name=arguments.name)
    tokens = shown["tokens"]
    return shown, "\n".join(filter(None, [_fields(shown), _token_table(tokens) if tokens else ""]))


def _user_set(arguments: argparse.Namespace, ask: Ask) -> tuple[Any, str]:
    if arguments.group is None and arguments.disabled is None:
        raise _Wrong("user set needs --group, --disable or --enable")
    changed = ask("user.set", name=arguments.name, group=arguments.group, disabled=arguments.disabled)
    return changed, _fields(changed)


def _issue(arguments: argparse.Namespace, ask: Ask) -> tuple[Any, str]:
    """The token alone goes to standard output, so that it can be piped where it is kept."""
    issued = ask("token.issue", name=arguments.name, group=arguments.group, lifetime=arguments.lifetime)
    if not arguments.json:
        print(
            f"{issued['user']}: token {issued['jti']}, good until {issued['expires']}; not shown again:",
            file=sys.stderr,
        )
    return issued, issued["access_token"]


def _revoke(arguments: argparse.Namespace, ask: Ask) -> tuple[Any, str]:
    jti = None
    if arguments.which is not None:
        given = sys.stdin.readline(65536).strip() if arguments.which == "-" else arguments.which
        jti = _jti(given)
    count = ask("token.revoke", jti=jti, user=arguments.user)
    return {"revoked": count}, f"{count} {'token' if count == 1 else 'tokens'} revoked"


def _jti(given: str) -> str:
    """The id in a token (a JWS, RFC 7515: the second part holds the claims), or the id itself."""
    if given.count(".") != 2:
        return given
    try:
        part = given.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return str(claims["jti"])
    except (ValueError, KeyError, TypeError):
        raise AdminError("this is no token of a drmaaticd") from None


def _token_list(arguments: argparse.Namespace, ask: Ask) -> tuple[Any, str]:
    found = ask("token.list", user=arguments.user)
    return found, _token_table(found)


def _rotate(arguments: argparse.Namespace, ask: Ask) -> tuple[Any, str]:
    done = ask("token.rotate-key", overlap=arguments.overlap)
    return done, _fields(done)


def _token_table(tokens: Iterable[dict[str, Any]]) -> str:
    columns = ("jti", "user", "issued", "expires", "revoked")
    rows = [tuple(str(one.get(name, "")) for name in columns) for one in tokens]
    return _table(("TOKEN", "USER", "ISSUED", "EXPIRES", "REVOKED"), rows)


def _fields(shown: dict[str, Any]) -> str:
    plain = {name: value for name, value in shown.items() if name != "tokens"}
    return "\n".join(f"{name}: {_text(value)}" for name, value in plain.items())


def _text(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else logs.escape(str(value))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, *(tuple(logs.escape(cell) for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
