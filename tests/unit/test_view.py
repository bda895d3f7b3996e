"""What the API shows of a record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.callers import Caller
from drmaaticd.states import State
from drmaaticd.tasks import Task
from drmaaticd.view import descendants, rfc3339, view, without_internals

ANYONE = Caller.anonymous("127.0.0.1")
ADMIN = Caller(user="ORCID:a", name="a", group="admins", is_admin=True, address="127.0.0.1")
TASK = Task(
    uuid="0f5f1a1e-0000-4000-8000-000000000000",
    script="demo",
    state=State.FAILED,
    created=0,
    updated=1234,
    started=500,
    ended=1000,
    exit_status=3,
    params=({"name": "k", "value": "7"}, {"name": "secret", "value": "x", "private": True}),
    detail="open /home/jane/x failed on node1.cluster.example.org",
    sender="10.0.0.1",
    job_id="12",
)


def test_times_are_rfc3339_in_utc() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1764000000123) == "2025-11-24T16:00:00.123Z"


@given(st.integers(0, 4102444800000))
def test_times_keep_their_milliseconds(moment: int) -> None:
    assert rfc3339(moment).endswith(f".{moment % 1000:03d}Z")


def test_null_values_are_left_out_and_inner_things_hidden() -> None:
    shown = view(TASK, ANYONE, below=[], keep_seconds=None)
    assert None not in shown.values()
    assert shown["params"] == [{"name": "k", "value": "7"}]
    assert "expires_date" not in shown
    assert {"user", "drm_job_id", "sender_ip_addr", "deleted"}.isdisjoint(shown)
    assert "/home" not in shown["detail"]
    assert "node1" not in shown["detail"]
    assert (shown["state"], shown["status"]) == ("failed", "job finished, but failed")
    assert shown["exit_status"] == 3
    assert shown["stdout"] == "0f5f1a1e_out.txt"


def test_an_administrator_sees_everything() -> None:
    shown = view(TASK, ADMIN, below=[], keep_seconds=60)
    assert [param["name"] for param in shown["params"]] == ["k", "secret"]
    assert (shown["drm_job_id"], shown["sender_ip_addr"], shown["deleted"]) == ("12", "10.0.0.1", False)
    assert shown["detail"] == TASK.detail
    assert shown["expires_date"] == "1970-01-01T00:01:01.000Z"


def test_an_array_counts_its_members() -> None:
    array = Task(
        uuid="u" * 36,
        script="a",
        state=State.RUNNING,
        created=0,
        updated=0,
        array={"begin": 1, "end": 4, "step": 1},
        members="ddrq",
    )
    shown = view(array, ANYONE, below=[], keep_seconds=None)
    assert shown["array"] == {
        "begin": 1,
        "end": 4,
        "step": 1,
        "states": {"done": 2, "queued_active": 1, "running": 1},
    }
    assert shown["stdout"] == "uuuuuuuu_out.<index>.txt"
    assert "end_date" not in shown


def test_descendants_are_all_below() -> None:
    def child(uuid: str, deleted: int | None = None) -> Task:
        return Task(uuid=uuid, script="s", state=State.DONE, created=0, updated=0, deleted=deleted)

    tree = {"a": [child("b", deleted=1), child("c")], "b": [child("d")], "c": [], "d": []}
    assert descendants("a", tree.__getitem__) == ["c", "d"]
    tree["a"][0] = child("b")
    assert descendants("a", tree.__getitem__) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("job 12 exceeded h_vmem 512M", "job 12 exceeded h_vmem 512M"),
        ('unknown queue "fast.q"', 'unknown queue "fast.q"'),
        ("cannot open /var/spool/x/y: no such file", "cannot open …: no such file"),
        ("denied: host node1.example.edu is no submit host", "denied: host … is no submit host"),
        ("rejected for jane@node1", "rejected for …"),
    ],
)
def test_the_inside_of_the_machine_is_taken_out_of_a_drms_text(text: str, kept: str) -> None:
    assert without_internals(text) == kept
