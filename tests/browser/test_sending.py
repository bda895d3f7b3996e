"""Files on their way: chosen, dropped, refused before they are sent; progress, cancel, a broken line."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser import forms
from tests.browser.looks import check_looks
from tests.e2e.daemon import Daemon, daemon, wait_until

MIB = 1024 * 1024

HOSTILE = '"><script>document.title="taken"</script>.fastq'


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("upload")
    with daemon(folder, start=False, server={"max_upload": "160 MiB"}) as made:
        made.script("align", forms.ALIGN)
        made.start()
        yield made


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 100 MiB."""
    path = tmp_path_factory.mktemp("files") / "large.fastq"
    with path.open("wb") as file:
        for number in range(100):
            file.write(bytes([number]) * MIB)
    return path


def throttle(page: Page, bytes_a_second: int) -> Callable[[], None]:
    """Have the browser send slowly; what is returned lets it go."""
    session = page.context.new_cdp_session(page)
    line = {"offline": False, "latency": 0, "downloadThroughput": -1}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", line | {"uploadThroughput": bytes_a_second})
    return lambda: session.send("Network.emulateNetworkConditions", line | {"uploadThroughput": -1})


def test_a_large_file_streams_with_progress(service: Daemon, page: Page, large: Path) -> None:
    page.goto(f"{service.url}/ui/script/align?sample=AB1")
    faster = throttle(page, 8 * MIB)
    page.locator("#f-reads").set_input_files(large)
    expect(page.locator("#f-reads-field .files")).to_contain_text("large.fastq100 MiB")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.get_by_role("heading", name="Sending")).to_be_focused()
    text = page.locator("#sending-text")
    expect(text).to_have_text(
        re.compile(r"^[1-9]\d? % · [\d.]+ MiB of 100 MiB · [\d.]+ [KM]iB/s · \d.* left$")
    )
    bar = page.get_by_role("progressbar")
    before = float(bar.get_attribute("value") or 0)
    assert wait_until(lambda: float(bar.get_attribute("value") or 0) > before, "progress")
    check_looks(page)
    faster()
    document = forms.ended(page.context, service, forms.started(page))
    assert (service.tasks / document["uuid"] / "reads.fastq").stat().st_size == 100 * MIB
    assert f"{100 * MIB} reads.fastq" in forms.output(service, document)


def test_cancel_leaves_nothing(service: Daemon, page: Page, large: Path) -> None:
    page.goto(f"{service.url}/ui/script/align?sample=AB1")
    faster = throttle(page, MIB // 4)
    tasks = {path.name for path in service.tasks.iterdir()}
    page.locator("#f-reads").set_input_files(large)
    page.get_by_role("button", name="Start", exact=True).click()
    wait_until(lambda: forms.leftovers(service), "the upload to arrive")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#summary")).to_contain_text("You have cancelled it: nothing was started.")
    expect(page.locator("#summary")).to_be_focused()
    expect(page.locator("#sending")).to_be_hidden()
    wait_until(lambda: not forms.leftovers(service), "the upload to be gone")
    assert {path.name for path in service.tasks.iterdir()} == tasks
    # All that was filled in is still there, and can be sent.
    faster()
    forms.start(page)


def test_what_is_too_large_or_wrong_is_refused_before_it_is_sent(service: Daemon, page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method) if request.method == "POST" else None)
    page.goto(f"{service.url}/ui/script/align?sample=AB1")
    reference = page.locator("#f-reference")
    reference.set_input_files([forms.upload("big.fa", b"x" * 2000)])
    expect(page.locator("#f-reference-wrong")).to_have_text(
        "Must be a file of at most 1 KiB (has 2000 bytes)"
    )
    expect(reference).to_have_attribute("aria-invalid", "true")
    reference.set_input_files([forms.upload("it's.txt")])
    wrong = 'Must be a file with a name that ends in .fa (got "it\'s.txt")'
    expect(page.locator("#f-reference-wrong")).to_have_text(wrong)
    files = {"reference": ("it's.txt", b"x")}
    told = requests.post(f"{service.url}/task/", data={"task_name": "align"}, files=files, timeout=30).json()
    assert wrong[1:] in [one["detail"][1:] for one in told["errors"]]
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("Nothing was sent: 2 fields need another value.")
    check_looks(page)
    page.get_by_role("button", name="Remove it's.txt").click()
    expect(reference).to_be_focused()
    expect(page.locator("#f-reference-wrong")).to_be_hidden()
    assert sent == []


