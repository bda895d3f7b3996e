"""What the service answers, as types: the keys of API answers, which stay plain dictionaries."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

State = Literal[
    "received",
    "rejected",
    "created",
    "undetermined",
    "queued_active",
    "system_on_hold",
    "user_on_hold",
    "user_system_on_hold",
    "running",
    "system_suspended",
    "user_suspended",
    "stopped",
    "done",
    "failed",
]

FINAL = frozenset({"rejected", "stopped", "done", "failed"})
"""The states in which a task has ended."""


class Param(TypedDict):
    """A parameter of a script."""

    name: str
    type: Literal["int", "float", "string", "bool", "file"]
    required: bool
    description: NotRequired[str]
    default: NotRequired[Any]
    choices: NotRequired[list[Any]]
    min: NotRequired[float]
    max: NotRequired[float]
    max_length: NotRequired[int]
    pattern: NotRequired[str]
    multiple: NotRequired[bool]
    extensions: NotRequired[list[str]]
    max_size: NotRequired[int]


class Script(TypedDict):
    """What can be run."""

    name: str
    description: str
    required_tokens: int
    param: list[Param]


class Value(TypedDict):
    """A parameter of a task, as it was sent."""

    name: str
    value: str | list[str]


class Usage(TypedDict, total=False):
    """What a task used, as far as the DRM tells: seconds and bytes."""

    cpu_seconds: float
    wall_seconds: float
    max_rss_bytes: int


class Array(TypedDict):
    """The indices of an array task, and how many of its jobs are in which state."""

    begin: int
    end: int
    step: int
    states: dict[str, int]


class Task(TypedDict):
    """A task. Times are RFC 3339 in UTC."""

    uuid: str
    task_name: str
    task_description: str
    status: str
    state: State
    creation_date: str
    update_date: str
    descendants: list[str]
    depends_on: list[str]
    has_owner: bool
    files_name: dict[str, str]
    params: list[Value]
    is_mine: bool
    is_output_visible: bool
    stdout: str
    stderr: str
    exit_status: NotRequired[int]
    signal: NotRequired[str]
    detail: NotRequired[str]
    start_date: NotRequired[str]
    end_date: NotRequired[str]
    expires_date: NotRequired[str]
    parent_task: NotRequired[str]
    dependency_type: NotRequired[str]
    resource_usage: NotRequired[Usage]
    array: NotRequired[Array]


class File(TypedDict):
    """A file of a task; `path` is percent-encoded, `size` in bytes, `modified` RFC 3339."""

    path: str
    size: int
    modified: str


class Me(TypedDict):
    """Who the caller is."""

    group: str
    is_admin: bool
    user_source: NotRequired[str]
    user_name: NotRequired[str]
    name: NotRequired[str]
    expires: NotRequired[str]


class Token(TypedDict):
    """What an identity provider's token was exchanged for; `expires_in` in seconds."""

    user_source: str
    user_name: str
    access_token: str
    token_type: str
    expires_in: NotRequired[int]


class Link(TypedDict):
    """A read-only link to one task; `expires_in` in seconds."""

    url: str
    expires_in: int


class TaskPage(TypedDict):
    """One page of a list of tasks; `count` is that of all pages."""

    count: int
    next: str | None
    previous: str | None
    results: list[Task]
