"""The answers' JSON, as pydantic models, from which their JSON Schemas are made.

They describe; the values themselves are made by `view`, `script` and the service. What is null is left
out of an answer, so that an optional key is absent or of its type.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from drmaaticd.drafts import DEPENDENCY_TYPES, MAX_DESCRIPTION
from drmaaticd.params import Type
from drmaaticd.states import State

#: Where the schemas stand in the document.
REF = "#/components/schemas/{model}"

Time = Annotated[
    str,
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-24T10:00:00.123Z"]}),
]
Uuid = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
Url = Annotated[str, WithJsonSchema({"type": "string", "format": "uri"})]
#: A value of a script's definition.
Fixed = Annotated[bool | int | float | str, WithJsonSchema({"type": ["boolean", "number", "string"]})]
Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
StateName = Annotated[str, WithJsonSchema({"type": "string", "enum": [state.value for state in State]})]
StatusText = Annotated[str, WithJsonSchema({"type": "string", "enum": [state.text for state in State]})]
DependencyType = Annotated[str, WithJsonSchema({"type": "string", "enum": list(DEPENDENCY_TYPES)})]

_ADMIN = "Administrators only."


def _optional(description: str, **more: Any) -> Any:
    return Field(default=None, description=description, **more)


class Answer(BaseModel):
    """The base of all."""


class FieldError(Answer):
    """One wrong field of a request."""

    name: str = Field(description="The field, parameter or header.")
    detail: str = Field(description="What is wrong with it, and what is allowed.")


class Problem(Answer):
    """An error (RFC 9457)."""

    type: Literal["about:blank"]
    title: str = Field(description="The kind of error.")
    status: int = Field(ge=400, le=599, description="The HTTP status.")
    detail: str | None = _optional("What is wrong, for people.")
    errors: list[FieldError] | None = _optional("Every wrong field of the request.")
    uuid: Uuid | None = _optional("The task that the cluster refused.")


class Links(Answer):
    """Where to go."""

    scripts: Url
    tasks: Url
    me: Url
    token: str = Field(description="URI template (RFC 6570) of the exchange of tokens.")
    cpu_credit: Url
    openapi: Url
    docs: Url
    page: Url = Field(description="The page for people.")
    health: Url
    ready: Url
    metrics: Url


class Index(Answer):
    """What this service is."""

    name: str
    version: str
    providers: list[str] = Field(description="Identity providers whose tokens are exchanged.")
    anonymous: bool = Field(description="Whether callers without a token are served.")
    max_upload: int = Field(ge=0, description="Bytes of the largest request, with all its files.")
    links: Links


class Health(Answer):
    """That the process lives."""

    status: Literal["ok"]
    version: str


class Ready(Answer):
    """That tasks can be taken and run."""

    status: Literal["ready"]


class Token(Answer):
    """One of the service's own tokens."""

    user_source: str = Field(description="The provider.", examples=["ORCID"])
    user_name: str = Field(description="The name that the provider knows.", examples=["0000-0002-1825-0097"])
    access_token: str = Field(description="The token, for `Authorization: Bearer …`.")
    token_type: Literal["Bearer"]
    expires_in: int = Field(ge=0, description="Seconds.")


class Me(Answer):
    """Who the caller is."""

    user_source: str | None = _optional("The provider. Absent for the anonymous caller, as the next three.")
    user_name: str | None = _optional("The name that the provider knows.")
    name: str | None = _optional("What the provider calls the person.")
    group: str = Field(description="The group, which decides what the caller may.")
    is_admin: bool
    expires: Time | None = _optional("When the token of this request expires.")


class Credit(Answer):
    """What the caller may spend."""

    available_cpu_credit: int
    wait_time: Annotated[
        int | str | None,
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "infinite"}]}),
    ] = _optional("Whole seconds until `required` is there. Only where it was asked for.")


class ScriptParam(Answer):
    """A parameter of a script."""

    name: str
    type: Type
    description: str | None = _optional("What it means.")
    default: Fixed | list[Fixed] | None = _optional("The value that is passed on where none is sent.")
    required: bool
    choices: list[Fixed] | None = _optional("The only values.")
    min: Number | None = _optional("The least value.")
    max: Number | None = _optional("The largest value.")
    max_length: int | None = _optional("Characters at most; 5000 unless told.")
    pattern: str | None = _optional("What the value must match as a whole (RE2's syntax).")
    multiple: bool | None = _optional("Whether it may be repeated.")
    extensions: list[str] | None = _optional("How a file's name must end; case does not count.")
    max_size: int | None = _optional("Bytes of a file at most.")
    flag: str | None = _optional(f"The option on the command line. {_ADMIN}")
    private: Fixed | list[Fixed] | None = _optional(f"The fixed value, which nobody may send. {_ADMIN}")


