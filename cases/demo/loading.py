"""Loads the demo: accounts, three series, three cases with labels. Loading it again changes nothing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from django.conf import settings
from pydicom.data import get_testdata_file

from cases import label_bits
from cases.demo.phantom import Phantom, write_phantom
from cases.image_numbers import PartialVolume
from cases.models import Case
from cases.provisioning import provision, read_declaration
from cases.services.blobs import store_blob
from cases.services.cases import append_revision, create_case
from cases.services.series_import import import_dicom
from casestore.accounts.models import AccessToken, Domain, User
from casestore.accounts.services import create_token

INSTALLATION = Path(__file__).with_name("installation.yaml")
PROJECT = "01jd0demo0casestore0demo00"
DOMAIN = "demo.casestore.example"
TOKEN_DESCRIPTION = "demo, shown by make run"  # noqa: S105  not the token
COLORS = ["#ff0000", "#00cc44", "#3366ff", "#ffcc00", "#cc33cc", "#00cccc"]
# A CT that the pydicom package itself brings along, so that nothing needs to be fetched or shipped.
REAL_SERIES = "CT_small.dcm"


def load_demo() -> dict[str, Any]:
    """Returns what `make run` prints: project, logins, a fresh token, a case."""
    declaration = read_declaration(INSTALLATION)
    provision(declaration)
    annotator = User.objects.get(login_id="annotator")
    if not Case.objects.visible_to(annotator).filter(project__project_id=PROJECT).exists():
        _load_cases(annotator)
    # The token is shown at every start and only its digest is kept, so each start makes a new one.
    AccessToken.objects.visible_to(annotator).filter(description=TOKEN_DESCRIPTION).delete()
    _, token = create_token(user=annotator, description=TOKEN_DESCRIPTION)
    case = Case.objects.visible_to(annotator).filter(tags__contains=["phantom"]).latest("created_at")
    return {
        "project": PROJECT,
        "users": [
            {
                "email": user["userEmail"],
                "password": user["password"],
                "role": user["groups"][0].split()[-1].removesuffix("s"),
            }
            for user in declaration["users"]
        ],
        "token": token,
        "caseId": case.case_id,
    }


def _load_cases(user: User) -> None:
    with TemporaryDirectory(prefix="casestore-demo-", dir=settings.FILE_UPLOAD_TEMP_DIR) as temporary:
        folder = Path(temporary, "series")
        spool = Path(temporary, "spool")
        folder.mkdir()
        spool.mkdir()
        feet_first = write_phantom(folder / "feet-first", kind="feet_first")
        oblique = write_phantom(folder / "oblique", kind="oblique")
        real = _real_series(folder)
        import_dicom([folder], domain=Domain.objects.get(name=DOMAIN), spool=spool)
    # The demo's last case is what `make run` prints a command for.
    _case(user, real, None, ["real"])
    depth = next(iter(oblique.organs.values())).shape[0]
    _labelled_case(user, oblique, PartialVolume(depth - 2, 3, -1), ["phantom", "oblique", "backwards"])
    depth = next(iter(feet_first.organs.values())).shape[0]
    _labelled_case(user, feet_first, PartialVolume(1, depth, 1), ["phantom", "feet first"])


def _real_series(folder: Path) -> str:
    from pydicom import dcmread

    source = Path(str(get_testdata_file(REAL_SERIES, download=False)))
    shutil.copy(source, folder / "real.dcm")
    return str(dcmread(source, stop_before_pixels=True).SeriesInstanceUID)


def _case(user: User, series_uid: str, volume: PartialVolume | None, tags: list[str]) -> Case:
    series = [{"seriesUid": series_uid, "partialVolumeDescriptor": volume}]
    return create_case(user=user, project_id=PROJECT, series=series, tags=tags)


def _labelled_case(user: User, phantom: Phantom, volume: PartialVolume, tags: list[str]) -> None:
    case = _case(user, phantom.series_uid, volume, tags)
    labels = list(_organ_labels(user, phantom, volume))
    append_revision(
        user=user,
        case_id=case.case_id,
        description="Organs of the phantom.",
        attributes={"quality": "good"},
        status="approved",
        series=[{"seriesUid": phantom.series_uid, "partialVolumeDescriptor": volume, "labels": labels}],
    )


def _organ_labels(user: User, phantom: Phantom, volume: PartialVolume) -> Iterator[dict[str, Any]]:
    """A voxel label for each organ, boxed, in the axes of the partial volume."""
    slices = [number - 1 for number in volume.numbers()]
    for (name, mask), color in zip(phantom.organs.items(), COLORS, strict=False):
        mask = mask[slices]
        inside = np.argwhere(mask)
        low, high = inside.min(axis=0), inside.max(axis=0) + 1
        data = label_bits.pack(mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]])
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        store_blob(user=user, sha1=sha1, data=data)
        yield {
            "name": name,
            "type": "voxel",
            "data": {
                "voxels": sha1,
                "origin": [int(value) for value in low[::-1]],
                "size": [int(value) for value in (high - low)[::-1]],
                "alpha": 0.6,
                "color": color,
            },
            "attributes": {},
        }
