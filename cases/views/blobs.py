"""`/api/blob/:sha1`: label voxels."""

from __future__ import annotations

import zlib
from typing import Any, cast

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from cases.models import Blob
from cases.serializers.labels import SHA1
from cases.services.blobs import read_blob, store_blob
from casestore.accounts.authentication import user_of
from casestore.api.openapi import BINARY
from casestore.api.parsers import read_bounded
from casestore.errors import BadRequest, TooLarge


class BytesParser(BaseParser):
    """The body as it is, whatever its type says; `Content-Encoding: gzip` is undone, bounded on both sides."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        limit = settings.CASESTORE_MAX_BLOB
        data = read_bounded(stream, limit)
        encoding = parser_context["request"].headers.get("Content-Encoding", "identity").lower()
        if encoding == "identity":
            return data
        if encoding != "gzip":
            raise BadRequest(f'Content-Encoding "{encoding[:20]}" is not known; use gzip or none.')
        return gunzip(data, limit)


def gunzip(data: bytes, limit: int) -> bytes:
    """One gzip member (RFC 1952) of at most `limit` decoded bytes."""
    decoder = zlib.decompressobj(wbits=31)
    try:
        decoded = decoder.decompress(data, limit + 1)
    except zlib.error:
        raise BadRequest("The body is not valid gzip.") from None
    if len(decoded) > limit:
        raise TooLarge(f"The decoded body is larger than {limit} bytes.")
    if not decoder.eof or decoder.unused_data:
        raise BadRequest("The body is not one whole gzip member.")
    return decoded


class BlobView(APIView):
    """Bytes named by their SHA-1 (40 lower-case hexadecimal digits)."""

    permission_classes = (IsAuthenticated,)
    parser_classes = (BytesParser,)

    @extend_schema(operation_id="blob_get", responses={(200, "application/octet-stream"): BINARY})
    def get(self, request: Request, sha1: str) -> HttpResponse:
        """For a user who may read a case that uses it, or who stored it."""
        blob = Blob.objects.get_for(user_of(request), sha1)
        return HttpResponse(read_blob(blob), content_type="application/octet-stream")

    @extend_schema(operation_id="blob_put", request={"application/octet-stream": BINARY}, responses={201: None})
    def put(self, request: Request, sha1: str) -> Response:
        if not SHA1.match(sha1):
            raise BadRequest("The address must end in a SHA-1 of 40 lower-case hexadecimal digits.")
        store_blob(user=user_of(request), sha1=sha1, data=cast(bytes, request.data or b""))
        return Response(status=201)
