"""Make the README's pictures of the page: ``python tools/screenshots.py``, or ``make screenshots``.

They are taken from a real daemon that runs the sample scripts, so that they show what there is.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import requests  # noqa: E402
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

from tests.browser.conftest import chromium  # noqa: E402
from tests.browser.people import signed_in, token  # noqa: E402
from tests.e2e.daemon import Daemon, daemon, wait_until  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1100, "height": 720}
TELEPHONE = {"width": 390, "height": 780}
EXAMPLE = ROOT / "scripts.d" / "examples" / "phix174-puc19.fasta"

#: A script that is at work for as long as the picture takes.
WORKING = """\
description = "Assemble short reads into contigs"
inline = '''#!/bin/sh
for k in 21 33 55; do
  echo "k = $k: counting k-mers"; sleep 0.3
  echo "k = $k: 48,213 nodes, 61,904 edges"; sleep 0.3
  echo "k = $k: simplifying the graph"; sleep 0.3
done
echo "k = 77: counting k-mers"
sleep 600
'''

[[param]]
name = "reads"
type = "file"
description = "Reads in FASTQ format"
required = true
extensions = [".fastq", ".fq"]

[[param]]
name = "min_contig"
type = "int"
description = "Shortest contig that is kept, in bases"
default = 200
min = 50
"""


class Studio:
    """A daemon with some tasks, and the address of each."""

    def __init__(self, service: Daemon) -> None:
        self.service = service
        self.token = token(service, "reader")
        self.headers = {"Authorization": f"Bearer {self.token}"}

    def submit(self, script: str, description: str, files: dict[str, Path], **fields: str) -> str:
        """A new task; its UUID."""
        data = {"task_name": script, "task_description": description, **fields}
        sent = {name: (path.name, path.read_bytes()) for name, path in files.items()}
        made = requests.post(
            f"{self.service.url}/task/", data=data, files=sent, headers=self.headers, timeout=60
        )
        made.raise_for_status()
        return str(made.json()["uuid"])

    def until(self, uuid: str, *states: str) -> None:
        """Wait for one of these states."""
        address = f"{self.service.url}/task/{uuid}"
        wait_until(
            lambda: requests.get(address, headers=self.headers, timeout=60).json()["state"] in states, uuid
        )


def fill(studio: Studio) -> tuple[str, str]:
    """Some tasks: the one with the result, and the one at work."""
    for number in (3, 4, 5):
        uuid = studio.submit("word-count", f"Field notes {number}", {"text": ROOT / "README.md"})
        studio.until(uuid, "done", "failed")
    points = studio.submit("monte-carlo", "Pi, four times", {}, points="20000")
    studio.until(points, "done", "failed")
    result = studio.submit("fasta-stats", "PhiX174 and pUC19", {"input": EXAMPLE})
    studio.until(result, "done", "failed")
    reads = studio.service.folder / "sample-07.fastq"
    reads.write_text("@read-1\nACGT\n+\nIIII\n")
    working = studio.submit("assembly", "Sample 7, all lanes", {"reads": reads})
    studio.until(working, "running")
    log = studio.service.tasks / working / f"{working[:8]}_out.txt"
    wait_until(lambda: "k = 77" in log.read_text(), "the output")
    return result, working


def pictures(browser: Browser, studio: Studio) -> None:
    """Take them all."""
    result, working = fill(studio)

    def screen(name: str, path: str, *, size: dict[str, int] = SIZE, scheme: str = "light") -> Page:
        context = browser.new_context(viewport=size, color_scheme=scheme, locale="en-GB")  # type: ignore[arg-type]
        page = signed_in(context, studio.service, studio.token).new_page()
        page.goto(f"{studio.service.url}/ui/{path}")
        page.wait_for_load_state("load")
        if name == "form":
            page.locator("input[type=file]").first.set_input_files(EXAMPLE)
        elif name in ("running", "telephone"):
            expect(page.get_by_text("k = 77: counting k-mers")).to_be_visible(timeout=30_000)
        page.screenshot(path=IMAGES / f"{name}.png")
        context.close()
        return page

    screen("scripts", "")
    screen("form", "script/fasta-stats")
    screen("running", f"task/{working}")
    screen("result", f"task/{result}")
    screen("list", "tasks")
    screen("telephone", f"task/{working}", size=TELEPHONE, scheme="dark")


def main() -> None:
    """Make the pictures anew."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with daemon(place, start=False, drm={"slots": 4}) as service:
            shutil.copytree(ROOT / "scripts.d", service.scripts, dirs_exist_ok=True)
            service.script("assembly", WORKING)
            service.start()
            with sync_playwright() as playwright:
                arguments = ["--disable-gpu", "--no-sandbox"]
                browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
                pictures(browser, Studio(service))
                browser.close()
    for path in sorted(IMAGES.glob("*.png")):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