class Script(Answer):
    """A script that the caller may run."""

    name: str
    description: str
    required_tokens: int = Field(ge=0, description="CPU credit that a task costs.")
    param: list[ScriptParam] = Field(description="The parameters, in order.")
    command: str | None = _optional(f"The program. {_ADMIN}")
    groups: list[str] | None = _optional(f"Who may run it; empty: everyone. {_ADMIN}")
    queue: str | None = _optional(f"The DRM's queue. {_ADMIN}")
    cpus: int | None = _optional(f"Cores. {_ADMIN}")
    memory_mb: int | None = _optional(f"Mebibytes for the whole job. {_ADMIN}")
    max_clock_time: int | None = _optional(f"Seconds that a job may run. {_ADMIN}")
    is_array: bool | None = _optional(f"Whether it is an array job. {_ADMIN}")
    begin_index: int | None = _optional(f"First index of the array. {_ADMIN}")
    end_index: int | None = _optional(f"Last index of the array. {_ADMIN}")
    step_index: int | None = _optional(f"Step of the array. {_ADMIN}")
    is_output_visible: bool | None = _optional(f"Whether files are open to who knows the UUID. {_ADMIN}")


class TaskParam(Answer):
    """A parameter as it was sent."""

    name: str
    value: str | list[str] = Field(
        description="The text that was sent, or the default; of a file, the name under which it is stored. "
        "A list for parameters that may be repeated."
    )


class Usage(Answer):
    """What a job used, as far as it is known."""

    cpu_seconds: float | None = _optional("Processor time.")
    wall_seconds: float | None = _optional("Time from start to end.")
    max_rss_bytes: int | None = _optional("Largest resident memory.")


class ArrayState(Answer):
    """The members of an array job."""

    begin: int
    end: int
    step: int
    states: dict[StateName, int] = Field(description="How many members are in each state.")


class Task(Answer):
    """A task."""

    uuid: Uuid
    task_name: str = Field(description="The script.")
    task_description: str = Field(max_length=MAX_DESCRIPTION)
    status: StatusText = Field(description="The state, in words.")
    state: StateName
    exit_status: int | None = _optional("The exit status of the job.")
    signal: str | None = _optional("The signal that ended the job.", examples=["SIGKILL"])
    detail: str | None = _optional("Why it waits, failed or was refused.")
    creation_date: Time
    update_date: Time
    start_date: Time | None = _optional(
        "When the job began, in its newest run if the cluster ran it again; of an array, its first member."
    )
    end_date: Time | None = _optional("When it ended.")
    expires_date: Time | None = _optional("When the ended task, with its files, is removed.")
    parent_task: Uuid | None = _optional("The task whose folder it works in.")
    descendants: list[Uuid] = Field(description="Tasks that work in its folder, nearest first.")
    depends_on: list[Uuid] = Field(description="Tasks that must end before it begins.")
    dependency_type: DependencyType | None = _optional("How they must end. Absent without dependencies.")
    has_owner: bool
    is_mine: bool
    is_output_visible: bool = Field(description="Whether its files are open to whoever knows the UUID.")
    files_name: dict[str, str] = Field(description="Stored name → the name that the client gave.")
    params: list[TaskParam]
    stdout: str = Field(description="The file of standard output; `<index>` stands for an array's index.")
    stderr: str = Field(description="The file of standard error.")
    resource_usage: Usage | None = _optional("What the job used.")
    array: ArrayState | None = _optional("Array jobs only.")
    user: str | None = _optional(f"The owner's key. {_ADMIN}")
    drm_job_id: str | None = _optional(f"The DRM's id of the job. {_ADMIN}")
    sender_ip_addr: str | None = _optional(f"The address that sent it. {_ADMIN}")
    deleted: bool | None = _optional(f"Whether it was deleted. {_ADMIN}")


class Link(Answer):
    """A read-only link to one task, for those without a token."""

    url: Url
    expires_in: int = Field(ge=0, description="Seconds.")


class FileEntry(Answer):
    """A file, with `?details=1`."""

    path: str = Field(description="The exact path, percent-encoded.")
    size: int = Field(ge=0, description="Bytes.")
    modified: Time


class Detail(Answer):
    """What was done."""

    detail: str


class _Page(Answer):
    count: int = Field(ge=0, description="Entries on all pages together.")
    next: Url | None = Field(description="The next page.")
    previous: Url | None = Field(description="The page before.")


class ScriptPage(_Page):
    """A page of scripts, by name."""

    results: list[Script]


class TaskPage(_Page):
    """A page of tasks, newest first."""

    results: list[Task]


ANSWERS: tuple[type[Answer], ...] = (
    *(Problem, Index, Health, Ready, Token, Me, Credit),
    *(ScriptPage, Script, TaskPage, Task, Link, FileEntry, Detail),
)


class _Schemas(GenerateJsonSchema):
    """Optional keys are absent rather than null, so that neither null nor a default is told."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = schema["schema"]
        return self.generate_inner(inner["schema"] if inner["type"] == "nullable" else inner)


@lru_cache(maxsize=1)
def schemas() -> dict[str, Any]:
    """The JSON Schema (2020-12) of each model, by its name."""
    _, whole = models_json_schema(
        [(model, "validation") for model in ANSWERS], ref_template=REF, schema_generator=_Schemas
    )
    made: dict[str, Any] = whole["$defs"]
    for schema in made.values():
        schema["description"] = " ".join(schema["description"].split())
        schema.pop("title", None)
    return dict(sorted(made.items()))
