"""Two tasks side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import forms
from tests.browser.looks import check_looks
from tests.e2e.daemon import Daemon, daemon, wait_until

#: A picture of one pixel (PNG).
PIXEL = (
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d7"
    "63f8cfc000000301010018dd8db00000000049454e44ae426082"
)

SCRIPT = f"""
inline = '''#!/usr/bin/env python3
import pathlib, sys
number, text = sys.argv[1:3]
print("first line")
print("number", number)
print("written to", pathlib.Path.cwd().name[:8] + "_out.txt")
print(text)
pathlib.Path("plot.png").write_bytes(bytes.fromhex("{PIXEL}"))
pathlib.Path("same.csv").write_text("a,b\\n1,2\\n")
pathlib.Path("data.bin").write_bytes(bytes(range(256)))
if number == "2":
    pathlib.Path("only.txt").write_text("<script>document.title='taken'</script>")
    sys.exit(3)
'''
[[param]]
name = "number"
type = "int"
[[param]]
name = "text"
type = "string"
[[param]]
name = "data"
type = "file"
flag = "--data"
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("compare")
    with daemon(folder, start=False) as made:
        made.script("compute", SCRIPT)
        made.inline("other", "true")
        made.start()
        yield made


def run(service: Daemon, headers: dict[str, str] | None = None, **fields: str) -> dict[str, Any]:
    """A task of ``compute`` that has ended; a field ``file`` names its file."""
    files = {"data": (fields.pop("file", "data.txt"), b"x")}
    address = f"{service.url}/task/"
    fields = {"task_name": "compute", **fields}
    made = requests.post(address, data=fields, files=files, headers=headers, timeout=30).json()
    final = {"done", "failed"}
    return wait_until(
        lambda: (
            found := requests.get(address + made["uuid"], headers=headers, timeout=30).json()
        )["state"] in final and found,
        "the task to end",
    )  # fmt: skip


def test_what_differs_is_marked(service: Daemon, page: Page) -> None:
    text = '"><script>document.title="taken"</script>'
    one = run(service, number="1", text=text)
    other = run(service, number="2", text=text, file="more.txt", task_description="second")
    page.goto(f"{service.url}/ui/compare?a={one['uuid']}&b={other['uuid']}")
    expect(page.get_by_text("2 parameters differ.")).to_be_visible()
    parameters, facts = page.get_by_role("table").all()
    expect(parameters.get_by_role("row", name="Number ≠ differs 1 2")).to_be_visible()
    expect(parameters.get_by_role("row", name="Data ≠ differs data.txt more.txt")).to_be_visible()
    assert "differs" not in (parameters.get_by_role("row").filter(has_text="Text").inner_text())
    expect(facts.get_by_role("row", name="State Done Failed (exit 3)")).to_be_visible()
    expect(facts.get_by_role("row", name="Ran for")).to_be_visible()
    expect(page.get_by_role("link").filter(has=page.locator("time"))).to_have_count(4)
    # The outputs: lines that differ, not those that only name their own task.
    out = page.locator("section", has_text=one["stdout"])
    expect(out.locator("span.differs")).to_have_text(["number 1"])
    expect(out.locator("pre")).to_contain_text(f"written to {one['uuid'][:8]}_out.txt")
    expect(page.get_by_role("heading", name="same.csv · the same with both")).to_be_visible()
    pictures = page.get_by_role("img", name="plot.png of the task")
    expect(pictures).to_have_count(2)
    wait_until(
        lambda: page.evaluate(
            "[...document.querySelectorAll('main img')].every(one => one.naturalWidth === 1)"
        ),
        "the pictures to be shown",
    )
    expect(page.get_by_text("This is no text.")).to_have_count(2)
    expect(page.get_by_text("has no such file.")).to_have_count(1)
    expect(page).to_have_title("Two tasks compared · drmaaticd")
    linked = page.get_by_role("link", name="same.csv").first.get_attribute("href")
    assert page.context.request.get(f"{service.url}{linked}").text() == "a,b\n1,2\n"
    check_looks(page)


