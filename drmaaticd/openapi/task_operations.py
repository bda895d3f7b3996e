"""The operations on tasks and their files; see `operations`."""

from __future__ import annotations

from drmaaticd.drafts import MAX_KEY, MIN_ANONYMOUS_KEY
from drmaaticd.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    KeyReused,
    NotAuthenticated,
    NotFound,
    RangeNotSatisfiable,
    Rejected,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UnsupportedMediaType,
)
from drmaaticd.filters import MAX_IDS
from drmaaticd.openapi.parts import (
    ANY_TYPE,
    EVENTS_TYPE,
    FILES,
    JSON,
    PAGE,
    SEARCH,
    SOMEBODY,
    TASKS,
    Answer,
    Operation,
    Parameter,
    comma_separated,
    json_answer,
    whole_number,
)
from drmaaticd.states import State

_GONE = "There is no such task, or none any more."

_THEIRS = "The task belongs to somebody else, or the account is disabled."

_UUID = Parameter(
    "uuid", "The task.", {"type": "string", "format": "uuid"}, "path", "e940cdaa-7388-42e3-9c20-c14416ad2732"
)

_PATH = Parameter(
    "path",
    "The file's path in the task's folder. Each component is percent-encoded by itself, with plain slashes "
    "between them: `sub/a%20b.txt`; `%2F` is no separator.",
    where="path",
    example="e940cdaa_out.txt",
)

_FLAGS = ["1", "0", "true", "false", "yes", "no", "on", "off", ""]

#: The paths whose last part the route chooses from: what they do, and to which tasks.
_ACTIONS = {
    "stop": ("Stop a task", "The job is killed; the files stay."),
    "hold": (
        "Hold a task",
        "A queued job does not begin until it is released. Not for a task that waits for others yet.",
    ),
    "release": ("Release a held task", "It may begin again."),
    "suspend": ("Suspend a task", "A running job pauses."),
    "resume": ("Resume a suspended task", "It goes on."),
}


def _control(action: str) -> Operation:
    """The operation of one of the actions on a task."""
    summary, effect = _ACTIONS[action]
    return Operation(
        f"{action}Task",
        TASKS,
        summary,
        {200: json_answer("Done, or noted.", "Detail", etag=False)},
        f"{effect} While the DRM is slow or away, the answer comes after 2 seconds, and the request is "
        "carried out as soon as it can be.",
        (_UUID,),
        {
            Forbidden: _THEIRS,
            NotFound: _GONE,
            Conflict: "The task has ended, or its state does not allow this.",
        },
        writes=True,
    )


#: What the keys of callers without a token must match.
ANONYMOUS_KEY = f"^[!-~]{{{MIN_ANONYMOUS_KEY},{MAX_KEY}}}$"

_IDEMPOTENCY = Parameter(
    "Idempotency-Key",
    f"Up to {MAX_KEY} visible ASCII characters. The same key from the same caller within 24 hours returns "
    "the first task instead of making another. The anonymous, who are told apart by address, need one of at "
    f"least {MIN_ANONYMOUS_KEY} characters.",
    {"type": "string", "pattern": f"^[!-~]{{1,{MAX_KEY}}}$"},
    "header",
)

_TASK_LINKS: dict[str, JSON] = {
    "task": {"operationId": "getTask", "parameters": {"uuid": "$response.body#/uuid"}},
    "files": {"operationId": "listFiles", "parameters": {"uuid": "$response.body#/uuid"}},
    "stop": {"operationId": "stopTask", "parameters": {"uuid": "$response.body#/uuid"}},
}

_SUBMIT = Operation(
    "submitTask",
    TASKS,
    "Submit a task",
    {
        200: Answer(
            "The task that the same request with this idempotency key has made before.",
            {"application/json": {"$ref": "#/components/schemas/Task"}},
            ("Location",),
        ),
        201: Answer(
            "The new task. While the DRM cannot be reached it is `received`, and is submitted later.",
            {"application/json": {"$ref": "#/components/schemas/Task"}},
            ("Location",),
            _TASK_LINKS,
        ),
    },
    "A field for each of the script's parameters, beside the service's own. Fields may come in any order. "
    "A parameter that is left out takes its default. Uploads are streamed; a refusal is told while they "
    "arrive.",
    (_IDEMPOTENCY,),
    {
        InvalidInput: "A field is missing, unknown, malformed or out of range, or the form is broken. "
        "`errors` names every wrong field.",
        NotFound: "There is no such script, parent task or dependency for this caller, or the task that the "
        "idempotency key made is deleted.",
        Conflict: "A request with the same idempotency key is still arriving, or the caller has as many live "
        "tasks as allowed.",
        TooLarge: "The request, or its text, is larger than any may be, or has more than 1000 fields. A file "
        "larger than its parameter takes is 400.",
        UnsupportedMediaType: "The body is none of the three kinds of form, or has a Content-Encoding.",
        KeyReused: "The idempotency key came before with other fields, file names or sizes.",
        Rejected: "The cluster refused the job for good. The task stays, as `rejected`; `uuid` names it.",
        Unavailable: "No tasks are taken at present, or too many uploads are under way.",
    },
    takes_task=True,
    writes=True,
)


