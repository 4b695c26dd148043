"""Reading the environment: every address and limit of an installation comes from here, typed and checked."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict


def text(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


def words(name: str, default: str) -> list[str]:
    """A comma-separated list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def flag(name: str, default: bool = False) -> bool:
    value = text(name, "1" if default else "0").lower()
    if value not in {"0", "1", "true", "false", "yes", "no"}:
        raise ImproperlyConfigured(f"{name} must be 0 or 1.")
    return value in {"1", "true", "yes"}


def number(name: str, default: int, minimum: int = 1) -> int:
    try:
        value = int(text(name, str(default)))
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number.") from None
    if value < minimum:
        raise ImproperlyConfigured(f"{name} must be at least {minimum}.")
    return value


def database(url: str) -> dict[str, Any]:
    """Django's settings for a libpq connection URI or key=value string."""
    parts = {key: str(value) for key, value in conninfo_to_dict(url).items()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", "casestore"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "OPTIONS": parts,
    }


def storage(url: str, home: Path) -> dict[str, Any]:
    """Django's settings for where files lie.

    Nothing: in the data folder. `file:///folder`: there. `s3://bucket/prefix?region=…&endpoint_url=…`: in an object
    storage that speaks S3, with the credentials that AWS's own tools find.
    """
    parts = urlsplit(url)
    if not url or (parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")):
        location = unquote(parts.path) if url else home / "storage"
        return {"BACKEND": "casestore.storage.AtomicFileSystemStorage", "OPTIONS": {"location": location}}
    options = dict(parse_qsl(parts.query))
    if parts.scheme != "s3" or not parts.netloc or options.keys() - {"region", "endpoint_url"}:
        raise ImproperlyConfigured(
            "CASESTORE_STORAGE must be file:///folder or s3://bucket/prefix?region=...&endpoint_url=..."
        )
    return {
        "BACKEND": "casestore.object_storage.ObjectStorage",
        "OPTIONS": {
            "bucket_name": parts.netloc,
            "location": unquote(parts.path).strip("/"),
            "region_name": options.get("region"),
            "endpoint_url": options.get("endpoint_url"),
        },
    }


def secret_key(home: Path) -> str:
    """SECRET_KEY of the environment, else one made on first use and kept in the installation's own folder."""
    if value := text("SECRET_KEY"):
        return value
    path = home / "secret_key"
    if path.exists() and (value := path.read_text().strip()):
        return value
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        # Of several processes that start at once, one makes it and the others wait for it.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (value := file.read().strip()):
            value = secrets.token_urlsafe(50)
            file.write(value)
    return value
