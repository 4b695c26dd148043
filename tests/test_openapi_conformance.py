"""Whatever the description allows, and much that it does not, sent to a live server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from casestore.embedded.places import ROOT
from casestore.tasks.models import Task
from mylists.models import MyList
from tests.world import DOMAIN, PATIENT, PROJECT, make_world

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "5")


@pytest.mark.django_db(transaction=True)
def test_no_answer_is_an_error_of_ours_or_outside_the_description(
    live_server: Any, tmp_path: Path, settings: Any
) -> None:
    # An event stream ends when it has told what there is.
    settings.CASESTORE_REPORT_SECONDS = 0
    world = make_world()
    world.series(**PATIENT)
    case, task = world.case(), Task.objects.create(owner=world.user("everything"), name="t")
    my_list = MyList.objects.create(owner=world.user("everything"), name="l", resource_type="clinicalCases")
    values = {
        "case_id": case.case_id,
        "series_uid": "1.2.3",
        "list_id": my_list.list_id,
        "project_id": PROJECT,
        "task_id": task.task_id,
        "domain": DOMAIN,
    }
    lines = [f'"path.{name}" = "{value}"' for name, value in values.items()]
    # Filters are tested elsewhere; to cover their grammar systematically would take longer than all the rest.
    filters = ["[[operations]]", 'include-name = "POST /api/cases/search"', "phases.coverage.enabled = false"]
    (tmp_path / "schemathesis.toml").write_text("\n".join(["[parameters]", *lines, *filters]))
    command = [
        str(Path(sys.executable).with_name("st")),
        "run",
        f"{live_server.url}/api/schema?format=json",
        f"--header=Authorization: Bearer {world.tokens['everything']}",
        f"--checks={','.join(CHECKS)}",
        "--phases=examples,coverage,fuzzing",
        f"--max-examples={EXAMPLES}",
        "--seed=1",
        "--no-color",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--continue-on-failure",
        "--request-timeout=30",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = re.sub(r"cst_\S+", "…", done.stdout + done.stderr)
    assert done.returncode == 0, told[-6000:]
    assert (ROOT / "casestore/api/openapi.yaml").exists()
