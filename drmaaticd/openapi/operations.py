"""What each route does, method by method.

The keys are method and path of the application's own routes; a test asks that each of them is here.
"""

from __future__ import annotations

from drmaaticd.errors import (
    Forbidden,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    ProviderFailed,
    Unavailable,
)
from drmaaticd.openapi.parts import (
    ACCOUNTS,
    FILES,
    HTML_TYPE,
    PAGE,
    PROVIDER,
    SCRIPTS,
    SEARCH,
    SERVICE,
    SOMEBODY,
    TASKS,
    Answer,
    Operation,
    Parameter,
    comma_separated,
    json_answer,
    whole_number,
)
from drmaaticd.openapi.task_operations import TASK_OPERATIONS

#: The tags in the order of the pages.
TAGS = {
    ACCOUNTS: "Tokens, who the caller is, and what they may spend.",
    SCRIPTS: "What can be run. Only scripts that the caller may run are shown.",
    TASKS: "Jobs: one run of a script each.",
    FILES: "What a task reads and writes.",
    SERVICE: "The service itself.",
}

_SCRIPT = Parameter("name", "The script.", where="path", example="fasta-stats")

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("GET", "/"): Operation(
        "getIndex",
        SERVICE,
        "What this service is",
        {
            200: json_answer("Its name, version and links.", "Index"),
            303: Answer("To the page for people, where `Accept` prefers HTML.", {}, ("Location-page",)),
        },
    ),
    ("GET", "/openapi.json"): Operation(
        "getOpenapi",
        SERVICE,
        "This document",
        {200: json_answer("With the parameters of each script that the caller may run.", {"type": "object"})},
    ),
    ("GET", "/docs"): Operation(
        "getDocs",
        SERVICE,
        "This document, to be read",
        {
            200: Answer(
                "The documentation, for the same caller as `/openapi.json`.",
                {HTML_TYPE: {"type": "string"}},
                ("ETag", "Content-Security-Policy"),
            )
        },
    ),
    ("GET", "/health"): Operation(
        "getHealth",
        SERVICE,
        "Whether the process lives",
        {200: json_answer("It does.", "Health")},
        "Not counted: it may be asked as often as monitoring likes.",
    ),
    ("GET", "/ready"): Operation(
        "getReady",
        SERVICE,
        "Whether tasks can be taken and run",
        {200: json_answer("They can.", "Ready")},
        errors={
            Unavailable: "The store or the DRM does not work. The reason is for administrators and the "
            "addresses in `metrics_allow`."
        },
    ),
    ("GET", "/metrics"): Operation(
        "getMetrics",
        SERVICE,
        "Figures for Prometheus",
        {200: Answer("In the text format 0.0.4.", {"text/plain": {"type": "string"}})},
        "For administrators and the addresses in `metrics_allow`.",
        errors={Forbidden: "The caller is no administrator, or the account is disabled."},
    ),
    ("GET", "/token/{username}"): Operation(
        "exchangeToken",
        ACCOUNTS,
        "Exchange a provider's token",
        {200: json_answer("A token of this service.", "Token", etag=False)},
        "The bearer is an access token, or ID token, of the identity provider (ORCID unless configured "
        "otherwise) for the person of this name.",
        (
            Parameter(
                "username",
                "The name that the provider knows.",
                where="path",
                example="0000-0002-1825-0097",
            ),
        ),
        {
            InvalidInput: "The name is none of the provider's.",
            NotAuthenticated: "There is no bearer, or the provider refuses it.",
            Forbidden: "The token is another person's, or the account is disabled.",
            ProviderFailed: "The provider cannot be reached or answers nonsense.",
        },
        who=PROVIDER,
        writes=True,
    ),
    ("DELETE", "/token"): Operation(
        "revokeToken",
        ACCOUNTS,
        "Sign out",
        {204: Answer("The token of this request is revoked, for good.")},
        errors={NotAuthenticated: "There is no token, or none that counts."},
        who=SOMEBODY,
        writes=True,
    ),
    ("GET", "/me"): Operation(
        "getMe", ACCOUNTS, "Who the caller is", {200: json_answer("The caller.", "Me")}
    ),
    ("GET", "/cpu-credit"): Operation(
        "getCredit",
        ACCOUNTS,
        "What the caller may spend",
        {200: json_answer("The CPU credit.", "Credit")},
        "Each task costs its script's `required_tokens`; credit comes back with time.",
        (whole_number("required", "Also tell how long until so much is there.", least=0),),
        {InvalidInput: "`required` is no whole number."},
    ),
    ("GET", "/script"): Operation(
        "listScripts",
        SCRIPTS,
        "List scripts",
        {200: json_answer("A page of scripts, by name.", "ScriptPage")},
        parameters=(
            *PAGE,
            Parameter("name", "Only the script of exactly this name."),
            comma_separated("name__in", "Only the scripts of these names."),
            Parameter("search", SEARCH),
        ),
        errors={InvalidInput: "A parameter is malformed.", NotFound: "There is no such page."},
    ),
    ("GET", "/script/{name}"): Operation(
        "getScript",
        SCRIPTS,
        "Show a script",
        {200: json_answer("The script.", "Script")},
        parameters=(_SCRIPT,),
        errors={NotFound: "There is no such script, or the caller may not run it."},
    ),
    **TASK_OPERATIONS,
}