def _time(name: str, description: str) -> Parameter:
    """A filter by a time."""
    return Parameter(
        name,
        f"{description} RFC 3339; empty is as if it were left out.",
        {"type": "string", "anyOf": [{"format": "date-time"}, {"const": ""}]},
        example="2026-11-24T10:00:00Z",
    )


_LIST_TASKS = Operation(
    "listTasks",
    TASKS,
    "List tasks",
    {200: json_answer("A page of tasks, newest first.", "TaskPage")},
    "The caller's tasks; for administrators everyone's. The anonymous caller gets only unowned tasks that "
    "`ids` names.",
    (
        *PAGE,
        comma_separated(
            "state",
            f"Only tasks in these states: {', '.join(f'`{state.value}`' for state in State)}. "
            "Empty is as if it were left out; what is no state is that of no task.",
        ),
        comma_separated("status", "The same by the states' texts."),
        Parameter("task_name", "A part of the script's name, in any case."),
        Parameter("description", "A part of the description, in any case."),
        Parameter("search", SEARCH),
        comma_separated("ids", "Only these tasks, by UUID; what is no UUID is ignored.", MAX_IDS),
        _time("updated_since", "Only tasks that have changed at this time or later."),
        _time("created_since", "Only tasks that were received at this time or later."),
        _time("created_before", "Only tasks that were received before this time."),
    ),
    {InvalidInput: "A filter, or the page, is malformed.", NotFound: "There is no such page."},
)

_SEND_FILE = Operation(
    "getFile",
    FILES,
    "Read a file",
    {
        200: Answer(
            "The whole file.",
            {ANY_TYPE: {}},
            ("ETag", "Accept-Ranges", "Content-Disposition", "Content-Security-Policy", "Content-Length"),
        ),
        206: Answer(
            "The range that was asked for.",
            {ANY_TYPE: {}},
            (
                *("ETag", "Accept-Ranges", "Content-Range", "Content-Disposition"),
                *("Content-Security-Policy", "Content-Length"),
            ),
        ),
    },
    "Inline, with a type that its name tells. A log is followed by asking for `Range: bytes=SIZE-` again and "
    "again, also while the job runs.",
    (
        _UUID,
        _PATH,
        Parameter("Range", "One range of bytes; several are answered with the whole file.", where="header"),
        Parameter("If-Range", "The `ETag` for which `Range` counts.", where="header"),
    ),
    {
        Forbidden: _THEIRS,
        NotFound: "There is no such task or file.",
        RangeNotSatisfiable: "The file has no such bytes: nothing new.",
    },
    by_link=True,
)

_LAST_EVENT = Parameter("Last-Event-ID", "The last event that the client has had.", where="header")

_EVENTS = {
    200: Answer(
        "Server-sent events: the task as `data`; `gone` for one that is no longer to be seen; `end` last.",
        {EVENTS_TYPE: {}},
        ("X-Accel-Buffering",),
    ),
    204: Answer("There is nothing to be told any more, or nothing to follow: clients stay away."),
}

_MANY_STREAMS = "The caller asks too often, or has too many streams open."

