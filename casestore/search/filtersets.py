"""`filter` and `sort` as a django-filter backend: in requests, in the browsable API and in the OpenAPI description."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django import forms
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema_field
from rest_framework.request import Request

from casestore.accounts.models import GlobalPrivilegeName
from casestore.search.description import json_text
from casestore.search.grammar import parse
from casestore.search.keys import Key, KeyTable
from casestore.search.order import Sort, order_terms, parse_sort
from casestore.search.translate import Patients, condition
from casestore.search.values import parse_json

FILTER_HELP = (
    'A MongoDB-style filter as JSON, for example {"patientInfo.age": {"$gte": 50}}. Operators: $eq, $ne, $gt, $gte, '
    "$lt, $lte, $in, $nin, $all, $exists, $regex with $options, $not, $elemMatch; $and, $or and $nor join filters. "
    'Dates are {"$date": "2022-01-01T12:00:00Z"}. The schema "Filter" says it all, with examples.'
)
SORT_HELP = 'Up to five keys of the filter as JSON, each 1 or -1, for example {"createdAt": -1}.'


class JsonField(forms.Field):
    """JSON text; or, in a JSON body, the value itself."""

    def to_python(self, value: Any) -> Any:
        if value is None or value == "":
            return {}
        return parse_json(value, str(self.label)) if isinstance(value, str) else value


class JsonFilter(django_filters.CharFilter):
    field_class = JsonField


def filters_for(table: KeyTable) -> tuple[JsonFilter, JsonFilter]:
    """`filter` and `sort` of a filter set, explained."""
    keys = ", ".join(f"{name} ({kind})" for name, kind in table.described())
    return _parameter("filter", f"{FILTER_HELP} Keys: {keys}.", "Filter"), _parameter("sort", SORT_HELP, "Sort")


def _parameter(name: str, help_text: str, schema: str) -> JsonFilter:
    described: JsonFilter = extend_schema_field(json_text(schema) | {"description": help_text})(
        JsonFilter(label=name, help_text=help_text)
    )
    return described


class SearchFilterSet(django_filters.FilterSet):
    """What a search narrows and orders: by the keys of `table`, and for patients as far as `patients` says.

    A subclass names its table twice: `table`, and `filter, sort = filters_for(table)`.
    """

    table: ClassVar[KeyTable]
    default_sort: ClassVar[Sort] = (("createdAt", -1),)
    unique: ClassVar[str]
    more_to_sort_by: ClassVar[tuple[Key, ...]] = ()

    def __init__(self, *args: Any, patients: Patients, **options: Any) -> None:
        super().__init__(*args, **options)
        self.patients = patients

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        privilege = GlobalPrivilegeName.PERSONAL_INFO_VIEW
        table = self.table.for_user(sees_patients=self.request.user.has_privilege(privilege))
        document, order = (self.form.cleaned_data[name] for name in ("filter", "sort"))
        tree = parse(document, table)
        sortable = table.with_keys(*self.more_to_sort_by)
        sort = parse_sort(order, sortable) or self.default_sort
        met = condition(tree, table, self.patients)
        if isinstance(met, bool):
            rows = queryset if met else queryset.none()
        else:
            rows = queryset.filter(met)
        return rows.order_by(*order_terms(sort, sortable, self.patients, self.unique))


class SearchBackend(DjangoFilterBackend):
    """Reads the parameters where the view has them, in the address or a JSON body; the view knows its `patients`."""

    def get_filterset_kwargs(self, request: Request, queryset: QuerySet[Any], view: Any) -> dict[str, Any]:
        options: dict[str, Any] = super().get_filterset_kwargs(request, queryset, view)
        return options | {"data": view.search_parameters(request), "patients": view.patients}
