"""The parts without a socket: paths, names in headers, addresses, content types, forms."""

from __future__ import annotations

import asyncio
import json
import logging
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drmaaticd.errors import DrmaaticdError, FieldError, InvalidInput, NotFound, RangeNotSatisfiable, TooLarge
from drmaaticd.web import contenttype, forms, jsontext, requestid
from drmaaticd.web.addresses import Clients, Networks, parse
from drmaaticd.web.background import Background
from drmaaticd.web.conditions import byte_range, none_match
from drmaaticd.web.cors import Cors
from drmaaticd.web.disposition import content_disposition
from drmaaticd.web.forms import parse_json, parse_urlencoded
from drmaaticd.web.paths import file_path, task_uuid
from drmaaticd.web.query import Query

NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@given(st.lists(NAMES, min_size=1, max_size=5), st.booleans())
def test_every_path_survives_percent_encoding(names: list[bytes], slash: bool) -> None:
    raw = "/".join(quote(name, safe="") for name in names) + "/" * slash
    assert file_path(raw) == b"/".join(names)


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_no_path_leaves_its_folder(raw: str) -> None:
    try:
        path = file_path(raw)
    except NotFound:
        return
    assert not path.startswith(b"/")
    assert not {b"", b".", b".."} & set(path.split(b"/"))
    assert b"\0" not in path
    assert path.count(b"/") == raw.removesuffix("/").count("/")


@given(st.uuids())
def test_uuids_in_any_case(uuid: object) -> None:
    assert task_uuid(str(uuid).upper()) == str(uuid)


@given(st.text(max_size=60))
def test_disposition_is_a_safe_header_that_keeps_the_name(name: str) -> None:
    value = content_disposition("inline", name)
    assert value.isascii()
    assert value.isprintable()
    plain = value.partition('filename="')[2].partition('"')[0]
    encoded = value.partition("filename*=UTF-8''")[2]
    got = unquote_to_bytes(encoded).decode() if encoded else plain
    assert got == jsontext.clean(name)


TEXT = st.text(st.characters())
VALUES = st.recursive(
    st.none() | st.booleans() | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)


@given(VALUES)
def test_json_of_any_text(value: object) -> None:
    json.loads(jsontext.dumps(value))


@given(
    st.integers(0, 30), st.text("0123456789-, bytes=", max_size=12), st.integers(0, 40), st.integers(0, 40)
)
def test_ranges_lie_within_the_file(size: int, noise: str, first: int, last: int) -> None:
    for header in (f"bytes={first}-{last}", f"bytes={first}-", f"bytes=-{last}", noise, f"bytes={noise}"):
        try:
            part = byte_range(header, size)
        except RangeNotSatisfiable:
            continue
        if part is not None:
            assert 0 <= part.start < part.end <= size


def test_none_match_reads_tags_with_commas() -> None:
    assert none_match('"a,b", W/"c"', '"a,b"')
    assert none_match('"a,b", W/"c"', '"c"')
    assert not none_match('"a,b"', '"a"')
    assert not none_match("", '"a"')


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", ["6.6.6.6"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6", "192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["192.0.2.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["", ","], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("fe80::1%eth0", [], "fe80::1"),
        ("not-an-address", ["192.0.2.1"], "not-an-address"),
    ],
)
def test_client_addresses(peer: str, forwarded: list[str], expected: str) -> None:
    assert Clients(["10.0.0.0/8"]).address(peer, forwarded) == expected


def test_networks() -> None:
    networks = Networks(["10.0.0.0/8", "::1"])
    assert parse("10.1.2.3") in networks
    assert parse("::1") in networks
    assert parse("192.0.2.1") not in networks
    assert parse("x") not in networks


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('Multipart/Form-Data;boundary="a b"', "a b"),
        ("multipart/form-data; charset=UTF-8; Boundary = abc ", "abc"),
        ("multipart/form-data; boundary===1/2==", "==1/2=="),
        ('multipart/form-data; x=";boundary=wrong"; boundary=right', "right"),
    ],
)
def test_boundaries(header: str, boundary: str) -> None:
    assert contenttype.form_kind(header) == (contenttype.MULTIPART, boundary)


@given(st.text(max_size=50) | st.from_regex(r"multipart/form-data; ?boundary=.*", fullmatch=True))
def test_any_content_type_is_understood_or_refused(header: str) -> None:
    try:
        kind, boundary = contenttype.form_kind(header)
    except DrmaaticdError:
        return
    assert (kind == contenttype.MULTIPART) == bool(boundary)


SCALARS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@given(
    st.dictionaries(
        SCALARS, SCALARS | st.booleans() | st.integers(-(10**30), 10**30) | st.lists(SCALARS) | st.none()
    )
)
def test_json_forms(document: dict[str, object]) -> None:
    expected = []
    for name, value in document.items():
        for member in value if isinstance(value, list) else [value]:
            if member is not None:
                expected.append(
                    (
                        name,
                        {True: "true", False: "false"}[member] if isinstance(member, bool) else str(member),
                    )
                )
    assert parse_json(json.dumps(document).encode()) == expected


