"""A script's form: filled in, checked, sent, with and without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from drmaaticd.params import Param
from tests.browser import forms
from tests.browser.conftest import watch
from tests.browser.looks import check_looks
from tests.e2e.daemon import Daemon, daemon, wait_until

HOSTILE = '"><script>document.title="taken"</script>'

PLAIN = """
inline = "#!/bin/sh\\nprintf '%s|' \\"$@\\""
[[param]]
name = "text"
type = "string"
flag = "--text="
[[param]]
name = "greeting"
type = "string"
flag = "--greeting="
default = "hello"
[[param]]
name = "loud"
type = "bool"
flag = "--loud="
default = true
[[param]]
name = "lines"
type = "string"
flag = "--lines="
max_length = 500
"""


CHOOSY = """
inline = "#!/bin/sh\\ntrue"
[[param]]
name = "sets"
type = "string"
choices = ["a", "b"]
multiple = true
required = true
[[param]]
name = "sure"
type = "bool"
required = true
[[param]]
name = "method"
type = "string"
choices = ["fast", "exact"]
required = true
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder: Path = tmp_path_factory.mktemp("form")
    with daemon(folder, start=False) as made:
        made.script("align", forms.ALIGN)
        made.script("plain", PLAIN)
        made.script("choosy", CHOOSY)
        made.script("bare", 'inline = "#!/bin/sh\\ntrue"')
        made.start()
        yield made


@pytest.fixture
def without_script(profile: Callable[..., BrowserContext]) -> Page:
    return profile(java_script_enabled=False).new_page()


