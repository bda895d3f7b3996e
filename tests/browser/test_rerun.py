"""A task that runs again: filled in, its files kept, at once or after a change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import forms
from tests.browser.looks import check_looks
from tests.e2e.daemon import Daemon, daemon, wait_until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("rerun")
    with daemon(folder, start=False) as made:
        made.script("align", forms.ALIGN)
        # A job that writes to its own input: a task that kept it must not see that.
        made.script(
            "spoil",
            'inline = "#!/bin/sh\\ncat data.txt; echo spoiled > data.txt"\n'
            '[[param]]\nname = "data"\ntype = "file"\n',
        )
        made.start()
        yield made


def first_task(page: Page, service: Daemon) -> dict:
    forms.fill(page, service, k="7", task_description="the first", names="x y")
    page.locator("#f-reads").set_input_files([forms.upload("b.fq", b"ACGTACGT")])
    page.locator("#f-reference").set_input_files([forms.upload("ref.fa", b">r\n")])
    return forms.ended(page.context, service, forms.start(page))


def test_a_rerun_is_filled_in_with_its_files(service: Daemon, page: Page) -> None:
    first = first_task(page, service)
    page.goto(f"{service.url}/ui/script/align?from={first['uuid']}")
    expect(page.get_by_label("K", exact=True)).to_have_value("7")
    expect(page.get_by_label("Note")).to_have_value("the first")
    kept = page.locator("#f-reads-field .kept li")
    expect(kept).to_have_text([re.compile("a.fastq.*5 bytes"), re.compile("b.fq.*8 bytes")])
    check_looks(page)
    page.get_by_label("K", exact=True).fill("8")
    sent: list[int] = []
    page.on(
        "request",
        lambda request: (
            sent.append(len(request.post_data_buffer or b"")) if request.method == "POST" else None
        ),
    )
    again = forms.ended(page.context, service, forms.start(page))
    assert forms.params(again) == forms.params(first) | {"k": "8"}
    assert again["files_name"] == first["files_name"]
    assert forms.output(service, again).count("[--name]") == 1
    assert "8 reads_1.fq" in forms.output(service, again)
    for name in first["files_name"]:
        one, other = (service.tasks / task["uuid"] / name for task in (first, again))
        assert one.read_bytes() == other.read_bytes()
        assert one.stat().st_ino != other.stat().st_ino


def test_kept_files_are_removed_and_replaced(service: Daemon, page: Page) -> None:
    first = first_task(page, service)
    page.goto(f"{service.url}/ui/script/align?from={first['uuid']}")
    page.get_by_role("checkbox", name="a.fastq").uncheck()
    page.locator("#f-reads").set_input_files([forms.upload("new.fq", b"N")])
    page.locator("#f-reference").set_input_files([forms.upload("other.fa", b">o\n\n")])
    expect(page.get_by_role("checkbox", name="ref.fa")).not_to_be_checked()
    again = forms.task(page.context, service, forms.start(page))
    assert again["files_name"] == {"reads_0.fq": "b.fq", "reads_1.fq": "new.fq", "reference.fa": "other.fa"}
    page.goto(f"{service.url}/ui/script/align?from={first['uuid']}")
    for name in ("a.fastq", "b.fq"):
        page.get_by_role("checkbox", name=name).uncheck()
    expect(page.locator("#f-reads-wrong")).to_have_text("Is required")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#f-reads")).to_be_focused()
    check_looks(page)


def test_one_click_runs_it_again(service: Daemon, page: Page) -> None:
    first = first_task(page, service)
    page.goto(f"{service.url}/ui/task/{first['uuid']}/rerun")
    expect(page).to_have_url(re.compile(rf"/ui/script/align\?from={first['uuid']}$"))
    page.get_by_role("button", name="Run again as it was").click()
    again = forms.ended(page.context, service, forms.started(page))
    assert again["uuid"] != first["uuid"]
    assert forms.params(again) == forms.params(first)
    assert again["task_description"] == "the first"
    assert again["state"] == "done"


def test_without_javascript(service: Daemon, page: Page, profile: Callable[..., BrowserContext]) -> None:
    first = first_task(page, service)
    plain = profile(java_script_enabled=False).new_page()
    plain.goto(f"{service.url}/ui/script/align?from={first['uuid']}")
    plain.locator("#f-reference").set_input_files([forms.upload("new.fa", b"N")])
    plain.get_by_label("K", exact=True).fill("99")
    plain.get_by_role("button", name="Start", exact=True).click()
    expect(plain.locator("#f-k-wrong")).to_be_visible()
    expect(plain.get_by_role("checkbox", name="a.fastq")).to_be_checked()  # kept through the refusal
    plain.get_by_label("K", exact=True).fill("9")
    again = forms.task(plain.context, service, forms.start(plain))
    assert list(again["files_name"].values()) == ["a.fastq", "b.fq", "ref.fa"]
    assert forms.params(again)["k"] == "9"


def test_a_kept_file_is_the_new_tasks_own(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/spoil")
    page.locator("#f-data").set_input_files([forms.upload("data.txt", b"fresh\n")])
    first = forms.ended(page.context, service, forms.start(page))
    source = service.tasks / first["uuid"] / "data.txt"
    assert source.read_text() == "spoiled\n"
    source.write_text("mended\n")
    page.goto(f"{service.url}/ui/script/spoil?from={first['uuid']}")
    again = forms.ended(page.context, service, forms.start(page))
    assert forms.output(service, again) == "mended\n"
    assert source.read_text() == "mended\n"


def test_a_file_that_is_gone_is_told(service: Daemon, page: Page) -> None:
    first = first_task(page, service)
    page.goto(f"{service.url}/ui/script/align?from={first['uuid']}")
    (service.tasks / first["uuid"] / "reads_0.fastq").unlink()
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#f-reads-wrong")).to_have_text(
        "'reads_0.fastq' of the earlier task is gone; choose a file"
    )
    expect(page.locator("#f-reads")).to_be_focused()
    page.reload()
    expect(page.get_by_text("a.fastq of the earlier task is gone: choose it again.")).to_be_visible()
    expect(page.locator("#f-reads-field .kept li")).to_have_count(1)
    assert forms.leftovers(service) == []


def test_a_script_that_changed_is_told(service: Daemon, page: Page) -> None:
    service.script("moving", 'inline = "#!/bin/sh\\ntrue"\n[[param]]\nname = "old"\ntype = "int"\n')
    wait_until(lambda: requests.get(f"{service.url}/script/moving", timeout=20).ok, "the script")
    page.goto(f"{service.url}/ui/script/moving?old=3")
    first = forms.start(page)
    service.script(
        "moving", 'inline = "#!/bin/sh\\ntrue"\n[[param]]\nname = "new"\ntype = "int"\nrequired = true\n'
    )
    wait_until(
        lambda: requests.get(f"{service.url}/script/moving", timeout=20).json()["param"][0]["name"] == "new",
        "the new script",
    )
    page.goto(f"{service.url}/ui/script/moving?from={first}")
    expect(page.get_by_text("The script no longer has the parameter old.")).to_be_visible()
    # At once it cannot run: the form says why.
    page.get_by_role("button", name="Run again as it was").click()
    expect(page.locator("#f-new-wrong")).to_have_text("Is required")
    check_looks(page)
    page.get_by_label("New").fill("4")
    document = forms.task(page.context, service, forms.start(page))
    assert forms.params(document) == {"new": "4"}


def test_nobody_takes_over_what_is_anothers(service: Daemon, profile: Callable[..., BrowserContext]) -> None:
    mine, other = forms.tokens(service, "rerun-mine", "rerun-other")
    context, stranger = profile(), profile()
    forms.sign_in(context, service, mine)
    forms.sign_in(stranger, service, other)
    page = context.new_page()
    first = first_task(page, service)
    page.goto(f"{service.url}/ui/script/align?from={first['uuid']}")
    expect(page.get_by_role("heading", name="Your last tasks")).to_be_visible()
    expect(page.get_by_text("Runs for")).to_be_visible()
    check_looks(page)
    outside = stranger.new_page()
    for path in (f"script/align?from={first['uuid']}", f"task/{first['uuid']}/rerun"):
        answer = outside.goto(f"{service.url}/ui/{path}")
        assert answer is not None
        assert answer.status == 403
        expect(outside.get_by_text("This task belongs to somebody else.")).to_be_visible()
    forms.fill(outside, service)
    expect(outside.get_by_role("heading", name="Your last tasks")).to_have_count(0)
    outside.evaluate(
        """value => { const input = document.createElement("input");
        Object.assign(input, {type: "hidden", name: "keep:reads", value});
        document.getElementById("form").append(input); }""",
        f"{first['uuid']}/reads_0.fastq",
    )
    outside.get_by_role("button", name="Start", exact=True).click()
    expect(outside.locator("#f-reads-wrong")).to_have_text(
        "'reads_0.fastq' of the earlier task is gone; choose a file"
    )
    assert forms.leftovers(service) == []


def rerun(service: Daemon, uuid: str, **options) -> requests.Response:
    session = requests.Session()
    text = session.get(f"{service.url}/ui/script/spoil", timeout=20).text
    token = re.search(r'<meta name="xsrf" content="([^"]+)"', text)
    assert token is not None
    params = {"_xsrf": token[1]} | options.pop("params", {})
    headers = {"Origin": service.url} | options.pop("headers", {})
    return session.post(
        f"{service.url}/ui/task/{uuid}/rerun",
        params=params, headers=headers, allow_redirects=False, timeout=30, **options,
    )  # fmt: skip


def test_a_forged_rerun_is_refused_and_two_clicks_make_one_task(service: Daemon) -> None:
    first = requests.post(
        f"{service.url}/task/", data={"task_name": "spoil"}, files={"data": ("d.txt", b"x")}, timeout=30
    ).json()["uuid"]
    assert rerun(service, first, params={"_xsrf": "2|aa|bb|1"}).status_code == 403
    assert rerun(service, first, headers={"Origin": "https://evil.example"}).status_code == 403
    assert rerun(service, first, headers={"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert rerun(service, "00000000-0000-4000-8000-000000000000").status_code == 404
    key = {"key": "0123456789abcdef0123456789"}
    one = rerun(service, first, params=key)
    (service.tasks / first / "data.txt").write_text("whatever a job makes of it meanwhile")
    two = rerun(service, first, params=key)
    assert one.status_code == two.status_code == 303
    assert one.headers["Location"] == two.headers["Location"] != f"/ui/task/{first}"


def test_kept_files_count_against_the_limit(tmp_path: Path, profile: Callable[..., BrowserContext]) -> None:
    with daemon(tmp_path, start=False, server={"max_upload": "1 MiB"}) as service:
        service.script("align", forms.ALIGN)
        service.start()
        page = profile().new_page()
        page.goto(f"{service.url}/ui/script/align?sample=AB1")
        page.locator("#f-reads").set_input_files([forms.upload("a.fq", b"x" * 600_000)])
        first = forms.start(page)
        page.goto(f"{service.url}/ui/script/align?from={first}")
        # As many copies as one likes, for a handful of bytes sent.
        page.evaluate(
            """() => { const kept = document.querySelector('[name="keep:reads"]');
            for (let i = 0; i < 3; i += 1) kept.after(kept.cloneNode()); }"""
        )
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#summary")).to_contain_text("a form with its files may have at most 1 MiB")
        assert forms.leftovers(service) == []


def test_a_waiting_task_tells_what_is_usual(tmp_path: Path, page: Page) -> None:
    with daemon(tmp_path, drm={"slots": 1}, scripts={"first": "sleep 600", "short": "true"}) as service:
        address = f"{service.url}/task/"
        done = requests.post(address, data={"task_name": "short"}, timeout=30).json()["uuid"]
        wait_until(
            lambda: requests.get(address + done, timeout=30).json()["state"] == "done", "the task to end"
        )
        requests.post(address, data={"task_name": "first"}, timeout=30)
        waiting = requests.post(address, data={"task_name": "short"}, timeout=30).json()["uuid"]
        page.goto(f"{service.url}/ui/task/{waiting}")
        usual = re.compile(r"Tasks of this script start after .+ and run for .+, by the one task")
        expect(page.get_by_text(usual)).to_be_visible()
        check_looks(page)
        page.goto(f"{service.url}/ui/task/{done}")
        expect(page.get_by_text("Tasks of this script")).to_have_count(0)
