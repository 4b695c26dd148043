"""Errors as JSON: `{"error": sentence, "code": stable code, "validationErrors"?: [{"path", "message"}…]}`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, TooManyFilesSent
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from casestore.errors import (
    MAX_PROBLEMS,
    CasestoreError,
    InvalidBody,
    NotAuthenticated,
    NotFound,
    Problem,
    RangeNotSatisfiable,
    TooLarge,
)


def body_of(error: CasestoreError) -> dict[str, Any]:
    body: dict[str, Any] = {"error": error.sentence, "code": error.code}
    if error.problems:
        body["validationErrors"] = [{"path": p.path, "message": p.message} for p in error.problems]
    return body


def exception_handler(exception: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook. None lets the exception end as a 500, which is logged and answered by `server_error`."""
    error = _as_casestore_error(exception)
    if error is None:
        return None
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if isinstance(exception, exceptions.Throttled) and (wait := getattr(exception, "wait", None)) is not None:
        headers["Retry-After"] = str(int(wait) + 1)
    if isinstance(exception, exceptions.MethodNotAllowed):
        headers["Allow"] = ", ".join(context["view"].allowed_methods)
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    return Response(body_of(error), status=error.status, headers=headers)


def _as_casestore_error(exception: Exception) -> CasestoreError | None:
    if isinstance(exception, CasestoreError):
        return exception
    if isinstance(exception, Http404):
        return NotFound("There is nothing at this address.")
    if isinstance(exception, RequestDataTooBig | TooManyFilesSent):
        return TooLarge("The body is larger than this server takes.")
    if isinstance(exception, PermissionDenied):
        return _named(CasestoreError("You may not do this."), 403, "forbidden")
    if isinstance(exception, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        return NotAuthenticated(str(exception.detail))
    if isinstance(exception, exceptions.ValidationError):
        problems = list(islice(problems_of(exception.detail), MAX_PROBLEMS))
        first = problems[0]
        return InvalidBody(f"{first.path}: {first.message}" if first.path else first.message, problems=problems)
    if isinstance(exception, exceptions.APIException):
        code = exception.get_codes()
        return _named(
            CasestoreError(str(exception.detail)),
            exception.status_code,
            code if isinstance(code, str) else "error",
        )
    return None


def _named(error: CasestoreError, status: int, code: str) -> CasestoreError:
    error.status, error.code = status, code
    return error


def problems_of(detail: Any, path: str = "") -> Iterator[Problem]:
    """Flattens the nested detail of a DRF ValidationError."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            if key == "non_field_errors":
                yield from problems_of(value, path)
            elif isinstance(key, int):
                yield from problems_of(value, f"{path}[{key}]")
            else:
                yield from problems_of(value, f"{path}.{key}" if path else str(key))
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            if isinstance(value, dict):
                yield from problems_of(value, f"{path}[{index}]")
            else:
                yield from problems_of(value, path)
    else:
        yield Problem(path, str(detail))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse(body_of(NotFound("There is nothing at this address.")), status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"error": "The server failed; its log says why.", "code": "server_error"}, status=500)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"error": "The request is malformed.", "code": "bad_request"}, status=400)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return JsonResponse({"error": "You may not do this.", "code": "forbidden"}, status=403)
