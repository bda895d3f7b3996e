"""What the handlers ask of the service, and what they are given back.

These protocols are the border between `web` and `drmaaticd.service`: handlers know nothing else of
the daemon. The service satisfies them by shape; the tests' double does too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from drmaaticd.openapi.document import Site

JSON = dict[str, Any]


class ServerSettings(Protocol):
    """The ``[server]`` section, as far as HTTP needs it. Sizes in bytes."""

    @property
    def max_upload(self) -> int: ...
    @property
    def trusted_proxies(self) -> Sequence[Any]: ...
    @property
    def cors_origins(self) -> Sequence[str]: ...
    @property
    def metrics_allow(self) -> Sequence[Any]: ...
    @property
    def page_size(self) -> int: ...
    @property
    def max_page_size(self) -> int: ...


class Settings(Protocol):
    """The configuration, as far as HTTP needs it."""

    @property
    def server(self) -> ServerSettings: ...
    @property
    def public_url(self) -> str:
        """The base of every link, without a trailing slash."""


class Caller(Protocol):
    """Who asks. Handlers only hand it on."""

    @property
    def user(self) -> str | None: ...
    @property
    def is_admin(self) -> bool: ...


class Figures(Protocol):
    """What is so at this moment, for monitoring."""

    @property
    def tasks(self) -> Mapping[str, int]:
        """How many tasks are in each state."""

    @property
    def scripts(self) -> int: ...
    @property
    def script_findings(self) -> int: ...
    @property
    def uploads(self) -> int: ...
    @property
    def streams(self) -> int: ...
    @property
    def drm_works(self) -> bool: ...
    @property
    def store_works(self) -> bool: ...


class Draft(Protocol):
    """One ``POST /task/`` under way. It holds an upload place until `finish` or `abort`."""

    def field(self, name: str, value: str) -> None:
        """Take a field. Raises `InvalidInput` or `TooLarge`."""

    async def open_file(self, name: str, client_name: str) -> None:
        """Begin a file; `client_name` is for display alone."""

    async def write(self, data: bytes) -> None:
        """Append to the file that is open. Raises `TooLarge` or `StorageFull`."""

    async def close_file(self) -> None:
        """End the file that is open."""

    async def keep_file(self, name: str, uuid: str, stored_name: str) -> None:
        """Take over an input file of an earlier task. Raises `TooLarge` or `StorageFull`."""

    async def finish(self) -> tuple[JSON, bool]:
        """Make the task: it, and whether it is new (False for a replayed idempotency key)."""

    async def abort(self) -> None:
        """Give up; nothing remains on disk. May be called at any time and again."""


class OpenedFile(Protocol):
    """A regular file that is open for reading."""

    @property
    def size(self) -> int:
        """Bytes when it was opened; what is appended later is not sent."""

    @property
    def etag(self) -> str:
        """The strong entity tag, with or without its quotes."""

    def pread(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; blocking."""

    def close(self) -> None:
        """Close it; once more does nothing."""


class FileAnswer(Protocol):
    """A file to send, and how."""

    @property
    def opened(self) -> OpenedFile: ...
    @property
    def name(self) -> str:
        """Its base name; bytes that are no UTF-8 as lone surrogates."""

    @property
    def html_scripts(self) -> bool:
        """Whether its HTML may run scripts (inside a sandbox)."""


class Archive(Protocol):
    """An archive that is made while it is sent; its iterator blocks."""

    @property
    def length(self) -> int | None:
        """Bytes, where they are known beforehand."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None:
        """Release what it holds; blocking."""


class ArchiveAnswer(Protocol):
    """An archive to send, and its name."""

    @property
    def archive(self) -> Archive: ...
    @property
    def filename(self) -> str: ...


class Event(Protocol):
    """What a stream of events tells."""

    @property
    def name(self) -> str:
        """Its type; empty for a task's record."""

    @property
    def id(self) -> str:
        """By which a client that comes again says what it has heard; empty if it has none."""

    @property
    def data(self) -> JSON: ...


class Watch(Protocol):
    """A stream of events under way; it holds a place until it is closed."""

    async def next(self) -> Sequence[Event] | None:
        """The next events, none as a sign of life; None at the end."""

    def close(self) -> None:
        """End it; once more does nothing. Who waits in `next` is told the end."""


class History(Protocol):
    """What the page asks about a script's earlier tasks."""

    def expected(self, script: str) -> JSON: ...
    def latest(self, caller: Any, script: str, most: int) -> list[JSON]: ...


class Particulars(Protocol):
    """What the page asks about one task, beside the API's view of it."""

    def task(self, caller: Any, uuid: str) -> JSON: ...
    def members(self, caller: Any, uuid: str) -> JSON: ...


