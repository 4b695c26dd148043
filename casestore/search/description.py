"""The grammar of filters and orders as JSON Schema, with examples, for the OpenAPI description. Plain Python."""

from __future__ import annotations

from typing import Any

from casestore.search.regex.parser import MAX_LENGTH

EXAMPLES: dict[str, dict[str, Any]] = {
    "Patients of fifty and more": {"patientInfo.age": {"$gte": 50}},
    "Names that begin so, in whichever case": {"patientInfo.patientName": {"$regex": "^smith", "$options": "i"}},
    "Cases of a year": {"createdAt": {"$gte": {"$date": "2022-01-01"}, "$lt": {"$date": "2023-01-01T00:00:00+09:00"}}},
    "Both tags, and not a third": {"tags": {"$all": ["review", "urgent"], "$ne": "done"}},
    "Cases without a known patient, or of a child": {
        "$or": [{"patientInfo.age": {"$in": [None]}}, {"patientInfo.age": {"$lt": 15}}]
    },
    "A large nodule: both in one and the same label": {
        "latestRevision.labels": {"$elemMatch": {"name": "nodule", "attributes.size": {"$gt": 8}}}
    },
    "No label of this name": {"$nor": [{"latestRevision.labels.name": "nodule"}]},
}
MAX_SORT_KEYS = 5
SORT_EXAMPLES = [{"createdAt": -1}, {"patientInfo.age": 1, "caseId": 1}]

_FILTER = {"$ref": "#/components/schemas/Filter"}
_CONDITION = {"$ref": "#/components/schemas/FilterCondition"}
_VALUE = {"$ref": "#/components/schemas/FilterValue"}
_FILTERS = {"type": "array", "minItems": 1, "items": _FILTER}
_VALUES = {"type": "array"}

SCHEMAS: dict[str, Any] = {
    "Filter": {
        "type": "object",
        "description": (
            "A MongoDB-style filter; what is not described here is an error, never ignored. A case is found when all"
            " members hold: `$and` all of its filters, `$or` at least one, `$nor` none; any other name is a key,"
            " and its condition must hold. `{}` finds everything. Nested at most 100 deep.\n\n"
            "Values compare with values of their own type only: strings by code point, without regard to language;"
            " dates to the millisecond. Of an array, one element is enough; two operators may be met by two elements,"
            " unless they stand in one `$elemMatch`. `$ne`, `$nin`, `$not` and `$nor` also find what is missing. What"
            ' is null, missing or hidden is one and the same; `{"$in": [null]}` finds it.'
        ),
        "properties": {"$and": _FILTERS, "$or": _FILTERS, "$nor": _FILTERS},
        "additionalProperties": _CONDITION,
        "examples": list(EXAMPLES.values()),
    },
    "FilterCondition": {
        "description": (
            "A value, or operators that must all hold. `$regex` goes with `$options` and no other operator. Of an array"
            " of documents, `$elemMatch` takes a filter on their members; of other arrays, operators."
        ),
        "anyOf": [
            _VALUE,
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **dict.fromkeys(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"), _VALUE),
                    "$in": _VALUES,
                    "$nin": _VALUES,
                    "$all": _VALUES,
                    "$exists": {"type": "boolean"},
                    "$not": _CONDITION,
                    "$elemMatch": {"type": "object"},
                    "$regex": {
                        "type": "string",
                        "maxLength": MAX_LENGTH,
                        "description": (
                            "A Perl-compatible regular expression, found anywhere in the text; classes are ASCII. What"
                            " PostgreSQL has no equal for (atomic groups, recursion, Unicode properties, ...) is"
                            " refused by name."
                        ),
                    },
                    "$options": {
                        "type": "string",
                        "pattern": "^[imsxu]*$",
                        "description": "i: in whichever case, m: ^ and $ at lines, s: the point takes newlines,"
                        " x: white space and comments are left out.",
                    },
                },
            },
        ],
    },
    "FilterValue": {
        "description": "A value, in MongoDB's Extended JSON (version 2) where JSON has no such type.",
        "anyOf": [
            {"type": ["string", "number", "boolean"]},
            {
                "type": "object",
                "required": ["$date"],
                "additionalProperties": False,
                "properties": {
                    "$date": {
                        "description": "ISO 8601, in UTC unless it says otherwise; or milliseconds since 1970.",
                        "type": ["string", "number", "object"],
                    }
                },
            },
            {
                "type": "object",
                "required": ["$regularExpression"],
                "additionalProperties": False,
                "properties": {
                    "$regularExpression": {
                        "type": "object",
                        "required": ["pattern"],
                        "additionalProperties": False,
                        "properties": {"pattern": {"type": "string"}, "options": {"type": "string"}},
                    }
                },
            },
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": {name: {"type": "string"} for name in ("$numberInt", "$numberLong", "$numberDouble")},
            },
        ],
    },
    "Sort": {
        "type": "object",
        "description": (
            "Keys of the filter, the first one first: 1 ascending, -1 descending. What is missing is lowest; of an"
            " array the lowest element counts, or descending the highest."
        ),
        "maxProperties": MAX_SORT_KEYS,
        "additionalProperties": {"enum": [1, -1]},
        "examples": SORT_EXAMPLES,
    },
}


def json_text(schema: str) -> dict[str, Any]:
    """A parameter that holds such a value as JSON text."""
    return {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": f"#/components/schemas/{schema}"},
    }
