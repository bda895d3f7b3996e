"""A task's files on its page: listed, looked at, downloaded; and what a job's files may not do."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looks import check_looks
from tests.browser.tasks import folder, issue, sign_in, submit, visit, wait_for
from tests.e2e.daemon import Daemon, daemon

GIB = 1024**3


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("files"), start=False, drm={"slots": 40}) as made:
        made.inline("plain", "echo done")
        made.inline("open", "echo for all > result.txt", "is_output_visible = true")
        made.inline("scripted", "echo done", "html_scripts = true")
        made.start()
        yield made


def png(width: int, height: int) -> bytes:
    """A grey picture (W3C PNG)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x80" * width) * height
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def pdf() -> bytes:
    """The smallest document: one empty page (ISO 32000)."""
    objects = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>",
    )
    text = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(text))
        text += b"%d 0 obj%sendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return (
        text
        + b"xref\n0 4\n0000000000 65535 f \n%strailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (
            table,
            len(text),
        )
    )


def ended(service: Daemon, files: dict[str | bytes, bytes], script: str = "plain", token: str = "") -> str:
    """An ended task with these files."""
    uuid = submit(service, script, token=token)
    wait_for(service, uuid, "done", token=token)
    for name, content in files.items():
        path = folder(service, uuid) / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return uuid


def look(page: Page, name: str) -> Any:
    """Open the preview of a file; the dialog."""
    page.locator("#files").get_by_role("link", name=name, exact=True).click()
    dialog = page.get_by_role("dialog", name=name)
    expect(dialog).to_be_visible()
    return dialog


def test_the_list_and_the_archives(service: Daemon, page: Page) -> None:
    uuid = ended(service, {"a/b/deep.txt": b"x" * 2048, "top.txt": b"y"})
    visit(page, service, uuid)
    row = page.get_by_role("row").filter(has_text="a/b/deep.txt")
    expect(row).to_contain_text("2 KiB")
    expect(row.locator("time")).to_have_attribute("title", re.compile("Z$"))
    for kind, read in (("zip", zip_names), ("tar.gz", tar_names)):
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Download all {kind}").click()
        with open(download.value.path(), "rb") as file:
            names = read(file.read())
        assert {f"{uuid}/a/b/deep.txt", f"{uuid}/top.txt", f"{uuid}/{uuid[:8]}_out.txt"} <= names
    with page.expect_download() as download:
        page.get_by_role("link", name="Download top.txt").click()
    assert download.value.suggested_filename == "top.txt"


def zip_names(data: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(data)).namelist())


def tar_names(data: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return set(archive.getnames())


def test_pictures_have_a_text_too(service: Daemon, page: Page) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><script>alert(1)</script></svg>'
    uuid = ended(service, {"plot.png": png(30, 20), "plot.svg": svg, "broken.png": b"no picture"})
    visit(page, service, uuid)
    dialog = look(page, "plot.png")
    expect(dialog.get_by_role("img", name="Picture plot.png")).to_be_visible()
    expect(dialog).to_contain_text("30 × 20")
    check_looks(page)
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator("#files").get_by_role("link", name="plot.png", exact=True)).to_be_focused()
    expect(look(page, "plot.svg").get_by_role("img")).to_be_visible()
    page.keyboard.press("Escape")
    expect(look(page, "broken.png")).to_contain_text("The picture cannot be shown.")


def test_a_table_of_any_size(service: Daemon, page: Page) -> None:
    rows = b"".join(b'%d,"a ""b"", c",%d\n' % (number, number * 2) for number in range(5000))
    uuid = ended(service, {"big.csv": b"id,text,value\n" + rows})
    os.truncate(folder(service, uuid) / "big.csv", GIB)
    visit(page, service, uuid)
    fetched: list[int] = []
    page.on("response", lambda answer: fetched.append(int(answer.headers.get("content-length", 0))))
    dialog = look(page, "big.csv")
    expect(dialog.locator("tbody tr")).to_have_count(100)
    expect(dialog.locator("thead th")).to_have_text(["id", "text", "value"])
    expect(dialog.locator("tbody tr").last.locator("td")).to_have_text(["99", 'a "b", c', "198"])
    expect(dialog).to_contain_text("The first 100 rows · 1 GiB")
    assert sum(fetched) < 1024 * 1024
    check_looks(page)
    dialog.get_by_role("button", name="More rows").click()
    expect(dialog.locator("tbody tr")).to_have_count(500)
    dialog.get_by_role("button", name="As text").click()
    expect(dialog.get_by_role("region")).to_contain_text('0,"a ""b"", c",0')


