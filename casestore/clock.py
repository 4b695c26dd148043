"""Time as the API shows it: UTC, milliseconds, `Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def to_milliseconds(moment: datetime) -> datetime:
    """Cut, not rounded, so that a stored date equals the one that the API showed."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def now() -> datetime:
    return to_milliseconds(datetime.now(UTC))


def iso(moment: datetime) -> str:
    """ISO 8601 with milliseconds, as in `2022-01-01T12:00:00.000Z`."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z" if utc.year >= 1000 else _early(utc)


def _early(utc: datetime) -> str:
    # strftime does not pad years below 1000 on Linux.
    return f"{utc.year:04d}{utc:-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