def test_all_files_together_have_a_limit(service: Daemon, page: Page, large: Path, tmp_path: Path) -> None:
    page.goto(f"{service.url}/ui/script/align?sample=AB1")
    other = tmp_path / "other.fastq"
    other.write_bytes(large.read_bytes())
    page.locator("#f-reads").set_input_files([large, other])
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("200 MiB together, and at most 160 MiB are allowed")


def test_files_are_dropped_listed_and_removed(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/align?sample=AB1")
    transfer = page.evaluate_handle(
        """name => { const data = new DataTransfer();
        for (const one of ["a.fastq", "b.fastq", name]) data.items.add(new File(["AC"], one));
        return data; }""",
        HOSTILE,
    )
    page.locator("#f-reads-field .drop").dispatch_event("drop", {"dataTransfer": transfer})
    listed = page.get_by_role("list", name="Files chosen for Reads").get_by_role("listitem")
    expect(listed).to_have_count(3)
    page.get_by_role("button", name="Remove b.fastq").press("Enter")
    expect(listed).to_have_count(2)
    page.locator("#f-reads").set_input_files([forms.upload("c.fq")])  # more are added to those
    expect(listed).to_have_count(3)
    expect(listed.nth(1)).to_contain_text(HOSTILE)
    check_looks(page)
    document = forms.ended(page.context, service, forms.start(page))
    assert list(document["files_name"].values()) == ["a.fastq", HOSTILE, "c.fq"]
    assert page.title() != "taken"
    page.goto(f"{service.url}/ui/script/align?from={document['uuid']}")
    expect(page.locator(".kept")).to_contain_text("<script>")
    expect(page).to_have_title("align · drmaaticd")


class Line:
    """A line to the daemon that can be cut: bytes are passed on until then."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut_after: int | None = None
        """Bytes of one connection to the daemon after which it breaks."""
        self.deaf = False
        """Whether answers are swallowed, and their connections cut: browsers try again by themselves."""
        self.cut = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for run in (self._forward, self._back):
                thread = threading.Thread(target=run, args=(client, server), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        try:
            while data := client.recv(65536):
                passed += len(data)
                server.sendall(data)
                if self.cut_after is not None and passed > self.cut_after:
                    self._break(client, server)
        except OSError:
            self._end(client, server)
        else:
            self._end(client, server)

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                if self.deaf:
                    self._break(client, server)
                    return
                client.sendall(data)
        except OSError:
            self._end(client, server)
        else:
            self._end(client, server)

    def _break(self, client: socket.socket, server: socket.socket) -> None:
        self.cut.set()
        self._end(client, server)

    @staticmethod
    def _end(*sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):  # the other thread may have ended it
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def line(service: Daemon) -> Iterator[Line]:
    made = Line(service.url)
    yield made
    made.close()


def send_over(page: Page, line: Line, *files: Path) -> None:
    page.goto(f"{line.url}/ui/script/align?sample=AB1&task_description=over+a+bad+line")
    page.locator("#f-reads").set_input_files(list(files))
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("The connection broke off.")


def test_a_broken_upload_keeps_the_form_and_is_sent_again(
    service: Daemon, page: Page, line: Line, large: Path
) -> None:
    line.cut_after = 20 * MIB
    send_over(page, line, large)
    assert line.cut.is_set()
    check_looks(page)
    wait_until(lambda: not forms.leftovers(service), "the upload to be gone")
    line.cut_after = None
    page.get_by_role("button", name="Send again").click()
    document = forms.ended(page.context, service, forms.started(page))
    assert document["task_description"] == "over a bad line"
    assert (service.tasks / document["uuid"] / "reads.fastq").stat().st_size == 100 * MIB


def test_a_lost_answer_makes_no_second_task(service: Daemon, page: Page, line: Line, tmp_path: Path) -> None:
    before = {path.name for path in (service.tasks / ".control").iterdir()}
    small = tmp_path / "small.fastq"
    small.write_bytes(b"AC")
    page.goto(f"{line.url}/ui/script/align?sample=AB1")
    page.locator("#f-reads").set_input_files(small)
    line.deaf = True
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("The connection broke off.")
    assert line.cut.is_set()
    line.deaf = False
    page.get_by_role("button", name="Send again").click()
    uuid = forms.started(page)
    assert {path.name for path in (service.tasks / ".control").iterdir()} - before == {uuid}


# -- refusals of the service -----------------------------------------------------------------------


@pytest.fixture
def poor(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose callers have little of everything."""
    groups = {"anonymous": {"cpu_credit_max": 5, "cpu_credit_regen": "1 per hour", "max_disk": "64 KiB"}}
    with daemon(tmp_path, start=False, groups=groups) as made:
        made.script("align", forms.ALIGN)
        made.start()
        yield made


def test_no_credit_is_told_with_the_time_to_wait(
    poor: Daemon, page: Page, profile: Callable[..., BrowserContext]
) -> None:
    forms.fill(page, poor)
    expect(page.get_by_text("Costs 3 of your 5 credits.")).to_be_visible()
    forms.start(page)
    forms.fill(page, poor)
    expect(page.get_by_text("A task costs 3 credits, and you have 2. You have enough in")).to_be_visible()
    check_looks(page)
    page.get_by_role("button", name="Start", exact=True).click()
    told = re.compile(r"Nothing was started. Not enough CPU credit: 3 needed, 2 available. Try again in \d")
    expect(page.locator("#summary")).to_contain_text(told)
    expect(page.get_by_label("Sample")).to_have_value("AB1")
    plain = profile(java_script_enabled=False).new_page()
    forms.fill(plain, poor)
    plain.get_by_label("Note").fill("typed")
    plain.get_by_role("button", name="Start", exact=True).click()
    expect(plain.locator("#summary")).to_contain_text(told)
    expect(plain.get_by_label("Note")).to_have_value("typed")


def test_what_is_typed_stays_when_no_task_is_taken_at_all(
    tmp_path: Path, profile: Callable[..., BrowserContext]
) -> None:
    groups = {"anonymous": {"max_live": 1}}
    with daemon(tmp_path, groups=groups, scripts={"sleep": "sleep 600"}) as service:
        page = profile(java_script_enabled=False).new_page()
        for note in ("first", "second"):
            page.goto(f"{service.url}/ui/script/sleep")
            page.get_by_label("Note").fill(note)
            page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#summary")).to_contain_text(
            "Nothing was started. 1 of your tasks have not ended, and 1 are allowed at a time."
        )
        expect(page.get_by_label("Note")).to_have_value("second")


def test_a_full_disk_is_told(poor: Daemon, page: Page) -> None:
    page.goto(f"{poor.url}/ui/script/align?sample=AB1")
    page.locator("#f-reads").set_input_files([forms.upload("a.fastq", b"x" * 100_000)])
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#summary")).to_contain_text(
        "Nothing was started. Your tasks may take 64 KiB of the disk"
    )
    expect(page.get_by_role("button", name="Remove a.fastq")).to_be_visible()
    assert forms.leftovers(poor) == []


def test_an_upload_over_the_limit_is_told_without_javascript(
    service: Daemon, profile: Callable[..., BrowserContext], large: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.fastq"
    other.write_bytes(large.read_bytes())
    page = profile(java_script_enabled=False).new_page()
    page.goto(f"{service.url}/ui/script/align?sample=AB1")
    page.locator("#f-reads").set_input_files([large, other])
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("a form with its files may have at most 160 MiB")
    assert forms.leftovers(service) == []