def test_tables_of_other_kinds(service: Daemon, page: Page) -> None:
    uuid = ended(
        service,
        {
            "a.tsv": b"x\ty\r\n1\t2\r\n3\t4",
            "b.csv": b"p;q\n1,5;<b>2</b>\n",
            "wide.csv": (b"c," * 200 + b"c\n") + b"1," * 200 + b"1\n",
        },
    )
    visit(page, service, uuid)
    expect(look(page, "a.tsv").locator("td")).to_have_text(["1", "2", "3", "4"])
    page.keyboard.press("Escape")
    expect(look(page, "b.csv").locator("td")).to_have_text(["1,5", "<b>2</b>"])
    page.keyboard.press("Escape")
    expect(look(page, "wide.csv")).to_contain_text("the first 60 columns")


def test_text_piece_by_piece(service: Daemon, page: Page) -> None:
    lines = b"".join(b"line %06d \xe2\x82\xac\n" % number for number in range(40_000))
    uuid = ended(service, {"long.txt": lines, "empty.txt": b"", "odd": b"\0\1\2" * 50, "plain": b"no ending"})
    visit(page, service, uuid)
    dialog = look(page, "long.txt")
    expect(dialog).to_contain_text("The first 64 KiB of")
    text = dialog.get_by_role("region")
    while dialog.get_by_role("button", name="More").count():
        before = len(text.text_content() or "")
        dialog.get_by_role("button", name="More").click()
        page.wait_for_function(
            "least => document.querySelector('#view-body pre').textContent.length > least", arg=before
        )
    assert text.text_content() == lines.decode()
    page.keyboard.press("Escape")
    expect(look(page, "empty.txt")).to_contain_text("The file is empty.")
    page.keyboard.press("Escape")
    expect(look(page, "odd")).to_contain_text("This file is not text")
    page.keyboard.press("Escape")
    expect(look(page, "plain")).to_contain_text("no ending")
    check_looks(page)


