"""What every screen must satisfy: accessible by axe-core's rules, nothing clipped on a telephone."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

#: CSS pixels: a telephone's width, and the least size of what is touched.
NARROW = 390
TOUCH = 44

_TOO_SMALL = """least => [...document.querySelectorAll(
    "button, .button, input:not([type=hidden]), select, nav a, .touch, summary, [role=tab]")]
  .filter(one => one.checkVisibility() && !one.closest(".skip") && !one.classList.contains("skip"))
  .map(one => { const tick = one.matches("input[type=checkbox], input[type=radio]");
                const target = tick ? one.closest("label") ?? one : one;
                const box = target.getBoundingClientRect();
                return [one.outerHTML.slice(0, 100), box.width, box.height]; })
  .filter(([, width, height]) => width > 0 && (width < least - 0.5 || height < least - 0.5))"""

_CLIPPED = """() => {
  const most = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth;
  return [wide > most ? `the page is ${wide} wide` : "",
    ...[...document.querySelectorAll("main *, header *")]
      .filter(one => one.checkVisibility() && !one.closest(".scroll, .unseen, .skip, svg, pre")
                     && one.getBoundingClientRect().right > most + 1)
      .map(one => one.outerHTML.slice(0, 100))].filter(Boolean); }"""


def check_looks(page: Page) -> None:
    """Check the page as it stands, in light and dark and at a telephone's width."""
    before = page.viewport_size
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        check_axe(page)
    page.set_viewport_size({"width": NARROW, "height": 844})
    assert page.evaluate(_CLIPPED) == []
    assert page.evaluate(_TOO_SMALL, TOUCH) == []
    check_axe(page)
    assert page.locator("h1").count() == 1
    page.emulate_media(color_scheme="light")
    if before is not None:
        page.set_viewport_size(before)


def check_axe(page: Page) -> None:
    """Fail with what axe-core finds on the page."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
