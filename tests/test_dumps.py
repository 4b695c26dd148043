"""Reading dumps: every form of a file gives the same records, and a broken record costs only itself."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from casestore.dumps import json_records as reader
from casestore.dumps.extended_json import Malformed, iso, plain
from casestore.dumps.files import read_records
from casestore.dumps.json_records import json_records
from casestore.dumps.records import Record, Unreadable
from casestore.dumps.yaml_records import yaml_records
from casestore.search.values import iso_milliseconds

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\x85\ufeff", exclude_categories=["Cc", "Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXTS | st.sampled_from(['"', "\\", "{", "}]", '\\"{']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.lists(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4), max_size=5)


def of_json(text: str | bytes) -> list[Record | Unreadable]:
    return list(json_records(io.BytesIO(text if isinstance(text, bytes) else text.encode())))


def of_yaml(text: str) -> list[Record | Unreadable]:
    return list(yaml_records(io.BytesIO(text.encode())))


def values(found: list[Record | Unreadable]) -> list[Any]:
    assert not [item for item in found if isinstance(item, Unreadable)]
    return [item.value for item in found if isinstance(item, Record)]


def lines(found: list[Record | Unreadable]) -> list[tuple[int, Any]]:
    return [(item.line, item.value if isinstance(item, Record) else item.reason) for item in found]


@given(DOCUMENTS, st.booleans())
def test_every_form_of_json_is_the_same(documents: list[Any], escaped: bool) -> None:
    def dump(value: Any, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=escaped, **options)

    forms = [
        "\n".join(dump(item) for item in documents),
        "\r\n\r\n".join(dump(item) for item in documents) + "\r\n",
        "\n".join(dump(item, indent=2) for item in documents),
        "\n".join(dump(item, indent=0) for item in documents),
        "".join(dump(item) for item in documents),
        dump(documents),
        " \n" + dump(documents, indent=4) + "\n",
        "[" + ",\n".join(dump(item) for item in documents) + "]",
    ]
    for text in forms:
        assert values(of_json(text)) == documents, text
        assert values(of_json("\ufeff" + text)) == documents, text


@given(DOCUMENTS)
def test_every_form_of_yaml_is_the_same(documents: list[Any]) -> None:
    for form in (yaml.safe_dump(documents), yaml.safe_dump_all(documents), json.dumps(documents, ensure_ascii=False)):
        assert values(of_yaml(form)) == documents, form
    assert values(of_yaml(f"---\n{yaml.safe_dump(documents)}\n---\n- last: 1\n")) == [*documents, {"last": 1}]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    documents = [{"a": '\\"}{', "b": [{"c": "é"}]}, {"d": "\\"}]
    monkeypatch.setattr(reader, "CHUNK", size)
    assert values(of_json(json.dumps(documents))) == documents


def test_a_broken_line_costs_itself() -> None:
    no_end, no_json, no_object = "The record has no end.", "This is not valid JSON.", "This is not an object."
    assert lines(of_json('{"a": 1}\n\n{x}\n7\n{"b": 2}{"c": 3},\n{"d": NaN}\n{"e": 4}\n{"f": ')) == [
        (1, {"a": 1}),
        (3, no_json),
        (4, no_object),
        (5, {"b": 2}),
        (5, {"c": 3}),
        (6, no_json),
        (7, {"e": 4}),
        (8, no_end),
    ]
    # One without an end ends where the next whole one begins.
    assert lines(of_json('{"a": "no end\n{"b": {"c": [1\n{"d": 4}\n')) == [(1, no_end), (3, {"d": 4})]
    pretty = '{\n  "a": {\n    "b": 1\n}\n{\n  "c": 2\n}\n'
    assert lines(of_json(pretty)) == [(1, no_end), (5, {"c": 2})]
    assert lines(of_json('[{"a": 1}, {x}, 5,\n{"b": 2},\n{"c": [')) == [
        (1, {"a": 1}),
        (1, no_json),
        (1, no_object),
        (2, {"b": 2}),
        (3, no_end),
    ]
    assert lines(of_json(b'{"a": "\xff"}\n{"b": 1}')) == [(1, no_json), (2, {"b": 1})]
    assert lines(of_json("nothing of the kind")) == [(1, no_object)]
    assert of_json("") == of_json("\n \n") == of_json("[]") == []


def test_a_record_may_not_be_larger_than_memory_bears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_RECORD", 100)
    large = json.dumps({"a": "x" * 200})
    pretty = json.dumps({"a": ["x" * 20] * 20}, indent=1)
    for text in (f'{large}\n{{"b": 1}}\n', f'[{large},\n{{"b": 1}}]', f'{pretty}\n{{"b": 1}}\n'):
        first, second = of_json(text)
        assert isinstance(first, Unreadable)
        assert (first.line, "larger than" in first.reason or "no end" in first.reason) == (1, True)
        assert isinstance(second, Record)
        assert second.value == {"b": 1}


def test_what_yaml_says_of_itself() -> None:
    assert lines(
        of_yaml("- a: 1\n- &x {b: [1]}\n- *x\n- {<<: *x, c: 2}\n- 7\n- {d: !foo 1}\n- {e: 2020-13-45}\n- f: 1")
    ) == [
        (1, {"a": 1}),
        (2, {"b": [1]}),
        (3, {"b": [1]}),
        (4, {"b": [1], "c": 2}),
        (5, "This is not an object."),
        (6, "A value of this record is not one of YAML's."),
        (7, "A value of this record is not one of YAML's."),
        (8, {"f": 1}),
    ]
    assert lines(of_yaml("a: 1\n---\nb: [2\n---\nc: 3\n")) == [
        (1, {"a": 1}),
        (4, "This is not valid YAML; nothing was read from here on."),
    ]
    assert of_yaml("") == of_yaml("---\n...\n") == []


def test_no_more_than_one_record_is_in_memory(tmp_path: Path) -> None:
    """The file behind the first record is not read when the first record is asked for."""
    for name, begin, record in (
        ("a.json", "", '{"a": 1}\n'),
        ("a.jsonl", "[", '{"a": 1},'),
        ("a.yaml", "", "- a: 1\n"),
    ):
        path = tmp_path / name
        path.write_text(begin + record * 1_000_000)
        told: list[int] = []
        first = next(read_records(path, told.append))
        assert isinstance(first, Record)
        assert first.value == {"a": 1}
        assert 0 < told[0] < 2 * reader.CHUNK


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"$date": "2022-01-01T12:00:00.123Z"}, "2022-01-01T12:00:00.123Z"),
        ({"$date": "2022-01-01T21:00:00.1239+0900"}, "2022-01-01T12:00:00.123Z"),
        ({"$date": 1641038400123}, "2022-01-01T12:00:00.123Z"),
        ({"$date": {"$numberLong": "-1"}}, "1969-12-31T23:59:59.999Z"),
        ({"$date": {"$numberLong": "8640000000000000"}}, "+275760-09-13T00:00:00.000Z"),
        ({"$numberInt": "5"}, 5),
        ({"$numberLong": "9007199254740993"}, 9007199254740993),
        ({"$numberLong": 5}, 5),
        ({"$numberDouble": "1.5"}, 1.5),
        ({"$numberDouble": "1.5E+300"}, 1.5e300),
        ({"$numberDecimal": "2.50"}, 2.5),
        ({"$oid": "5f0e"}, "5f0e"),
        ({"$undefined": True}, None),
        ([{"a": {"$numberInt": "1"}}], [{"a": 1}]),
        ({"$ref": "#/definitions/a"}, {"$ref": "#/definitions/a"}),
        ({"$date": {"$numberLong": "0"}, "b": 1}, {"$date": 0, "b": 1}),
        (datetime(2022, 1, 1, 12), "2022-01-01T12:00:00.000Z"),
        (datetime(2022, 1, 1, 21, tzinfo=timezone(timedelta(hours=9))), "2022-01-01T12:00:00.000Z"),
        (date(2022, 1, 1), "2022-01-01T00:00:00.000Z"),
        ({1: "a"}, {"1": "a"}),
        (10**30, 1e30),
    ],
)
def test_extended_json(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


DEEP: Any = "x"
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        {"$date": "yesterday"},
        {"$date": True},
        {"$date": {"$numberLong": "9640000000000000"}},
        {"$numberInt": "2147483648"},
        {"$numberLong": "1.5"},
        {"$numberDouble": "NaN"},
        {"$numberDouble": "1e999"},
        {"$numberDecimal": "x"},
        {"$oid": 5},
        "a\0b",
        "\ud800",
        {"a\0b": 1},
        float("nan"),
        10**400,
        {None: 1},
        b"secret",
        {1, 2},
        DEEP,
    ],
)
def test_what_cannot_be_stored_is_refused_without_quoting_it(value: Any) -> None:
    with pytest.raises(Malformed) as caught:
        plain({"patientInfo": {"patientName": [1, value]}})
    assert str(caught.value).startswith("patientInfo.patientName[1]")
    for secret in ("yesterday", "9640", "2147483648", "secret"):
        assert secret not in str(caught.value)


def test_a_bomb_of_aliases_is_refused() -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    (record,) = of_yaml(text)
    assert isinstance(record, Record)
    with pytest.raises(Malformed, match="too many values"):
        plain(record.value)


@given(st.integers(-8_640_000_000_000_000, 8_640_000_000_000_000))
def test_dates_of_any_year_go_there_and_back(milliseconds: int) -> None:
    text = iso(milliseconds)
    assert iso_milliseconds(text) == milliseconds
    if -62_135_596_800_000 <= milliseconds < 253_402_300_800_000:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
        assert datetime.fromisoformat(text) == moment