def test_every_kind_of_parameter_arrives(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/align")
    expect(page.get_by_role("heading", level=1)).to_have_text("align")
    expect(page.get_by_text('Aligns "reads" <b>fast</b>')).to_be_visible()
    expect(page.locator("#f-k")).to_have_value("5")
    assert "secret" not in page.content()
    assert "xyzzy" not in page.content()
    page.locator("#f-reads").set_input_files([forms.upload("a.fastq"), forms.upload("b.fq", b"AC\n")])
    page.get_by_label("K", exact=True).fill("7")
    page.get_by_label("Cutoff").fill("0.75")
    page.get_by_label("Format").select_option("json")
    page.get_by_label("c d").check()
    page.get_by_label("a", exact=True).check()
    page.get_by_label("Sample").fill("AB12")
    page.get_by_label("Names").fill("one of them\n\nthe other")
    page.get_by_role("radio", name="Yes").check()
    page.get_by_label("Comment").fill("two\nlines")
    page.get_by_label("Note").fill("my note")
    document = forms.ended(page.context, service, forms.start(page))
    assert document["state"] == "done", document
    assert document["task_description"] == "my note"
    assert document["files_name"] == {"reads_0.fastq": "a.fastq", "reads_1.fq": "b.fq"}
    assert forms.params(document) == {
        "reads": ["reads_0.fastq", "reads_1.fq"],
        "k": "7",
        "cutoff": "0.75",
        "format": "json",
        "sets": ["a", "c d"],
        "sample": "AB12",
        "names": ["one of them", "the other"],
        "verbose": "true",
        "comment": "two\nlines",
    }
    printed = forms.output(service, document)
    assert "[one of them]\n[--name]\n[the other]" in printed
    assert "5 reads_0.fastq" in printed


def test_an_untouched_form_passes_what_the_api_would(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/plain")
    document = forms.ended(page.context, service, forms.start(page))
    assert forms.params(document) == {"greeting": "hello", "loud": "true"}


def test_a_default_can_be_taken_away(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/plain")
    page.get_by_label("Greeting").fill("")
    page.get_by_role("radio", name="No").check()
    document = forms.ended(page.context, service, forms.start(page))
    assert forms.params(document) == {"greeting": "", "loud": "false"}
    page.goto(f"{service.url}/ui/script/plain?from={document['uuid']}")
    expect(page.get_by_label("Greeting")).to_have_value("")


def test_the_address_fills_the_fields(service: Daemon, page: Page) -> None:
    page.goto(
        f"{service.url}/ui/script/align?k=9&format=json&sets=b&sets=c+d&names=x&names=y&verbose=no"
        "&comment=a%0Ab&task_description=mine&sample=" + requests.utils.quote(HOSTILE)
    )
    expect(page.get_by_label("K", exact=True)).to_have_value("9")
    expect(page.get_by_label("Format")).to_have_value("json")
    expect(page.get_by_label("c d")).to_be_checked()
    expect(page.get_by_label("a", exact=True)).not_to_be_checked()
    expect(page.get_by_label("Names")).to_have_value("x\ny")
    expect(page.get_by_role("radio", name="No", exact=True)).to_be_checked()
    expect(page.get_by_label("Comment")).to_have_value("a\nb")
    expect(page.get_by_label("Sample")).to_have_value(HOSTILE)
    expect(page.get_by_label("Note")).to_have_value("mine")
    expect(page).to_have_title("align · drmaaticd")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    page.goto(f"{service.url}/ui/script/align?format=xml")
    expect(page.get_by_label("Format")).to_have_value("tsv")
    expect(page.get_by_text("“xml” is not one of the choices.")).to_be_visible()


def test_errors_come_when_a_field_is_left_and_go_when_it_is_right(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/align")
    k = page.get_by_label("K", exact=True)
    k.fill("99")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    page.keyboard.press("Tab")
    expect(k).to_have_attribute("aria-invalid", "true")
    expect(k).to_have_accessible_description(
        re.compile(r"Length of a word.*Must be a whole number from 1 to 31 \(got '99'\)", re.DOTALL)
    )
    # The other fields, which nobody has touched, have no error.
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    k.fill("9")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    expect(k).to_have_accessible_description(re.compile("^Length of a word.*Default: 5.$", re.DOTALL))


def test_a_wrong_form_is_not_sent_and_says_where(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/align")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method) if request.method == "POST" else None)
    page.get_by_label("K", exact=True).fill("many")
    page.get_by_label("Sample").fill("abc")
    page.get_by_role("button", name="Start", exact=True).click()
    summary = page.locator("#summary")
    expect(summary).to_contain_text("Nothing was sent: 3 fields need another value.")
    expect(summary.get_by_role("link")).to_have_text(
        [
            "Reads: is required",
            "K: must be a whole number (got 'many')",
            "Sample: must match [A-Z]{2}[0-9]+ as a whole (got 'abc')",
        ]
    )
    expect(page.locator("#f-reads")).to_be_focused()
    summary.get_by_role("link", name="Sample").click()
    expect(page.get_by_label("Sample")).to_be_focused()
    assert sent == []
    check_looks(page)


def test_choices_that_must_be_made(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/choosy")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#summary").get_by_role("link")).to_have_text(
        ["Sets: is required", "Sure: is required", "Method: is required"]
    )
    expect(page.get_by_label("a", exact=True)).to_be_focused()
    check_looks(page)
    page.get_by_label("b", exact=True).check()
    page.get_by_role("radio", name="No").check()
    page.get_by_label("Method").select_option("exact")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    document = forms.task(page.context, service, forms.start(page))
    assert forms.params(document) == {"sets": ["b"], "sure": "false", "method": "exact"}


def test_what_the_page_finds_is_what_the_service_would_say(service: Daemon, page: Page) -> None:
    wrong = {
        "k": ["99", "1.5", "x'y", "x\"y'z", "1" * 65, "-1", "tab\there"],
        "cutoff": ["0.1", "nan", "1e9999", "z" * 80],
        "sample": ["ab", "AB1 "],
        "comment": ["x" * 1001],
    }
    page.goto(f"{service.url}/ui/script/align")
    for name, values in wrong.items():
        for value in values:
            fields = {"task_name": "align", name: value}
            told = requests.post(f"{service.url}/task/", data=fields, timeout=30).json()["errors"]
            detail = next(one["detail"] for one in told if one["name"] == name)
            page.locator(f"#f-{name}").fill(value)
            page.locator(f"#f-{name}").blur()
            shown = detail[0].upper() + detail[1:]
            assert page.locator(f"#f-{name}-wrong").text_content() == shown, (name, value)


PATTERNS = (
    "[A-Z]{2}[0-9]+", "ab|c", "^a$", "a.b", r"\w+", r"\S+", r"[^\s]+", r"\d{1,3}", "(?i)abc", "[[:alpha:]]+",
    r"\pL+", r"\p{Greek}+", "(a+)+b", ".{2}", "[^a]+", r"\Aab\z", r"\x{61}", "(?P<x>a)b", "a*a*a*",
    r"[\w-]+", "",
)  # fmt: skip
TEXTS = (
    "AB1", "ab", "c", "a", "a\rb", "a\u2028b", "a\nb", "\u00e9\u00e8", "x\u00a0y", "\u0663", "ABC", "\u03b1",
    "\U0001f600\U0001f600", "bb", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a" * 300, "a-b", "it's",
    "\u200b", " ",
)  # fmt: skip


def test_no_pattern_refuses_what_the_service_takes(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/align")
    rules = page.locator("link[href$='rules.js']")
    found = page.evaluate(
        """async ([address, patterns, texts]) => {
        const { textProblem } = await import(address);
        const problem = (pattern, text) => textProblem({ type: "string", pattern }, [text]);
        return patterns.map((pattern) => texts.map((text) => problem(pattern, text))); }""",
        [rules.get_attribute("href"), PATTERNS, TEXTS],
    )
    alike = 0
    for pattern, row in zip(PATTERNS, found, strict=True):
        param = Param(name="x", type="string", flag="-x", pattern=pattern or None)
        for text, problem in zip(TEXTS, row, strict=True):
            told = param.problem(text)
            assert problem in ("", told), (pattern, text)
            alike += problem == told != ""
    assert alike > 50


def test_what_only_the_service_can_tell_stands_at_its_field(service: Daemon, page: Page) -> None:
    forms.fill(page, service)
    page.get_by_label("Comment").fill("kept")
    page.get_by_text("More: after or inside").click()
    stranger = "00000000-0000-4000-8000-000000000000"
    page.get_by_label("Start after these tasks").fill(stranger)
    page.get_by_role("button", name="Start", exact=True).click()
    field = page.get_by_label("Start after these tasks")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description(
        re.compile(f"There is no task {stranger} that you can use", re.IGNORECASE)
    )
    expect(page.locator("#summary")).to_contain_text("Nothing was started: one field needs another value.")
    expect(page.get_by_label("Comment")).to_have_value("kept")
    expect(page.get_by_role("button", name="Remove a.fastq")).to_be_visible()
    field.fill("no uuid")
    field.blur()
    expect(page.locator("#f-dependencies-wrong")).to_have_text("'no uuid' is no UUID of a task")


CHANGING = """
inline = "true"
[[param]]
name = "kept"
type = "string"
required = true
[[param]]
name = "{}"
type = "string"
required = {}
"""


def test_a_script_that_has_changed_meanwhile_leads_to_its_form(service: Daemon, page: Page) -> None:
    def change(name: str, required: str) -> None:
        service.script("changing", CHANGING.format(name, required))
        address = f"{service.url}/script/changing"
        wait_until(lambda: name in requests.get(address, timeout=30).text, "the script to be seen")

    change("former", "false")
    page.goto(f"{service.url}/ui/script/changing")
    page.locator("#f-kept").fill("a & b")
    page.locator("#f-former").fill("gone")
    change("new", "true")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("The script has changed since this form was opened.")
    page.get_by_role("link", name="Open the form as it is now").click()
    expect(page.locator("#f-kept")).to_have_value("a & b")
    page.locator("#f-new").fill("there")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/ui/task/*")


def test_a_task_waits_for_another(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/bare")
    expect(page.get_by_text("This script takes no parameters.")).to_be_visible()
    first = forms.start(page)
    page.goto(f"{service.url}/ui/script/bare?dependencies={first}&dependency_type=afterok")
    expect(page.get_by_label("Start after these tasks")).to_be_visible()  # what is filled in is not hidden
    document = forms.task(page.context, service, forms.start(page))
    assert document["depends_on"] == [first]
    assert document["dependency_type"] == "afterok"


def test_by_keyboard_alone(service: Daemon, page: Page) -> None:
    page.goto(f"{service.url}/ui/script/plain")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skips to the content
    seen = []
    for _ in range(20):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        if seen[-1] == "f-text":
            page.keyboard.type("typed")
        if seen[-1] == "send":
            break
    assert [name for name in seen if name.startswith("f-")] == [
        "f-text", "f-greeting", "f-lines", "f-task_description",
    ]  # fmt: skip
    page.keyboard.press("Enter")
    document = forms.task(page.context, service, forms.started(page))
    assert forms.params(document)["text"] == "typed"


def test_looks(service: Daemon, page: Page) -> None:
    forms.fill(page, service)
    page.get_by_text("More: after or inside").click()
    check_looks(page)
    page.goto(f"{service.url}/ui/script/bare")
    check_looks(page)
    page.goto(f"{service.url}/ui/script/none-such")
    check_looks(page)


def test_a_first_visit_is_small(service: Daemon, page: Page) -> None:
    sizes: list[int] = []  # negative for what the browser has already
    page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
    page.goto(f"{service.url}/ui/script/align", wait_until="networkidle")
    sizes = [size for size in sizes if size >= 0]
    assert len(sizes) <= 8
    assert sum(sizes) <= 60_000


# -- without JavaScript ------------------------------------------------------------------------


def test_the_form_works_without_javascript(service: Daemon, without_script: Page) -> None:
    page = without_script
    forms.fill(page, service, k="7", verbose="yes")
    page.get_by_label("Names").fill("x y\nz")
    document = forms.ended(page.context, service, forms.start(page))
    assert forms.params(document) == {
        "reads": ["reads.fastq"], "k": "7", "format": "tsv", "sample": "AB1",
        "names": ["x y", "z"], "verbose": "true",
    }  # fmt: skip


def test_a_refused_form_comes_back_as_it_was(service: Daemon, without_script: Page) -> None:
    page = without_script
    forms.fill(page, service)
    page.get_by_label("K", exact=True).fill("99")
    page.get_by_label("Comment").fill(f"\nafter an empty line {HOSTILE}")
    page.get_by_label("b", exact=True).check()
    page.get_by_label("Note").fill(HOSTILE)
    page.get_by_role("button", name="Start", exact=True).click()
    k = page.get_by_label("K", exact=True)
    expect(k).to_have_value("99")
    expect(k).to_have_attribute("aria-invalid", "true")
    expect(k).to_have_accessible_description(re.compile(r"Must be a whole number from 1 to 31 \(got '99'\)"))
    expect(page.get_by_label("Comment")).to_have_value(f"\nafter an empty line {HOSTILE}")
    expect(page.get_by_label("b", exact=True)).to_be_checked()
    expect(page.get_by_label("Note")).to_have_value(HOSTILE)
    expect(page.get_by_text("Choose a.fastq again")).to_be_visible()
    expect(page.get_by_role("link", name="K: must be a whole number")).to_have_attribute("href", "#f-k")
    assert page.title() == "align · drmaaticd"
    check_looks_without_script(page)


def check_looks_without_script(page: Page) -> None:
    """axe needs a script: the same document is looked at where there may be one."""
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator("h1").count() == 1


def test_the_refused_form_looks_well(service: Daemon, profile: Callable[..., BrowserContext]) -> None:
    page = profile().new_page()
    faults = watch(page)
    page.goto(f"{service.url}/ui/script/plain?text={'x' * 5001}")
    page.evaluate("document.querySelector('#form').submit()")  # the browser's own way
    expect(page.locator("#summary")).to_contain_text("one field needs another value")
    expect(page.get_by_label("Text")).to_be_focused()
    check_looks(page)
    assert not faults


def test_a_form_sent_twice_makes_one_task(service: Daemon) -> None:
    session, token = visit(service)
    address, own = f"{service.url}/ui/script/bare", {"Origin": service.url}
    params = {"_xsrf": token, "key": "0123456789abcdef0123456789"}

    def send(note: str) -> requests.Response:
        files = {"task_description": (None, note)}
        return session.post(
            address, params=params, files=files, headers=own, allow_redirects=False, timeout=20
        )

    first, again, other = send("once"), send("once"), send("another")
    assert first.status_code == again.status_code == 303
    assert first.headers["Location"] == again.headers["Location"]
    assert other.status_code == 422
    assert "This form was sent before, with other values." in other.text
    assert 'value="another"' in other.text
    assert params["key"] not in other.text  # sent again, it starts another task


# -- who may send it ----------------------------------------------------------------------------


def visit(service: Daemon) -> tuple[requests.Session, str]:
    """A browser's session and the token against forgery that its page holds."""
    session = requests.Session()
    text = session.get(f"{service.url}/ui/script/bare", timeout=20).text
    found = re.search(r'<meta name="xsrf" content="([^"]+)"', text)
    assert found is not None
    return session, found[1]


def test_a_forged_form_is_refused(service: Daemon) -> None:
    address = f"{service.url}/ui/script/bare"
    body = {"task_description": (None, "forged")}
    own = {"Origin": service.url}
    session, token = visit(service)
    good = session.post(
        address, params={"_xsrf": token}, files=body, headers=own, allow_redirects=False, timeout=20
    )
    assert good.status_code == 303
    assert re.fullmatch(r"/ui/task/[0-9a-f-]{36}", good.headers["Location"])
    for params, headers, cookies in (
        ({}, own, True),
        ({"_xsrf": "2|aa|bb|1"}, own, True),
        ({"_xsrf": token}, own, False),
        ({"_xsrf": token}, {"Origin": "https://evil.example"}, True),
        ({"_xsrf": token}, {}, True),
        ({"_xsrf": token}, own | {"Sec-Fetch-Site": "cross-site"}, True),
        ({"_xsrf": token}, own | {"Sec-Fetch-Site": "same-site"}, True),
    ):
        sender = session if cookies else requests.Session()
        answer = sender.post(
            address, params=params, files=body, headers=headers, allow_redirects=False, timeout=20
        )
        assert answer.status_code == 403, (params, headers, cookies, answer.text)
        assert "<form id=" not in answer.text
    assert forms.leftovers(service) == []


def test_a_script_that_is_not_there_takes_no_form(service: Daemon) -> None:
    session, token = visit(service)
    answer = session.post(
        f"{service.url}/ui/script/none-such",
        params={"_xsrf": token},
        files={"x": (None, "y")},
        headers={"Origin": service.url},
        timeout=20,
    )
    assert answer.status_code == 404
    assert "There is no such script" in answer.text
