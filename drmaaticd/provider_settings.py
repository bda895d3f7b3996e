"""What the configuration says of one identity provider, ``[[auth.providers]]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from drmaaticd.places import AbsolutePath, SecureUrl
from drmaaticd.toml_source import KeyPath
from drmaaticd.validation import Line, Model, Pattern, Texts, matching

ORCID_USERINFO = "https://orcid.org/oauth/userinfo"
ORCID_AUTHORIZE = "https://orcid.org/oauth/authorize"
ORCID_TOKEN = "https://orcid.org/oauth/token"  # noqa: S105 - an address
ORCID_PATTERN = r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]"

ProviderName = Annotated[
    str, matching(r"[A-Za-z][A-Za-z0-9_.-]{0,31}", "a letter, then up to 31 letters, digits, _, . and -")
]


class Provider(Model):
    """One identity provider (OpenID Connect) that says who a person is."""

    name: ProviderName = Field(
        description="Name of the provider, part of each user's key: not to be changed later.",
        examples=["ORCID"],
    )
    userinfo_url: SecureUrl = Field(
        description="Its userinfo endpoint, which is asked whom an access token belongs to.",
        examples=[ORCID_USERINFO],
    )
    user_name_claim: Line = Field(
        default="sub",
        min_length=1,
        description="The claim of its answer that is the user's name; it must never change hands.",
    )
    pattern: Pattern | None = Field(
        default=None,
        description="What a user's name must match as a whole (RE2's syntax).",
        examples=[ORCID_PATTERN],
    )
    client_ids: Texts = Field(
        default=(),
        description="OAuth clients whose tokens are taken. Empty: tokens issued to any client, so that any "
        "site that a person signed in to could act for them.",
        examples=[["APP-0123456789ABCDEF"]],
    )
    issuer: SecureUrl | None = Field(
        default=None, description="`iss` of its ID tokens; with `jwks_url`.", examples=["https://orcid.org"]
    )
    jwks_url: SecureUrl | None = Field(
        default=None, description="Its public keys, for ID tokens.", examples=["https://orcid.org/oauth/jwks"]
    )
    introspection_url: SecureUrl | None = Field(
        default=None,
        description="Its token introspection (RFC 7662), for access tokens.",
        examples=["https://provider.example.org/oauth/introspect"],
    )
    introspection_client_id: Line | None = Field(
        default=None,
        min_length=1,
        description="The client as which introspection is asked.",
        examples=["drmaaticd"],
    )
    introspection_secret_file: AbsolutePath | None = Field(
        default=None,
        description="File with that client's secret, readable for the daemon alone.",
        examples=["provider.secret"],
    )
    client_id: Line | None = Field(
        default=None,
        min_length=1,
        description="The OAuth client as which the page signs people in. Unset: the page offers no sign-in "
        "at this provider.",
        examples=["APP-0123456789ABCDEF"],
    )
    client_secret_file: AbsolutePath | None = Field(
        default=None,
        description="File with that client's secret, for the daemon alone; unset for a public client.",
        examples=["page.secret"],
    )
    client_auth: Literal["post", "basic"] = Field(
        default="post", description="How the secret is sent: in the request's body, or by HTTP Basic."
    )
    authorize_url: SecureUrl | None = Field(
        default=None,
        description="Where the page sends people to sign in (authorisation endpoint).",
        examples=[ORCID_AUTHORIZE],
    )
    token_url: SecureUrl | None = Field(
        default=None,
        description="Where the page's sign-in is redeemed (token endpoint).",
        examples=[ORCID_TOKEN],
    )
    scopes: Texts = Field(default=("openid",), description="What the page's sign-in asks for.")

    @property
    def offers_sign_in(self) -> bool:
        """Whether people can sign in at this provider on the page."""
        return bool(self.client_id and self.authorize_url and self.token_url)

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        """Check what must fit together."""
        if self.client_ids and not self.jwks_url and not self.introspection_url:
            yield ("client_ids",), "must come with issuer and jwks_url, or with introspection_url"
        if bool(self.issuer) != bool(self.jwks_url):
            missing = "jwks_url" if self.issuer else "issuer"
            yield (missing,), "is missing: issuer and jwks_url belong together"
        if bool(self.introspection_client_id) != bool(self.introspection_secret_file):
            missing = (
                "introspection_secret_file" if self.introspection_client_id else "introspection_client_id"
            )
            yield (
                (missing,),
                "is missing: introspection_client_id and introspection_secret_file belong together",
            )
        yield from self._problems_of_the_page()

    def _problems_of_the_page(self) -> Iterator[tuple[KeyPath, str]]:
        for key in ("authorize_url", "token_url"):
            if self.client_id and getattr(self, key) is None:
                yield (key,), "is missing: client_id, authorize_url and token_url belong together"
        if self.client_id and self.client_ids and self.client_id not in self.client_ids:
            yield ("client_id",), "must be one of client_ids, which are all whose tokens are taken"
        if self.client_secret_file and not self.client_id:
            yield ("client_id",), "is missing: client_secret_file is this client's"


ORCID = Provider(
    name="ORCID",
    userinfo_url=ORCID_USERINFO,
    pattern=ORCID_PATTERN,
    authorize_url=ORCID_AUTHORIZE,
    token_url=ORCID_TOKEN,
)
