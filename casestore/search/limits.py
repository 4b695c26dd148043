"""What a search may cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from psycopg import errors

from casestore.search.values import SearchError


@contextmanager
def bounded() -> Iterator[None]:
    """A transaction in which no statement takes longer than the set time. Raises SearchError for what does."""
    try:
        with transaction.atomic(savepoint=False):
            with connection.cursor() as cursor:
                timeout = f"{settings.CASESTORE_SEARCH_SECONDS}s"
                cursor.execute(
                    "SELECT set_config('statement_timeout', %s, true), set_config('jit', 'off', true)", [timeout]
                )
            yield
    except DatabaseError as error:
        raise _told(error) or error from None


def _told(error: DatabaseError) -> SearchError | None:
    """What of it is the client's doing."""
    cause = error.__cause__
    if isinstance(cause, errors.QueryCanceled):
        return SearchError(
            f"The search took longer than {settings.CASESTORE_SEARCH_SECONDS} seconds. Name a project, a tag or a range"
            " of dates, search for the beginning of a text, or sort by createdAt."
        )
    if isinstance(cause, errors.InvalidRegularExpression):
        return SearchError("A regular expression of the filter is too complex.")
    if isinstance(cause, errors.StatementTooComplex | errors.ProgramLimitExceeded):
        return SearchError("The filter is too complex.")
    if isinstance(cause, errors.DataError):
        return SearchError("The filter holds a value that the database cannot compare with.")
    return None
