"""Random filters and orders over random cases, against what `filter_oracle` says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jsonschema
import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cases.models import Case, CaseDocument, Label, Project, ProjectRole, Revision, RevisionSeries, Series
from cases.patients import patients_of_cases
from cases.search import CaseFilterSet
from casestore.search.description import SCHEMAS
from casestore.search.values import SearchError
from tests import filter_oracle
from tests.filter_oracle import Date
from tests.searching import following
from tests.world import OTHER_PROJECT, PROJECT, World

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The cases of one example are the only ones in the database while it lasts.
quickly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

# Values that are near to each other, so that filters find some, and not all.
TEXTS = ["", "a", "A", "b", "aB\n", "é", "É", "e\u0301", "%_", "x\\y", "1", "𠮷", "\uffff", "k\u212a"]
NUMBERS: list[Any] = [-1.5, 0, 1, 1.0, 2, 45, 45.5, 2**31, 1e300, 0.1]
MOMENTS = [-62135596800000, -1, 0, 1673308800000, 1673308800001, 253402300799999]
REGEXES = ["", "^a", "a$", "^$", "b|é", "^[a-z]", r"\w", r"\W", ".", "^.{1,2}$", "(?i)É", r"([_1]).*\1", "%", r"\\", "^𠮷",
           r"^a\n?", "[^a]", "(?!a)b", "k"]  # fmt: skip
MODALITIES = {"1.1": "CT", "1.2": "MR", "1.3": ""}
CODES = {
    "caseId": ["case0", "case1", "case2", "case3"],
    "projectId": [PROJECT, OTHER_PROJECT],
    "patientInfo.sex": ["M", "F", "O"],
    "latestRevision.series.seriesUid": ["1.1", "1.2"],
    "latestRevision.series.modality": ["CT", "MR"],
    "latestRevision.labels.type": ["point", "ruler"],
}
Json = st.SearchStrategy[Any]
texts = st.sampled_from(TEXTS)
numbers = st.sampled_from(NUMBERS)
scalars: Json = st.one_of(texts, numbers, st.booleans(), st.none())


def some_documents(random: Random) -> list[dict[str, Any]]:
    """Cases as the server would describe them. Plainly random: hypothesis prefers what is empty and alike."""

    def texts(count: int) -> list[str]:
        return random.sample(TEXTS, random.randint(0, count))

    def scalar() -> Any:
        return random.choice([random.choice(TEXTS), random.choice(NUMBERS), random.choice([True, False, None])])

    def value(depth: int) -> Any:
        kind = random.random() if depth else 0
        if kind < 0.5:
            return scalar()
        if kind < 0.75:
            return [value(depth - 1) for _ in range(random.randint(0, 3))]
        return members(depth - 1)

    def members(depth: int) -> dict[str, Any]:
        chosen = random.sample(["a", "b", "s"], random.randint(0, 3))
        # Orders are defined for what "s" holds.
        flat = [scalar(), [scalar() for _ in range(random.randint(0, 3))]]
        return {name: random.choice(flat) if name == "s" else value(depth) for name in chosen}

    def some(document: dict[str, Any]) -> dict[str, Any]:
        return {name: document[name] for name in document if random.random() < 0.75}

    def label() -> dict[str, Any]:
        kinds = random.choice(CODES["latestRevision.labels.type"])
        return {"type": kinds, **some({"name": random.choice(TEXTS), "attributes": members(2)})}

    def series(uid: str) -> dict[str, Any]:
        labels = [label() for _ in range(random.randint(0, 2))]
        return {"seriesUid": uid, "modality": MODALITIES[uid], "labels": labels}

    def document(index: int) -> dict[str, Any]:
        patient = {
            "patientId": random.choice(TEXTS),
            "patientName": random.choice(TEXTS),
            "age": random.choice(NUMBERS),
            "sex": random.choice(CODES["patientInfo.sex"]),
        }
        of_series = [series(uid) for uid in random.sample(sorted(MODALITIES), random.randint(1, 2))]
        return {
            "caseId": f"case{index}",
            "projectId": random.choice(CODES["projectId"]),
            "tags": texts(3),
            "createdAt": Date(random.choice(MOMENTS)),
            "updatedAt": Date(random.choice(MOMENTS)),
            "patientInfo": some(patient) if random.random() < 0.8 else None,
            "revisionCount": random.randint(0, 2),
            "latestRevision": {
                **{name: random.choice(TEXTS) for name in ("status", "creator", "description")},
                "date": Date(random.choice(MOMENTS)),
                "attributes": members(2),
                "series": of_series,
                # As searches see them: of all series.
                "labels": [label for entry in of_series for label in entry["labels"]],
            },
        }

    return [document(index) for index in range(random.randint(2, 8))]


cases_ = st.integers(0, 2**32).map(lambda seed: some_documents(Random(seed)))

# Filters

dates = st.sampled_from(MOMENTS).map(lambda moment: {"$date": moment})
regexes = st.one_of(
    st.tuples(st.sampled_from(REGEXES), st.sampled_from(["", "i", "m", "s"])).map(
        lambda pair: {"$regularExpression": {"pattern": pair[0], "options": pair[1]}}
    ),
    st.sampled_from(REGEXES).map(lambda pattern: {"$regex": pattern}),
)
special = st.sampled_from([{"$numberDouble": "NaN"}, {"$numberDouble": "-Infinity"}, {"$numberInt": "1"}, "a\0"])
anything: Json = st.one_of(texts, numbers, dates, st.booleans(), special)
no_operands: Json = st.one_of(
    st.none(), st.just({}), st.lists(texts, max_size=2), st.dictionaries(st.sampled_from("ab"), scalars, max_size=1)
)


def mostly(usual: Json, rare: Json) -> Json:
    return one_of(*[usual] * 7, rare)


def one_of(*strategies: Json) -> Json:
    """Each as likely; `st.one_of` prefers the first."""
    return st.sampled_from(range(len(strategies))).flatmap(lambda index: strategies[index])


def conditions_on(values: Json) -> Json:
    """Values and operators with values of this kind, regular expressions, and now and then with others."""
    comparable = mostly(values, anything)
    alternatives = mostly(one_of(values, values, regexes), one_of(anything, no_operands))
    lists = st.lists(alternatives, min_size=1, max_size=4)
    names = ["$gt", "$gte", "$lt", "$lte", "$ne", "$eq"]

    def operators(inner: Json) -> Json:
        table = dict.fromkeys(names, comparable) | {
            "$in": mostly(lists, st.just([])),
            "$nin": mostly(lists, st.just([])),
            "$all": st.lists(alternatives, max_size=2),
            "$exists": st.booleans(),
            "$not": inner,
        }
        several = st.lists(st.sampled_from(sorted(table)), min_size=1, max_size=2, unique=True)
        return several.flatmap(lambda chosen: st.fixed_dictionaries({name: table[name] for name in chosen}))

    several = st.recursive(operators(regexes), operators, max_leaves=2)
    return one_of(comparable, regexes, *[several] * 4, mostly(several, st.just({})))


def on(conditions: Json, *names: str) -> Json:
    return st.tuples(st.sampled_from(names), conditions).map(lambda pair: {pair[0]: pair[1]})


def in_elements(conditions: Json) -> Json:
    only_operators = conditions.filter(lambda value: isinstance(value, dict) and filter_oracle.is_operators(value))
    return only_operators.map(lambda condition: {"$elemMatch": condition})


STRING_KEYS = (
    "patientInfo.patientId", "patientInfo.patientName", "latestRevision.status", "latestRevision.creator",
    "latestRevision.description", "latestRevision.labels.name",
)  # fmt: skip
NUMBER_KEYS = ("patientInfo.age", "revisionCount")
DATE_KEYS = ("createdAt", "updatedAt", "latestRevision.date")
plain_keys = st.sampled_from([*STRING_KEYS, *NUMBER_KEYS, *DATE_KEYS, *CODES, "tags"])
paths = st.lists(st.sampled_from(["a", "b", "s"]), min_size=1, max_size=3).map(".".join)
on_texts, on_scalars = conditions_on(texts), conditions_on(mostly(scalars.filter(lambda v: v is not None), texts))
open_keys = st.tuples(st.sampled_from(["latestRevision.attributes", "latestRevision.labels.attributes"]), paths)
searched: Json = one_of(
    on(on_texts, *STRING_KEYS),
    on(conditions_on(numbers), *NUMBER_KEYS),
    on(conditions_on(dates), *DATE_KEYS),
    st.sampled_from(sorted(CODES)).flatmap(lambda name: on(conditions_on(st.sampled_from(CODES[name])), name)),
    on(one_of(on_texts, on_texts, in_elements(on_texts)), "tags"),
    st.tuples(open_keys.map(".".join), one_of(on_scalars, on_scalars, in_elements(on_scalars))).map(
        lambda pair: {pair[0]: pair[1]}
    ),
    on(st.booleans().map(lambda yes: {"$exists": yes}), "latestRevision.labels", "latestRevision.series"),
)


def together(parts: Json) -> Json:
    several = st.lists(parts, min_size=1, max_size=3)
    return one_of(
        st.tuples(st.sampled_from(["$and", "$or", "$or", "$nor"]), several).map(lambda pair: {pair[0]: pair[1]}),
        st.tuples(parts, parts).map(lambda pair: pair[0] | pair[1]),
    )


label_tests = one_of(
    on(on_texts, "name"),
    on(conditions_on(st.sampled_from(CODES["latestRevision.labels.type"])), "type"),
    st.tuples(paths, on_scalars).map(lambda pair: {f"attributes.{pair[0]}": pair[1]}),
)
in_labels = st.tuples(st.booleans(), st.recursive(label_tests, together, max_leaves=3)).map(
    lambda pair: {"latestRevision.labels": {"$not": {"$elemMatch": pair[1]}} if pair[0] else {"$elemMatch": pair[1]}}
)
filters = st.recursive(mostly(one_of(*[searched] * 5, in_labels), st.just({})), together, max_leaves=5)
sorts = st.dictionaries(
    one_of(plain_keys, st.sampled_from(["latestRevision.attributes.s", "latestRevision.labels.attributes.s"])),
    st.sampled_from([1, -1]),
    min_size=1,
    max_size=3,
)


# Cases


def moment(date: Date) -> datetime:
    return EPOCH + timedelta(milliseconds=date.milliseconds)


def store(documents: list[dict[str, Any]]) -> None:
    projects = {project.project_id: project for project in Project.objects.all()}
    series = {series.series_uid: series for series in Series.objects.all()}
    pairs = [(document, document["patientInfo"] or {}) for document in documents]
    cases = Case.objects.bulk_create(
        Case(
            case_id=document["caseId"],
            project=projects[document["projectId"]],
            tags=document["tags"],
            patient_id=patient.get("patientId"),
            patient_name=patient.get("patientName"),
            patient_age=patient.get("age"),
            patient_sex=patient.get("sex"),
            created_at=moment(document["createdAt"]),
            updated_at=moment(document["updatedAt"]),
            revision_count=document["revisionCount"],
        )
        for document, patient in pairs
    )
    CaseDocument.objects.bulk_create(CaseDocument(case=case, latest_revision="{}") for case in cases)
    latest = [document["latestRevision"] for document in documents]
    own = ("status", "creator", "description", "attributes")
    revisions = Revision.objects.bulk_create(
        Revision(case=case, index=0, date=moment(one["date"]), **{name: one[name] for name in own})
        for case, one in zip(cases, latest, strict=True)
    )
    for case, revision in zip(cases, revisions, strict=True):
        case.latest_revision = revision
    Case.objects.bulk_update(cases, ["latest_revision"])
    parts = [
        (RevisionSeries(revision=revision, position=i, series=series[part["seriesUid"]], start=1, end=1, delta=1), part)
        for revision, one in zip(revisions, latest, strict=True)
        for i, part in enumerate(one["series"])
    ]
    RevisionSeries.objects.bulk_create(entry for entry, _ in parts)
    Label.objects.bulk_create(
        Label(
            revision_series=entry,
            position=i,
            name=label.get("name"),
            type=label["type"],
            data={},
            attributes=label.get("attributes"),
        )
        for entry, part in parts
        for i, label in enumerate(part["labels"])
    )


@pytest.fixture
def stored(world: World) -> Callable[[list[dict[str, Any]]], Any]:
    """These cases are in the database, and no others, for as long as the context lasts."""
    for uid, modality in MODALITIES.items():
        world.series(uid, modality=modality)

    @contextmanager
    def here(documents: list[dict[str, Any]]) -> Iterator[None]:
        with transaction.atomic():
            store(documents)
            yield
            transaction.set_rollback(True)

    return here


def search(world: World, role: str, filter_: Any, sort: Any) -> list[str]:
    """The ids of what the filter set finds, in its order."""
    user = world.user(role)
    found = CaseFilterSet(
        {"filter": json.dumps(filter_), "sort": json.dumps(sort)},
        queryset=Case.objects.visible_to(user),
        request=SimpleNamespace(user=user),
        patients=patients_of_cases(user),
    )
    return [case.case_id for case in found.qs]


def expected(cases: list[dict[str, Any]], filter_: Any, sort: dict[str, int]) -> list[str]:
    found = [case for case in cases if filter_oracle.matches(filter_, case)]
    return [case["caseId"] for case in filter_oracle.in_order(found, sort, "caseId")]


@quickly
@given(cases_, st.lists(st.tuples(filters, sorts), min_size=4, max_size=4))
def test_filters_and_orders_are_mongodbs(
    world: World, stored: Any, cases: list[dict[str, Any]], searches: list[tuple[dict[str, Any], dict[str, int]]]
) -> None:
    with stored(cases):
        for filter_, sort in searches:
            assert search(world, "everything", filter_, sort) == expected(cases, filter_, sort), json.dumps(
                [filter_, sort]
            )
            found = set(search(world, "everything", filter_, {}))
            others = set(search(world, "everything", {"$nor": [filter_]}, {}))
            assert found | others == {case["caseId"] for case in cases}
            assert not found & others


def test_what_is_missing_on_the_way_through_arrays(world: World, stored: Any) -> None:
    """As MongoDB has it: null is also where one document of an array lacks the name, and not where there is none."""
    attributes = [
        {},
        {"a": None},
        {"a": 5},
        {"a": {"b": None}},
        {"a": {"c": 1}},
        {"a": [{"b": 1}, {"c": 1}]},
        {"a": [{"b": 1}, {"b": [None]}]},
        {"a": [{"b": 1}]},
        {"a": [{"b": [1]}, 5, []]},
        {"a": []},
        {"a": [5]},
        {"a": [[{"c": 1}]]},
        {"a": {"b": []}},
    ]
    cases = some_documents(Random(0))[:1] * len(attributes)
    cases = [
        case
        | {"caseId": f"case{index:02}", "latestRevision": case["latestRevision"] | {"attributes": attributes[index]}}
        for index, case in enumerate(cases)
    ]
    with stored(cases):
        for name in ("a", "a.b", "a.b.c"):
            for condition in ({"$in": [None]}, {"$nin": [None]}, {"$exists": False}, {"$ne": 1}, {"$in": [None, 1]}):
                filter_ = {f"latestRevision.attributes.{name}": condition}
                found = search(world, "everything", filter_, {"caseId": 1})
                assert found == expected(cases, filter_, {"caseId": 1}), filter_
                if (name, condition) == ("a.b", {"$in": [None]}):
                    assert [attributes[int(case_id[4:])] for case_id in found] == attributes[:7]


@given(filters, sorts)
def test_the_description_allows_them(filter_: dict[str, Any], sort: dict[str, int]) -> None:
    for name, value in (("Filter", filter_), ("Sort", sort)):
        schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}
        jsonschema.Draft202012Validator(schema).validate(value)


def as_seen_by(role: str, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cases of readable projects; hidden patients are missing."""
    if role == "everything":
        return cases
    seen = [case for case in cases if case["projectId"] == PROJECT]
    if role == "half":
        seen = cases
    hidden = {"viewer": {PROJECT}, "annotator": set(), "half": {OTHER_PROJECT}}[role]
    return [case | ({"patientInfo": None} if case["projectId"] in hidden else {}) for case in seen]


