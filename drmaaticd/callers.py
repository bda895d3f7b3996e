"""Who asks: the value that every use case takes, and what it may do with a task.

The rules are API.md's "Who may": an unowned task belongs to whoever knows its UUID, an owned one to
its owner and to administrators.
"""

from __future__ import annotations

from dataclasses import dataclass

from drmaaticd.errors import Forbidden
from drmaaticd.tasks import Task

ANONYMOUS_GROUP = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `user` is the key of the user (``provider:name``), None for nobody."""

    user: str | None
    name: str
    group: str
    is_admin: bool
    address: str
    source: str = ""
    """The provider that vouched for the user."""
    display: str = ""
    """What the provider calls the person; for display alone."""
    token: str | None = None
    """The id of the token that the request came with."""
    expires: int | None = None
    """When that expires, in seconds since 1970."""
    signed_by: str | None = None
    """The id of the key that signed it."""
    link: str | None = None
    """The UUID of the task that a link lets the caller read, whoever they are."""
    link_expires: float | None = None
    """When that expires, in seconds since 1970."""
    link_key: tuple[str, str] | None = None
    """The id of the key that signed the link, and the owner of its task."""

    @classmethod
    def anonymous(cls, address: str) -> Caller:
        """The caller without a token."""
        return cls(user=None, name="", group=ANONYMOUS_GROUP, is_admin=False, address=address)

    @property
    def key(self) -> str:
        """What tells callers apart: the user, or the address of the anonymous."""
        return self.user if self.user is not None else f"address:{self.address}"

    def owns(self, task: Task) -> bool:
        """Whether the task is this caller's own."""
        return task.owner is not None and task.owner == self.user

    def may_use(self, task: Task) -> bool:
        """Whether the caller may see and control the task."""
        return task.owner is None or self.owns(task) or self.is_admin

    def may_see(self, task: Task) -> bool:
        """Whether the caller may see the task: may use it, or came by a link to it."""
        return self.may_use(task) or self.link == task.uuid

    def check_may_use(self, task: Task) -> None:
        """Raise `Forbidden` unless the caller may see and control the task."""
        if not self.may_use(task):
            raise Forbidden("This task belongs to somebody else.")

    def check_may_see(self, task: Task) -> None:
        """Raise `Forbidden` unless the caller may see the task."""
        if not self.may_see(task):
            raise Forbidden("This task belongs to somebody else.")

    def check_may_read_files(self, task: Task) -> None:
        """Raise `Forbidden` unless the caller may read the task's files."""
        if not task.visible:
            self.check_may_see(task)
