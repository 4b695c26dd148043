"""The errors that services raise: a status, a stable code and a sentence, plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Of what is wrong with a body, so many are told.
MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One place of a body that does not fit its schema. `path` names it, as in `series[0].labels[2].data.size`."""

    path: str
    message: str


class CasestoreError(Exception):
    """A refusal that the client is told of: its sentence never holds patient information."""

    status = 400
    code = "bad_request"

    def __init__(self, sentence: str, *, problems: Sequence[Problem] = ()) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.problems = list(problems)


class BadRequest(CasestoreError):
    """The request cannot be understood or does not hold together."""


class InvalidBody(CasestoreError):
    """The body does not fit its schema; `problems` says where."""

    code = "invalid_body"


class NotAuthenticated(CasestoreError):
    """No token or session, or one that is not, or no longer, known."""

    status = 401
    code = "not_authenticated"


class InsufficientPrivilege(CasestoreError):
    """The user is known but lacks a privilege. 401, as the published API has it; the code tells."""

    status = 401
    code = "insufficient_privilege"


class Forbidden(CasestoreError):
    status = 403
    code = "forbidden"


class CaseInMyList(Forbidden):
    """A case that somebody keeps in a list does not go without `force=1`."""

    code = "case_in_my_list"


class NotFound(CasestoreError):
    """Nothing of that name, or nothing that this user may know of."""

    status = 404
    code = "not_found"


class Conflict(CasestoreError):
    status = 409
    code = "conflict"


class Gone(CasestoreError):
    """It was there, and its time is over."""

    status = 410
    code = "expired"


class LengthRequired(CasestoreError):
    """The body comes in chunks, without saying how long it is."""

    status = 411
    code = "length_required"


class PreconditionFailed(CasestoreError):
    """The `If-Match` of a write names no version that the thing still has."""

    status = 412
    code = "precondition_failed"


class TooLarge(CasestoreError):
    status = 413
    code = "too_large"


class RangeNotSatisfiable(CasestoreError):
    """A file of `size` bytes has none of those that a request asks for."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, sentence: str, *, size: int) -> None:
        super().__init__(sentence)
        self.size = size


class IdempotencyKeyReused(CasestoreError):
    """The key belongs to another request of this user."""

    status = 422
    code = "idempotency_key_reused"


class Unavailable(CasestoreError):
    """A service that the request needs does not answer."""

    status = 503
    code = "unavailable"