@quickly
@given(cases_, st.lists(st.tuples(filters, sorts), min_size=2, max_size=2))
def test_nobody_finds_what_they_may_not_see(
    world: World, stored: Any, cases: list[dict[str, Any]], searches: list[tuple[dict[str, Any], dict[str, int]]]
) -> None:
    """Each finds what they would if nothing else were there."""
    everything = world.user("everything")
    with stored(cases):
        for filter_, sort in searches:
            for role in ("viewer", "annotator"):
                seen = as_seen_by(role, cases)
                assert search(world, role, filter_, sort) == expected(seen, filter_, sort), json.dumps(
                    [role, filter_, sort]
                )
            for role, seen in (("reader", as_seen_by("viewer", cases)), ("nobody", [])):
                if "patientInfo" in json.dumps([filter_, sort]):
                    with pytest.raises(SearchError):
                        search(world, role, filter_, sort)
                else:
                    assert search(world, role, filter_, sort) == expected(seen, filter_, sort), json.dumps(
                        [filter_, sort]
                    )
        ProjectRole.objects.filter(
            group__user=everything, project__project_id=OTHER_PROJECT, role="viewPersonalInfo"
        ).delete()
        for filter_, sort in searches:
            seen = as_seen_by("half", cases)
            assert search(world, "everything", filter_, sort) == expected(seen, filter_, sort), json.dumps(
                [filter_, sort]
            )


