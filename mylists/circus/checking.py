"""Checking records of a dump: what refuses one, what is merely left out of it, and what has no place here at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from rest_framework import serializers

from casestore.api.errors import problems_of
from casestore.dumps.extended_json import Malformed, plain
from casestore.errors import InvalidBody
from casestore.search.values import iso_milliseconds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Sentences about one record.
MAX_PROBLEMS = 10
# Names of members that are counted.
MAX_NAMES = 200


class MomentField(serializers.Field):
    """A date in ISO 8601, cut to milliseconds; None beyond the year 9999, where a database's dates end."""

    def to_internal_value(self, data: Any) -> datetime | None:
        milliseconds = iso_milliseconds(data) if isinstance(data, str) else None
        if milliseconds is None:
            raise serializers.ValidationError("This must be a date in ISO 8601.")
        try:
            return _EPOCH + timedelta(milliseconds=milliseconds)
        except OverflowError:
            if milliseconds > 0:
                return None
            raise serializers.ValidationError("This date lies before the year 1.") from None

    def to_representation(self, value: Any) -> Any:
        return value


class DumpSerializer(serializers.Serializer):
    """A record of a dump, or a part of one. A member that is null is one that is missing.

    A wrong member refuses the record, unless others than it are `needed`: then it is left out, with a note. Members
    that are not known are counted; those `of_no_use` here are not even that.
    """

    where: ClassVar[str]
    needed: ClassVar[frozenset[str] | None] = None  # all of them
    of_no_use: ClassVar[frozenset[str]] = frozenset({"_id", "__v"})

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be an object.")
        known = {name: value for name, value in data.items() if value is not None and name in self.fields}
        if len(known) < len(data):
            self._count_unknown(data)
        try:
            checked: dict[str, Any] = super().to_internal_value(known)
        except serializers.ValidationError as error:
            wrong = set(error.detail)
            if self.needed is None or wrong & self.needed:
                raise
            notes: list[str] = self.context["notes"]
            notes += [f"{self.where}.{p.path}: {p.message} It is left out." for p in problems_of(error.detail)]
            checked = super().to_internal_value({name: value for name, value in known.items() if name not in wrong})
        return checked

    def _count_unknown(self, data: dict[str, Any]) -> None:
        unknown: Counter[str] = self.context["unknown"]
        for name in data:
            if name not in self.fields and name not in self.of_no_use:
                place = f"{self.where}.{name[:60]!r}" if not name.isidentifier() else f"{self.where}.{name[:60]}"
                if place in unknown or len(unknown) < MAX_NAMES:
                    unknown[place] += 1


class Checker:
    """Checks the records of one collection."""

    def __init__(self, kind: type[DumpSerializer], unknown: Counter[str]) -> None:
        self._notes: list[str] = []
        # One for all records: making one costs more than checking a record does.
        self._serializer = kind(context={"notes": self._notes, "unknown": unknown})

    def check(self, raw: dict[Any, Any]) -> tuple[dict[str, Any], list[str]]:
        """What of the record, in Extended JSON, is used, and notes about what is not. Raises InvalidBody."""
        self._notes.clear()
        value = self._plain(raw)
        try:
            checked: dict[str, Any] = self._serializer.run_validation(value)
        except serializers.ValidationError as error:
            raise InvalidBody(sentences(list(problems_of(error.detail)))) from None
        return checked, list(self._notes)

    def _plain(self, raw: dict[Any, Any]) -> dict[str, Any]:
        """A member that cannot be read is as bad as one that is wrong. Those that are not used are not looked at."""
        serializer, value = self._serializer, {}
        needed = serializer.fields if serializer.needed is None else serializer.needed
        for name, member in raw.items():
            try:
                value[str(name)] = plain(member) if name in serializer.fields else None
            except Malformed as error:
                if name in needed:
                    raise InvalidBody(str(error.inside(name))) from None
                self._notes.append(f"{serializer.where}.{error.inside(name)} It is left out.")
        return value


def sentences(problems: Sequence[Any]) -> str:
    shown = [f"{p.path}: {p.message}" if p.path else p.message for p in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        shown.append(f"And {len(problems) - MAX_PROBLEMS} more.")
    return " ".join(shown)
