"""Parameters of an address, typed."""

from __future__ import annotations

from rest_framework.request import Request

from casestore.errors import BadRequest

LONGEST = 50


def flag(request: Request, name: str) -> bool:
    """`1` is true, `0`, nothing and absence are false; BadRequest for anything else."""
    value = request.query_params.get(name, "")
    if value not in {"", "0", "1"}:
        raise BadRequest(f"{name} must be 0 or 1.")
    return value == "1"


def only(request: Request, *known: str) -> None:
    """BadRequest where the address has another parameter: of one that is misspelt, nothing would come."""
    for name in request.query_params:
        if name not in known:
            raise BadRequest(f"There is no parameter {name[:LONGEST]} here; there are: {', '.join(known)}.")
