"""Files in an object storage that speaks S3. An object is there when all of it is."""

from __future__ import annotations

from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from django.utils.deconstruct import deconstructible
from storages.backends.s3 import S3Storage

MB = 2**20


@deconstructible
class ObjectStorage(S3Storage):
    """With the options of `environment.storage`; the rest is what an installation needs, and not for it to choose."""

    def get_default_settings(self) -> dict[str, Any]:
        return {
            **super().get_default_settings(),
            # No ACL: buckets without them are the rule.
            "default_acl": None,
            "file_overwrite": False,
            # As they are: a guess from the name would call an archive "encoded", and clients would decode it.
            "object_parameters": {"ContentType": "application/octet-stream"},
            # What is read lies on the disk beyond that, and in the memory at most a few parts of an upload.
            "max_memory_size": 8 * MB,
            "transfer_config": TransferConfig(multipart_chunksize=8 * MB, max_concurrency=2),
        }

    def __init__(self, **settings: Any) -> None:
        # Other servers than Amazon's know their buckets by path, and not all of them the newest checksums.
        style = "path" if settings.get("endpoint_url") else "auto"
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        super().__init__(**{"client_config": config, **settings})