@settings(quickly, max_examples=max(10, settings().max_examples // 5))
@given(cases_, filters, sorts, st.integers(1, 3))
def test_pages_of_the_api_are_parts_of_the_whole(
    world: World, stored: Any, cases: list[dict[str, Any]], filter_: dict[str, Any], sort: dict[str, int], limit: int
) -> None:
    """Over HTTP: in an address and in a body, in pages, behind a cursor and as a stream."""
    client = world.client("everything")
    parameters = {"filter": json.dumps(filter_), "sort": json.dumps(sort)}

    def get(**more: Any) -> Any:
        answer = client.get("/api/cases?" + urlencode(parameters | more))
        assert answer.status_code == 200, answer.content
        return answer

    def ids(answer: Any) -> list[str]:
        return [case["caseId"] for case in answer.json()]

    with stored(cases):
        whole = expected(cases, filter_, sort)
        answer = get(limit=200)
        assert ids(answer) == whole
        assert answer["X-Total-Count"] == str(len(whole))
        assert ids(client.post("/api/cases/search", {"filter": filter_, "sort": sort})) == whole
        pages = [ids(get(limit=limit, page=page)) for page in range(1, len(whole) // limit + 2)]
        assert [case_id for page in pages for case_id in page] == whole
        answer = get(limit=limit, cursor="")
        walked = ids(answer)
        while (address := following(answer)) is not None:
            (cursor,) = parse_qs(urlsplit(address).query)["cursor"]
            answer = get(limit=limit, cursor=cursor)
            walked += ids(answer)
        assert walked == whole
        stream = client.get("/api/cases?" + urlencode(parameters), headers={"Accept": "application/x-ndjson"})
        assert [json.loads(line)["caseId"] for line in b"".join(stream.streaming_content).splitlines()] == whole
