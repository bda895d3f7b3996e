"""``drmaatic login``, ``logout``, ``whoami``: tokens come from a terminal or the environment, never from
the command line, which everyone on the machine can read."""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import os
import sys
from typing import Any
from urllib.parse import urlsplit

from drmaaticd.client import credentials, status
from drmaaticd.client.api import Client
from drmaaticd.client.failures import ApiError, ClientError, Refused
from drmaaticd.client.session import Session
from drmaaticd.client.terminal import print_json, printable
from drmaaticd.client.wording import Me

PROVIDER_VARIABLE = "DRMAATIC_PROVIDER_TOKEN"


def login(session: Session) -> int:
    """Ask for a token, try it, and keep it."""
    arguments = session.arguments
    url = credentials.resolve(arguments.url)[0]
    if not (arguments.insecure or _is_private(url)):
        raise Refused(f"{url}: a token would travel unencrypted; use https://, or --insecure if you must")
    with Client(url) as anonymous:
        if arguments.exchange:
            token = _asked(PROVIDER_VARIABLE, f"The identity provider's token of {arguments.exchange}")
            token = anonymous.exchange(arguments.exchange, token)["access_token"]
        else:
            token = _asked(credentials.TOKEN_VARIABLE, f"Token for {url}")
    with Client(url, token) as client:
        me = client.me()
    file = credentials.keep(url, token, me.get("user_name", ""))
    if session.as_json:
        print_json(me)
    else:
        print(printable(f"{_named(me)} at {url}"))
        session.say(f"the token is kept in {file}")
    return status.FINE


def logout(session: Session) -> int:
    """Revoke the token that is kept for the service, and forget it."""
    url = credentials.resolve(session.arguments.url)[0]
    token = credentials.forget(url)
    if token is None:
        session.say(f"no token is kept for {url}")
        return status.FINE
    try:
        with Client(url, token) as client:
            client.sign_out()
    except ApiError as error:
        if error.status != 401:  # it has been revoked, or has expired
            raise
    except ClientError as error:
        session.say(f"the token is forgotten here, but could not be revoked and stays valid: {error}")
        return status.of_error(error)
    print(printable(f"signed out of {url}"))
    return status.FINE


def whoami(session: Session) -> int:
    """Say who the service takes the caller for, and what they may spend."""
    me: dict[str, Any] = {**session.client.me()}
    with contextlib.suppress(ApiError):  # a service without credit
        me |= session.client.credit()
    if session.as_json:
        print_json(me)
        return status.FINE
    print(printable(f"{_named(me)} at {session.client.url}"))
    rows = {
        "group": f"{me['group']}{' (administrator)' if me.get('is_admin') else ''}",
        "expires": me.get("expires"),
        "CPU credit": me.get("available_cpu_credit"),
    }
    for name, value in rows.items():
        if value is not None:
            print(printable(f"{name}: {value}"))
    return status.FINE


def _named(me: Me | dict[str, Any]) -> str:
    user = me.get("user_name")
    if not user:
        return "anonymous"
    return f"{me['name']} ({user})" if me.get("name") else str(user)


def _asked(variable: str, prompt: str) -> str:
    """A secret from the environment, the terminal (without echo), or a pipe."""
    secret = os.environ.get(variable, "")
    if not secret:
        try:
            secret = getpass.getpass(f"{prompt}: ") if sys.stdin.isatty() else sys.stdin.readline()
        except EOFError:
            secret = ""
    if not secret.strip():
        raise Refused("no token was given")
    return secret.strip()


def _is_private(url: str) -> bool:
    """Whether what is sent there can be read by nobody on the way."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    return False