@pytest.mark.parametrize("body", [b'{"a": [null]}', b'{"a": ["x", null]}', b'{"a": [[]]}', b'{"a": {}}'])
def test_members_that_are_no_values(body: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_json(body)
    assert [error.name for error in caught.value.errors] == ["a"]


@given(st.lists(st.tuples(SCALARS.filter(bool), SCALARS)))
def test_urlencoded_forms(pairs: list[tuple[str, str]]) -> None:
    body = "&".join(
        f"{quote(name, safe='')}={quote(value, safe=' ').replace(' ', '+')}" for name, value in pairs
    )
    assert parse_urlencoded(body.encode()) == pairs


@given(st.binary(max_size=60))
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    for parse_form in (parse_json, parse_urlencoded):
        try:
            pairs = parse_form(body)
        except DrmaaticdError:
            continue
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in pairs)


@given(st.lists(st.sampled_from([b"%41", b"%C3%BC", b"a", b"+", b"%", b"%4", b"%zz"]), max_size=60))
def test_slices_do_not_show(pieces: list[bytes]) -> None:
    value = b"".join(pieces)
    expected = unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "SLICE", 5)
        if "�" in expected:
            with pytest.raises(InvalidInput):
                parse_urlencoded(b"a=" + value)
        else:
            assert parse_urlencoded(b"a=" + value) == [("a", expected)]


def test_every_field_that_is_no_utf8_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_urlencoded(b"a=%ff&b=1&c=%fe&%fd=1")
    assert [error.name for error in caught.value.errors] == ["a", "c", "�"]


@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9._-]+", fullmatch=True))
def test_request_ids_are_sane(given_id: str) -> None:
    accepted = requestid.accept(given_id)
    assert 0 < len(accepted) <= 64
    assert set(accepted) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def test_origins() -> None:
    assert Cors(["https://a.example/"]).allows("https://a.example")
    assert not Cors(["https://a.example"]).allows("https://a.example.evil")
    assert not Cors(["https://a.example"]).allows("null")
    assert not Cors([]).allows("https://a.example")
    assert Cors(["*"]).headers("https://b.example")["Access-Control-Allow-Origin"] == "https://b.example"
    assert Cors(["*"]).headers(None) == {}


def test_a_field_full_of_quotes_is_one_field() -> None:
    text = '"\\' * 10_000
    assert parse_json(json.dumps({"a": text}).encode()) == [("a", text)]


def test_a_thousand_fields_are_not_too_many() -> None:
    document = {f"name{number}": f"value{number}" for number in range(1000)}
    assert parse_json(json.dumps(document).encode()) == list(document.items())
    document["one"] = "more"
    with pytest.raises(TooLarge):
        parse_json(json.dumps(document).encode())


def test_log_records_carry_the_request() -> None:
    record = logging.makeLogRecord({})
    token = requestid.current.set("abc")
    try:
        assert requestid.RequestIdFilter().filter(record)
    finally:
        requestid.current.reset(token)
    assert vars(record)["request_id"] == "abc"


@pytest.mark.logs("work in the background failed")
def test_background_work_is_awaited_and_its_failure_logged() -> None:
    done = []

    async def work(fails: bool) -> None:
        await asyncio.sleep(0)
        done.append(fails)
        if fails:
            raise RuntimeError("told")

    async def main() -> None:
        background = Background()
        background.add(work(False))
        background.add(work(True))
        await background.join()
        assert sorted(done) == [False, True]

    asyncio.run(main())


def names_of(caught: pytest.ExceptionInfo[InvalidInput]) -> list[str]:
    return [error.name for error in caught.value.errors]


def read_together(query: Query, error: Exception) -> None:
    """Read of each kind, then find something else wrong."""
    with query.together():
        assert query.number("page", 7) == 7
        assert query.flag("details") is False
        assert query.choice("format", ("zip", "tar.gz")) == "zip"
        assert query.text("name") is None
        raise error


def test_wrong_parameters_are_told_together_with_what_else_is_wrong() -> None:
    query = Query({"page": [b"0"], "details": [b"perhaps"], "format": [b"rar"], "name": [b"\xff"]})
    with pytest.raises(InvalidInput) as caught:
        read_together(query, InvalidInput("", errors=[FieldError("ids", "are too many")]))
    assert names_of(caught) == ["page", "details", "format", "name", "ids"]
    with pytest.raises(InvalidInput) as caught:
        query.number("page", 7)
    assert names_of(caught) == ["page"]


@pytest.mark.parametrize("error", [InvalidInput("The filters are wrong."), NotFound()])
def test_what_else_is_wrong_is_told_as_it_was(error: DrmaaticdError) -> None:
    with pytest.raises(DrmaaticdError) as caught:
        read_together(Query({}), error)
    assert caught.value is error
