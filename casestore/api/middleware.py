"""Small middleware of the API."""

from __future__ import annotations

from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse

from casestore.api.errors import body_of, not_found
from casestore.errors import LengthRequired

Handler = Callable[[HttpRequest], HttpResponse]


def trailing_slash(get_response: Handler) -> Handler:
    """Every endpoint answers with and without a trailing slash, bodies included, without a redirect."""

    def middleware(request: HttpRequest) -> HttpResponse:
        path = request.path_info
        if path.startswith("/api/") and path.endswith("/") and path != "/api/":
            request.path_info = path[:-1]
            request.path = request.path[:-1]
        return get_response(request)

    return middleware


def never_cache_api(get_response: Handler) -> Handler:
    """Answers depend on who asks: no shared cache may keep one for somebody else."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path_info.startswith("/api"):
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response

    return middleware


def no_nul(get_response: Handler) -> Handler:
    """No address holds a NUL character; PostgreSQL would refuse to look for one."""

    def middleware(request: HttpRequest) -> HttpResponse:
        return not_found(request, Http404()) if "\0" in request.path_info else get_response(request)

    return middleware


def known_length(get_response: Handler) -> Handler:
    """A body without a length, which Django would silently take for an empty one, is refused (RFC 9110 15.5.12)."""
    refusal = LengthRequired("Send the body with a Content-Length; chunked ones are not taken here.")

    def middleware(request: HttpRequest) -> HttpResponse:
        if "Transfer-Encoding" in request.headers:
            return JsonResponse(body_of(refusal), status=refusal.status)
        return get_response(request)

    return middleware


def no_length_of_304(get_response: Handler) -> Handler:
    """The 0 that Django gives it would be the length of what the client has kept (RFC 9110 8.6)."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code == 304:
            response.headers.pop("Content-Length", None)
        return response

    return middleware