def test_a_document(service: Daemon, page: Page) -> None:
    uuid = ended(service, {"doc.pdf": pdf(), "fake.pdf": b"<script>parent.document.title = 1</script>"})
    visit(page, service, uuid)
    dialog = look(page, "doc.pdf")
    expect(dialog.get_by_title("Document doc.pdf")).to_have_attribute("src", re.compile("^blob:"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    look(page, "fake.pdf")
    expect(page).to_have_title("Done · plain · drmaaticd")


def test_a_file_that_has_gone(service: Daemon, page: Page) -> None:
    uuid = ended(service, {"gone.txt": b"x"})
    visit(page, service, uuid)
    (folder(service, uuid) / "gone.txt").unlink()
    expect(look(page, "gone.txt").get_by_role("alert")).to_have_text("The file is not there any more.")


NAMES: tuple[bytes, ...] = (
    b'"><img src=x onerror="document.title=1">.txt',
    b"new\nline.txt",
    "\u202eltr \u05d0.txt".encode(),
    b"\xff\xfe\xe2.txt",
    b"per%41cent?query#hash&amp;.txt",
    b"fol der/;a=b\\c.txt",
    b"javascript:alert(1)",
)


def test_hostile_names_are_names(service: Daemon, page: Page) -> None:
    uuid = ended(service, {name: b"content of " + str(at).encode() for at, name in enumerate(NAMES)})
    visit(page, service, uuid)
    for at, name in enumerate(NAMES):
        link = page.locator(f'[data-path="{quote(name, safe="/")}"]')
        expect(link).to_have_text(name.decode("utf-8", "replace"), use_inner_text=False)
        link.click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text(f"content of {at}")
        assert dialog.get_by_role("heading").text_content() == name.decode("utf-8", "replace")
        page.keyboard.press("Escape")
    expect(page.locator("main img")).to_have_count(0)
    expect(page).to_have_title("Done · plain · drmaaticd")
    check_looks(page)


def test_many_files_are_not_all_listed(service: Daemon, page: Page) -> None:
    uuid = ended(service, {f"part-{number:04d}.txt": b"" for number in range(1200)})
    visit(page, service, uuid)
    expect(page.locator("#files tbody tr")).to_have_count(500)
    expect(page.locator("#live-files")).to_contain_text("And 702 more")


def test_output_that_all_may_read(service: Daemon, page: Page) -> None:
    token = issue(service, "portal")
    uuid = ended(service, {}, "open", token)
    page.goto(f"{service.url}/ui/task/{uuid}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Files of the task {uuid[:8]}")
    check_looks(page)
    expect(look(page, "result.txt")).to_contain_text("for all")
    page.keyboard.press("Escape")
    with page.expect_download():
        page.get_by_role("link", name="Download all zip").click()
    hidden = ended(service, {}, "plain", token)
    page.goto(f"{service.url}/ui/task/{hidden}")
    expect(page.locator("main")).to_contain_text("This task belongs to somebody else.")


# -- a job's HTML

ATTACK = b"""<!doctype html><title>r</title><p id=out>nothing ran</p><img src="x.png">
<form action="/ui/api/task/" method=post target=_top><button>go</button></form>
<script>
(async () => {
  const found = [];
  const attempt = async (name, what) => {
    try { found.push(name + ": " + await what()); } catch (e) { found.push(name + ": refused"); }
  };
  await attempt("cookie", () => document.cookie);
  await attempt("storage", () => localStorage.length);
  await attempt("parent", () => parent === window ? "none" : parent.document.title);
  await attempt("opener", () => window.opener ? window.opener.document.title : "none");
  await attempt("me", async () => (await fetch("/ui/api/me")).status);
  await attempt("page", async () => (await fetch("/ui/", {mode: "no-cors"})).type);
  await attempt("delete", async () => (await fetch("/ui/api/task/UUID", {method: "DELETE"})).status);
  await attempt("top", () => { if (top !== window) top.location = "/ui/"; return "asked"; });
  document.getElementById("out").textContent = found.join(" | ");
})();
</script>"""


@pytest.mark.parametrize("script", ["plain", "scripted"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_jobs_html_is_not_this_site(service: Daemon, profile: Any, script: str, alone: bool) -> None:
    token = issue(service, "portal")
    uuid = ended(service, {}, script, token)
    (folder(service, uuid) / "report.html").write_bytes(ATTACK.replace(b"UUID", uuid.encode()))
    context = profile()
    sign_in(context, service, token)
    page = context.new_page()
    visit(page, service, uuid)
    dialog = look(page, "report.html")
    if alone:
        with context.expect_page() as opened:
            dialog.get_by_role("link", name="Open alone").click()
        out = opened.value.locator("#out")
    else:
        out = page.frame_locator("iframe").locator("#out")
    if script == "plain":
        expect(out).to_have_text("nothing ran")
    else:
        expect(out).to_contain_text("top")
        text = out.text_content()
        assert text is not None
        assert all(f"{what}: refused" in text for what in ("cookie", "storage", "me", "delete")), text
        assert "opener: none" in text
        assert ("parent: none" if alone else "parent: refused") in text
    expect(state_of(page)).to_have_text("Done")
    assert page.url.endswith(uuid)
    assert (folder(service, uuid) / "report.html").exists()


def test_a_jobs_files_are_no_part_of_a_page(service: Daemon, profile: Any) -> None:
    """Even if markup could be smuggled into one: `script-src 'self'` alone would let them run."""
    page = profile().new_page()
    uuid = ended(service, {"evil.js": b"document.title = 'evil'", "evil.css": b"h1 { display: none }"})
    visit(page, service, uuid)
    load = """([name, attributes]) => new Promise((resolve) => {
        const one = document.createElement(name);
        one.onload = () => resolve("loaded"); one.onerror = () => resolve("refused");
        Object.assign(one, attributes); document.head.append(one); })"""
    for place in ("/task", "/ui/api/task"):
        path = f"{place}/{uuid}/file/evil"
        assert page.evaluate(load, ["script", {"src": f"{path}.js"}]) == "refused"
        assert page.evaluate(load, ["link", {"rel": "stylesheet", "href": f"{path}.css"}]) == "refused"
    expect(page).to_have_title("Done · plain · drmaaticd")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def state_of(page: Page) -> Any:
    return page.locator("#live-state .state")