class Begun(Protocol):
    """A sign-in at a provider that has begun."""

    @property
    def url(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def verifier(self) -> str: ...
    @property
    def nonce(self) -> str: ...


class Listing(Protocol):
    """A page of the list of tasks."""

    @property
    def count(self) -> int: ...
    @property
    def tasks(self) -> list[JSON]: ...
    @property
    def states(self) -> Mapping[str, int]:
        """How many there are in each state, were it not for the filter by state."""


class Administration(Protocol):
    """What administrators alone may ask; see `drmaaticd.administration`."""

    def check(self, caller: Any) -> None: ...
    async def health(self, caller: Any) -> JSON: ...
    def scripts(self, caller: Any) -> list[JSON]: ...
    async def reload_scripts(self, caller: Any) -> None: ...
    def groups(self, caller: Any) -> list[JSON]: ...
    def users(self, caller: Any, search: str, page: int, size: int) -> tuple[int, list[JSON]]: ...
    def user(self, caller: Any, key: str) -> JSON | None: ...
    async def set_user(
        self, caller: Any, name: str, *, group: str | None = None, disabled: bool | None = None
    ) -> JSON: ...


class Desk(Protocol):
    """What the page alone asks."""

    @property
    def administration(self) -> Administration: ...

    def ways_in(self) -> list[str]:
        """The names of the providers at which people can sign in."""

    def begin_sign_in(self, provider: str, redirect_uri: str) -> Begun: ...
    async def sign_in(
        self, provider: str, code: str, *, verifier: str, nonce: str, redirect_uri: str, address: str
    ) -> JSON: ...
    def issuer(self, provider: str) -> str | None: ...
    def anonymous(self) -> bool: ...
    async def check_token(self, token: str, address: str) -> Caller: ...
    def list_tasks(self, caller: Any, query: Mapping[str, str], page: int, size: int) -> Listing: ...


class Service(Protocol):
    """The use cases. Every method raises `errors.DrmaaticdError` for what a caller can understand."""

    @property
    def config(self) -> Settings: ...
    @property
    def history(self) -> History: ...
    @property
    def particulars(self) -> Particulars: ...
    @property
    def desk(self) -> Desk: ...
    async def authenticate(self, authorization: str | None, address: str) -> Caller: ...
    def follow(self, caller: Any, uuid: str, text: str, /) -> Caller:
        """The caller, with leave to read the task by this link. Raises `NotAuthenticated`."""

    async def exchange(self, authorization: str | None, name: str, address: str) -> JSON: ...
    async def sign_out(self, caller: Any) -> None: ...
    def me(self, caller: Any) -> JSON: ...
    def cpu_credit(self, caller: Any, required: int | None) -> JSON: ...
    def check_open(self, caller: Any) -> None:
        """Raise `NotAuthenticated` for an anonymous caller where these are not let in."""

    @property
    def site(self) -> Site: ...
    def offer(self, caller: Any) -> tuple[int, list[JSON]]:
        """The version of the scripts, and those that the caller may run; never raises."""

    def index(self, caller: Any) -> JSON: ...
    def health(self) -> JSON: ...
    def ready(self) -> tuple[bool, str]: ...
    def figures(self) -> Figures: ...
    def scripts(
        self,
        caller: Any,
        *,
        name: str | None,
        names: Sequence[str] | None,
        search: str | None,
        page: int,
        size: int,
    ) -> tuple[int, list[JSON]]: ...
    def script(self, caller: Any, name: str) -> JSON: ...
    async def draft(self, caller: Any, *, length: int | None, key: str | None, chunked: bool) -> Draft: ...
    def task(self, caller: Any, uuid: str) -> JSON: ...
    def status(self, caller: Any, uuid: str) -> str: ...
    def watch(self, caller: Any, uuid: str, last: str | None, /) -> Watch | None:
        """Watch a task; None if a client that heard `last` has heard all."""

    def watch_many(self, caller: Any, query: dict[str, str], last: str | None, /) -> Watch | None: ...
    def link(self, caller: Any, uuid: str, lifetime: int | None, /) -> JSON: ...
    def tasks(
        self, caller: Any, filters: dict[str, str], page: int, size: int, /
    ) -> tuple[int, list[JSON]]: ...
    async def delete(self, caller: Any, uuid: str) -> None: ...
    async def control(self, caller: Any, uuid: str, action: str, /) -> JSON: ...
    async def take_ownership(self, caller: Any, uuid: str) -> JSON: ...
    async def files(self, caller: Any, uuid: str, details: bool) -> list[Any]: ...
    async def open_file(self, caller: Any, uuid: str, path: bytes) -> FileAnswer: ...
    async def archive(self, caller: Any, uuid: str, format: str) -> ArchiveAnswer: ...
