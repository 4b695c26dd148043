"""What hostile and endless searches get, and what nobody may read in the answers and logs."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection

from casestore.settings import CASESTORE_SEARCH_SECONDS
from tests.searching import get, ids
from tests.world import PATIENT, World

DEEP = 10_000


def listed(format_: str, count: int) -> str:
    return ",".join(format_ % i for i in range(count))


HOSTILE: list[str] = [
    '{"$and":[' * DEEP + "{}" + "]}" * DEEP,
    '{"$and":[' * 101 + "{}" + "]}" * 101,
    '{"tags":{"$not":' * DEEP + "{}" + "}}" * DEEP,
    '{"tags":' + '{"$not":' * 101 + '"a"' + "}" * 102,
    "[" * DEEP,
    "[" * 1_000_000,
    '{"a":' * 300_000,
    '{"tags":{"$in":' + "[" * DEEP + "]" * DEEP + "}}",
    '{"latestRevision.attributes.a":{"$in":[' + '{"a":' * 101 + "1" + "}" * 101 + "]}}",
    '{"latestRevision.attributes.a":{"$in":[[' + "1," * 5000 + "1]]}}",
    '{"$or":[' + listed('{"tags":{"$regex":"a|b%d"}}', 2000) + "]}",
    '{"$or":[' + listed('{"tags":"%d"}', 2000) + "]}",
    '{"$and":[' + listed('{"revisionCount":{"$gt":%d}}', 10_000) + "]}",
    '{"$and":[' + listed('{"latestRevision.labels.name":"%d"}', 60) + "]}",
    "{" + listed('"latestRevision.attributes.a%d":1', 3000) + "}",
    '{"$and":[' + ",".join(["{}"] * 100_000) + "]}",
    '{"tags":{"$in":[' + listed('"%d"', 30_000) + "]}}",
    '{"tags":{"$in":[' + listed('["%d"]', 5000) + "]}}",
    '{"tags":{"$all":[' + listed('"%d"', 5000) + "]}}",
    '{"tags":{"$in":[' + ",".join(['"x"'] * 200_000) + "]}}",
    '{"tags":"' + "x" * 1_000_000 + '"}',
    '{"tags":"' + "x" * 2_000_000 + '"',
    '{"tags":{"$regex":"' + "x" * 30_000 + '"}}',
    '{"tags":{"$in":[' + listed('{"$regex":"' + "x" * 2000 + '%d"}', 10) + "]}}",
    '{"tags":{"$regex":"' + "(" * 5000 + '"}}',
    '{"tags":{"$regex":"' + "(" * DEEP + ")" * DEEP + '"}}',
    '{"tags":{"$regex":"' + "(a{1,250}){1,250}" + '"}}',
    '{"tags":{"$regex":"' + "((a{1,30}){1,30}){1,30}" + '"}}',
    '{"tags":{"$regex":"' + "a?" * 1000 + "a" * 1000 + '"}}',
    '{"tags":{"$regex":"a\\u0000b"}}',
    '{"tags":{"$regex":"\\ud800"}}',
    '{"tags":{"$regex":["a"]}}',
    '{"tags":{"$regex":"a","$options":["i"]}}',
    '{"patientInfo.age":' + "9" * 1_000_000 + "x}",
    '{"patientInfo.age":{"$numberLong":"' + "9" * 100_000 + '"}}',
    '{"createdAt":{"$date":' + "9" * 1000 + "}}",
    '{"createdAt":{"$date":1e400}}',
    '{"createdAt":{"$date":["2022-01-01"]}}',
    '{"patientInfo.age":NaN}',
    '{"patientInfo.age":-Infinity}',
    '{"tags":["a"]}',
    '{"tags":{"$gt":["a"]}}',
    '{"caseId":{"a":1}}',
    '{"caseId":null}',
    '{"$where":"1"}',
    '{"caseId":{"$where":"1"}}',
    '{"createdAt":{"$gt":{"$date":"yesterday"}}}',
    '{"latestRevision.attributes.":1}',
    '{"latestRevision.attributes.' + "x" * 1_000 + '":1}',
    '{"latestRevision.attributes' + ".x" * 50 + '":1}',
    '{"latestRevision.attributes.a\\u0000b":1}',
    '{"latestRevision.attributes.$x":1}',
    '{"' + "x" * 100_000 + '":1}',
    '{"tags":"\\ud800"}',
    '{"tags":{"$in":[["\\ud800"]]}}',
    '{"\\ud800":1}',
    "\x00",
    "{",
    "5",
    '"x"',
    "[]",
    "{}{}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:30]))
def test_hostile_filters_are_refused(
    world: World, text: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    world.series(**PATIENT)
    world.case()
    client = world.client("everything")
    secret = ',"patientInfo.patientName":"Secret^Patient"}'
    text = text.removesuffix("}") + secret if text.endswith("}") else text
    refused = [
        client.post("/api/cases/search", {"filter": text}),
        client.post("/api/cases/search", b'{"filter":' + text.encode() + b"}", content_type="application/json"),
    ]
    if len(text) < 20_000:
        refused.append(client.get("/api/cases?filter=" + quote(text)))
    for answer in refused:
        assert answer.status_code == 400, answer.content
        assert len(answer.json()["error"]) < 1000
        assert "Secret" not in answer.content.decode()
    said = caplog.text + "".join(capfd.readouterr())
    assert "Secret" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":' * 5000,
        '{"caseId":1,"caseId":1',
        "[" * 100_000,
        '{"caseId":' + "9" * 100_000 + "}",
        '{"caseId":true}',
        '{"caseId":"1"}',
        '{"caseId":[1]}',
        '{"caseId":{"$numberInt":"1"}}',
        '{"caseId":NaN}',
        '{"\\u0000":1}',
        "{" + listed('"caseId%d":1', 6) + "}",
        "[]",
        "1",
    ],
    ids=lambda text: text[:30],
)
def test_hostile_orders_are_refused(world: World, text: str) -> None:
    client = world.client("everything")
    for answer in (
        client.get("/api/cases?sort=" + quote(text[:20_000])),
        client.post("/api/cases/search", {"sort": text}),
        client.post("/api/cases/search", b'{"sort":' + text.encode() + b"}", content_type="application/json"),
    ):
        assert answer.status_code == 400, answer.content


def test_bodies_say_what_addresses_say(world: World) -> None:
    """Numbers beyond a double, NUL and duplicate keys are no errors in the one and none in the other."""
    world.series(**PATIENT)
    case = world.case(tags=["a"])
    client = world.client("everything")
    for text, count in (
        ('{"patientInfo.age":{"$lte":1e400}}', 1),
        ('{"patientInfo.age":{"$lt":' + "9" * 400 + "}}", 1),
        ('{"patientInfo.age":123456789012345678901234567890}', 0),
        ('{"tags":"a\\u0000"}', 0),
        ('{"tags":"b","tags":"a"}', 1),
        ('{"$nor":[' * 98 + '{"tags":"b"}' + "]}" * 98, 0),
        ('{"tags":"' + "[" * 1000 + '"}', 0),
        ('{"$and":[{}]}', 1),
        ("{}", 1),
    ):
        expected = [case.case_id] * count
        assert ids(client.get("/api/cases?filter=" + quote(text))) == expected, text[:50]
        assert ids(client.post("/api/cases/search", {"filter": text})) == expected, text[:50]
        raw = b'{"filter":' + text.encode() + b"}"
        assert ids(client.post("/api/cases/search", raw, content_type="application/json")) == expected, text[:50]
    for wrong in (b"\xff", b'{"filter":{}}x', b"{'filter':{}}", b'{"limit":NaN}', b" " * 3_000_000):
        assert client.post("/api/cases/search", wrong, content_type="application/json").status_code == 400


@pytest.mark.parametrize(
    "filter_",
    [
        {"tags": "\0"},
        {"tags": {"$in": ["\0", "a\0b"]}},
        {"caseId": {"$gt": "\0"}},
        {"patientInfo.age": 1e308},
        {"patientInfo.age": {"$numberDouble": "NaN"}},
        {"patientInfo.age": {"$gt": {"$numberDouble": "Infinity"}}},
        {"createdAt": {"$date": {"$numberLong": "9223372036854775807"}}},
        {"createdAt": {"$lt": {"$date": -9e15}}},
        {"latestRevision.attributes.a": {"$in": ["\0", {"\0": 1}, [1, "\0"]]}},
        {"tags": {"$in": [["\0"], [1], [None], {}]}},
        {"latestRevision.attributes.a": {"$lt": {"$numberDouble": "-Infinity"}}},
    ],
    ids=repr,
)
def test_strange_values_match_nothing(world: World, filter_: dict[str, Any]) -> None:
    world.series(**PATIENT)
    world.case(tags=["a"])
    assert ids(get(world, "everything", filter=filter_)) == []


@pytest.mark.django_db(transaction=True)
def test_a_search_that_takes_too_long_is_refused_with_advice(world: World, settings: Any) -> None:
    assert CASESTORE_SEARCH_SECONDS == 10
    world.series(**PATIENT)
    for _ in range(3):
        world.case(tags=["a" * 32])
    settings.CASESTORE_SEARCH_SECONDS = "0.001"
    slow = {"$or": [{"tags": {"$regex": f"(a|aa)+(b|bb)*{i}$"}} for i in range(300)]}
    answer = world.client("everything").post("/api/cases/search", {"filter": slow})
    assert answer.status_code == 400
    assert "longer than" in answer.json()["error"]
    # And nothing of it stays behind.
    settings.CASESTORE_SEARCH_SECONDS = 10
    assert len(ids(get(world, "everything"))) == 3


@pytest.mark.django_db(transaction=True)
def test_a_regular_expression_that_tries_everything_is_stopped(world: World, settings: Any) -> None:
    world.series(**(PATIENT | {"patient_name": "a" * 63}))
    world.case()
    settings.CASESTORE_SEARCH_SECONDS = "0.2"
    groups = range(1, 8)
    tries = "^" + "(a+)" * len(groups) + "".join(f"\\{number}" for number in groups) + "$"
    answer = get(world, "everything", filter={"patientInfo.patientName": {"$regex": tries}})
    assert answer.status_code == 400
    assert "longer than" in answer.json()["error"]


def test_the_servers_own_log_does_not_repeat_statements(world: World) -> None:
    with connection.cursor() as cursor:
        for name, value in (("log_min_error_statement", "panic"), ("log_error_verbosity", "terse")):
            cursor.execute("SELECT current_setting(%s)", [name])
            assert cursor.fetchone() == (value,)


def test_errors_do_not_repeat_values(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for filter_ in (
        '{"patientInfo.patientName":{"$regex":"(Secret"}}',
        '{"patientInfo.patientName":{"$gt":["Secret"]}}',
        '{"patientInfo.patientName":{"$gt":{"$date":"Secret"}}}',
        '{"patientInfo.patientName":"Secret',
    ):
        answer = world.client("everything").get("/api/cases?filter=" + quote(filter_))
        assert answer.status_code == 400
        assert "Secret" not in answer.content.decode()
    assert "Secret" not in caplog.text