TASK_OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/task"): _SUBMIT,
    ("GET", "/task"): _LIST_TASKS,
    ("GET", "/task/{uuid}"): Operation(
        "getTask",
        TASKS,
        "Show a task",
        {200: json_answer("The task.", "Task")},
        parameters=(_UUID,),
        errors={Forbidden: _THEIRS, NotFound: _GONE},
        by_link=True,
    ),
    ("DELETE", "/task/{uuid}"): Operation(
        "deleteTask",
        TASKS,
        "Delete a task",
        {204: Answer("The task is gone.")},
        "Its job is stopped, and its files are removed. A child's deletion leaves the folder that it shares.",
        (_UUID,),
        {
            Forbidden: _THEIRS,
            NotFound: _GONE,
            Conflict: "Tasks that work in this task's folder have not ended.",
        },
        writes=True,
    ),
    ("GET", "/task/{uuid}/status"): Operation(
        "getTaskStatus",
        TASKS,
        "Show a task's status",
        {
            200: json_answer(
                "The text, as a JSON string.", {"type": "string", "enum": [state.text for state in State]}
            )
        },
        parameters=(_UUID,),
        errors={Forbidden: _THEIRS, NotFound: _GONE},
        by_link=True,
    ),
    ("GET", "/task/{uuid}/events"): Operation(
        "watchTask",
        TASKS,
        "Follow a task",
        _EVENTS,
        "The task now, and again whenever it changes, until it has ended.",
        (_UUID, _LAST_EVENT),
        {
            Forbidden: _THEIRS,
            NotFound: _GONE,
            TooManyRequests: _MANY_STREAMS,
            Unavailable: "Too many streams are open, or the service is stopping.",
        },
        by_link=True,
    ),
    ("GET", "/task/events"): Operation(
        "watchTasks",
        TASKS,
        "Follow tasks",
        _EVENTS,
        "Many tasks in one stream: those that `ids` names, until all have ended; or all of the caller's, "
        "without end. What the caller may not see is passed over.",
        (
            comma_separated("ids", "Only these tasks, by UUID; what is no UUID is ignored.", MAX_IDS),
            _LAST_EVENT,
        ),
        {
            TooManyRequests: _MANY_STREAMS,
            Unavailable: "Too many streams are open, or the service is stopping.",
        },
    ),
    ("POST", "/task/{uuid}/link"): Operation(
        "linkTask",
        TASKS,
        "Make a link to a task",
        {201: json_answer("The link.", "Link", etag=False)},
        "Whoever has it can read this task, its files and its events for a while. It ends with the task. "
        "Of a task that nobody owns, it tells the UUID, with which anyone can do everything.",
        (
            _UUID,
            whole_number("lifetime", "Seconds for which it is valid; 300 unless told."),
        ),
        {
            InvalidInput: "`lifetime` is no whole number, or longer than allowed.",
            Forbidden: _THEIRS,
            NotFound: _GONE,
        },
    ),
    **{("PUT", f"/task/{{uuid}}/{action}"): _control(action) for action in _ACTIONS},
    ("PUT", "/task/{uuid}/get_ownership"): Operation(
        "ownTask",
        TASKS,
        "Take an unowned task",
        {200: json_answer("The task, with its unowned descendants, is the caller's.", "Detail", etag=False)},
        parameters=(_UUID,),
        errors={
            NotAuthenticated: "There is no token, or none that counts.",
            Forbidden: _THEIRS,
            NotFound: _GONE,
            Conflict: "The task is the caller's already.",
        },
        who=SOMEBODY,
        writes=True,
    ),
    ("GET", "/task/{uuid}/file"): Operation(
        "listFiles",
        FILES,
        "List a task's files",
        {
            200: json_answer(
                "The paths, sorted; with `details`, entries.",
                {
                    "type": "array",
                    "items": {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/FileEntry"}]},
                },
            )
        },
        parameters=(
            _UUID,
            Parameter(
                "details",
                "Whether sizes, times and exact paths are told.",
                {"type": "string", "enum": _FLAGS},
            ),
        ),
        errors={InvalidInput: "`details` is neither yes nor no.", Forbidden: _THEIRS, NotFound: _GONE},
        by_link=True,
    ),
    ("GET", "/task/{uuid}/file/{path}"): _SEND_FILE,
    ("GET", "/task/{uuid}/download"): Operation(
        "downloadFiles",
        FILES,
        "Download all files",
        {
            200: Answer(
                "An archive of all files, below a folder with the task's UUID, made while it is sent.",
                {"application/zip": {}, "application/gzip": {}},
                ("Content-Disposition", "Content-Length"),
            )
        },
        parameters=(
            _UUID,
            Parameter(
                "format",
                "The kind of archive.",
                {"type": "string", "enum": ["zip", "tar.gz"], "default": "zip"},
            ),
        ),
        errors={
            InvalidInput: "There is no such format.",
            Forbidden: _THEIRS,
            NotFound: "There is no such task, or it has not ended.",
        },
        by_link=True,
    ),
}