def test_long_outputs_make_no_long_page(service: Daemon, page: Page) -> None:
    one, other = (run(service, number=number, text="long " * 900) for number in ("1", "2"))
    for task in (one, other):
        for name in ("notes.txt", "more.txt"):
            (service.tasks / task["uuid"] / name).write_text(f"{task['uuid']} {'word ' * 20}\n" * 5_000)
    answer = page.goto(f"{service.url}/ui/compare?a={one['uuid']}&b={other['uuid']}")
    assert answer is not None
    expect(page.get_by_text("Only the beginning is shown.").first).to_be_visible()
    text = page.evaluate("[...document.querySelectorAll('pre')].map(one => one.textContent.length)")
    assert sum(text) <= 40_000
    check_looks(page)


def test_long_names_make_no_wide_page(service: Daemon, page: Page) -> None:
    one, other = (run(service, number=number, text="x") for number in ("1", "2"))
    for number in range(60):  # more than are shown side by side
        name = f"{number:02d}{'n' * 200}.txt"
        (service.tasks / one["uuid"] / name).write_text(name)
    page.goto(f"{service.url}/ui/compare?a={one['uuid']}&b={other['uuid']}")
    expect(page.get_by_text("more files are not shown")).to_be_visible()
    check_looks(page)


def test_tasks_are_asked_for(service: Daemon, page: Page) -> None:
    one, other = run(service, number="1", text="x"), run(service, number="1", text="x")
    page.goto(f"{service.url}/ui/compare")
    check_looks(page)
    page.get_by_label("One task").fill(f"{service.url}/ui/task/{one['uuid']}")
    page.get_by_label("The other task").fill(other["uuid"].upper())
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Their parameters are the same.")).to_be_visible()


def test_what_cannot_be_compared_is_told(service: Daemon, page: Page) -> None:
    one = run(service, number="1", text="x")["uuid"]
    other = requests.post(f"{service.url}/task/", data={"task_name": "other"}, timeout=30).json()["uuid"]
    gone = "00000000-0000-4000-8000-000000000000"
    for query, status, told in (
        (f"a={one}", 400, "Two tasks are compared, and 1 were chosen."),
        (f"task={one}", 400, "Two tasks are compared, and 1 were chosen."),
        (f"task={one}&task={other}&task={gone}", 400, "Two tasks are compared, and 3 were chosen."),
        (f"a={one}&b={one}", 400, "These are one and the same task."),
        (f"a={one}&b=%3Cscript%3E", 400, "“<script>” holds no UUID of a task."),
        (f"a={one}&b={other}", 400, "These are tasks of two scripts, compute and other."),
        (f"a={one}&b={gone}", 404, f"{gone}: There is no such task."),
    ):
        answer = page.goto(f"{service.url}/ui/compare?{query}")
        assert answer is not None
        assert answer.status == status, query
        expect(page.get_by_role("alert")).to_have_text(told)
    check_looks(page)


def test_from_the_scripts_page_and_not_for_strangers(
    service: Daemon, profile: Callable[..., BrowserContext]
) -> None:
    mine, strange = forms.tokens(service, "compare-mine", "compare-strange")
    headers = {"Authorization": f"Bearer {mine}"}
    first, second = (run(service, headers, number=number, text="x") for number in ("1", "2"))
    context, stranger = profile(), profile()
    forms.sign_in(context, service, mine)
    forms.sign_in(stranger, service, strange)
    page = context.new_page()
    page.goto(f"{service.url}/ui/script/compute")
    for tick in page.get_by_role("checkbox", name="Compare the task of").all():
        tick.check()
    page.get_by_role("button", name="Compare two that are ticked").click()
    expect(page.get_by_text("One parameter differs.")).to_be_visible()
    outside = stranger.new_page()
    outside.goto(f"{service.url}/ui/compare?a={first['uuid']}&b={second['uuid']}")
    expect(outside.get_by_role("alert")).to_contain_text("This task belongs to somebody else.")
