"""Rules of the house: which way imports run, what is plain Python, what no file may say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from cases.provisioning import provision
from casestore.accounts.models import User
from casestore.embedded.places import ROOT

PACKAGES = ("casestore", "cases", "exports", "mylists")
# package -> the packages of ours that it may import. `casestore.urls` alone knows all apps.
MAY_IMPORT = {
    "casestore": {"casestore"},
    "cases": {"casestore", "cases"},
    "mylists": {"casestore", "cases", "mylists"},
    "exports": {"casestore", "cases", "exports"},
}
EVERYTHING = {"casestore/urls.py"}
PLAIN = [
    "cases.deflate",
    "cases.dicom.files",
    "cases.dicom.reader",
    "cases.geometry",
    "cases.image_numbers",
    "cases.label_bits",
    "cases.label_colors",
    "cases.label_dictionary",
    "cases.slices",
    "cases.demo.phantom",
    "casestore.clock",
    "casestore.dumps.files",
    "casestore.dumps.extended_json",
    "casestore.embedded",
    "casestore.errors",
    "casestore.ids",
    "casestore.search.description",
    "casestore.search.grammar",
    "casestore.search.keys",
    "casestore.search.regex",
    "casestore.search.values",
    "casestore.supervisor",
    "casestore.tasks.ranges",
    "exports.archives",
    "exports.dicom_sources",
    "exports.folders",
    "exports.label_values",
    "exports.mhd",
    "exports.nifti_header",
    "exports.painting",
    "exports.seg_dicom",
    "exports.seg_nrrd",
    "exports.segments",
    "exports.shapes",
]


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def tracked() -> list[Path]:
    """The project's files: what git has, or would have."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def test_imports_run_one_way() -> None:
    for path in sources():
        name = str(path.relative_to(ROOT))
        if name in EVERYTHING:
            continue
        ours = {module.split(".")[0] for module in imports(path)} & set(PACKAGES)
        assert ours <= MAY_IMPORT[name.split("/", maxsplit=1)[0]], name


@pytest.mark.parametrize("module", PLAIN)
def test_plain_modules_import_no_django(module: str) -> None:

    code = f"import {module}, sys; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_views_have_no_door_of_their_own() -> None:
    """A view that writes `Model.objects` without the user's scope has a hole in it."""
    doors = re.compile(r"\.objects\b(?!\.(visible_to|in_bin|get_for|none)\()|_default_manager|\.raw\(|\.extra\(")
    for path in [*ROOT.glob("*/views.py"), *ROOT.glob("*/views/*.py"), *ROOT.glob("casestore/*/views.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not doors.search(line), f"{path}:{number}: {line.strip()}"


def test_files_stay_readable() -> None:
    for path in sources():
        if "migrations" not in path.parts:
            assert len(path.read_text().splitlines()) <= 400, path


def test_nothing_names_this_machine_or_a_registry() -> None:
    hosts = re.compile(
        rb"(?:pypi|pythonhosted|npmjs|debian)\.(?:org|com)|(?<![\w.])/(?:work|root|opt)/\w", re.IGNORECASE
    )
    for path in tracked():
        if path != Path(__file__) and path.suffix != ".png":
            found = hosts.search(path.read_bytes())
            assert not found, f"{path}: {found and found[0]!r}"


def test_locks_have_hashes_for_everything() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / "docker" / name).read_text()
        assert "--index-url" not in text
        assert "--find-links" not in text
        pinned = re.findall(
            r"^([a-z0-9][^\s=\[]*)(?:\[[^\]]*\])?==\S+(.*?)(?=^[a-z0-9]|\Z)", text, re.MULTILINE | re.DOTALL
        )
        assert len(pinned) > 20
        assert all("--hash=sha256:" in rest for _, rest in pinned)


@pytest.mark.django_db(transaction=True)
def test_migrations_go_back_and_forth() -> None:
    for app in ("cases", "tasks", "accounts"):
        for migration in sorted(
            path.stem for path in ROOT.glob(f"**/{app}/migrations/0*.py") if ".venv" not in str(path)
        ):
            assert not re.fullmatch(r"\d+_auto.*", migration), migration
    try:
        call_command("migrate", "cases", "zero", verbosity=0)
        tables = set(connection.introspection.table_names())
        assert not {table for table in tables if table.startswith("cases_")}
    finally:
        call_command("migrate", verbosity=0)
    executor = MigrationExecutor(connection)
    assert not executor.migration_plan(executor.loader.graph.leaf_nodes())


def test_the_readmes_installation_can_be_declared(db: None) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for _ in range(2):
        provision(yaml.safe_load(block))
    bob = User.objects.get(login_id="bob")
    assert bob.domains == {"vega.example"} or list(bob.domains) == ["vega.example"]
    assert bob.has_privilege("downloadVolume")
    assert bob.check_password("change me soon")


def test_the_readme_names_every_setting() -> None:
    text = (ROOT / "README.md").read_text()
    used = set()
    for path in sources():
        used |= set(re.findall(r'environment\.\w+\(\s*"([A-Z_]+)"|environ\.get\("([A-Z_]+)"\)', path.read_text()))
    names = {name for pair in used for name in pair if name} - {"PATH", "DJANGO_SETTINGS_MODULE"}
    assert len(names) > 10
    for name in names:
        assert name in text, name
