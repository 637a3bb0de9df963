"""What other people's code the chat page loads: nothing but what the manifest says, as it was made."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
VENDOR = ROOT / "conversations" / "static" / "conversations" / "vendor"
PINS = ROOT / "requirements" / "vendor"
MANIFEST: dict[str, list[dict[str, Any]]] = json.loads((VENDOR / "manifest.json").read_text())
ENTRIES = [*MANIFEST["files"], *MANIFEST["packages"]]


def test_each_file_is_in_the_manifest_and_nothing_else_lies_there() -> None:
    found = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()}
    assert found == {entry["file"] for entry in ENTRIES} | {"manifest.json"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
def test_each_file_is_as_it_was_made(entry: dict[str, Any]) -> None:
    assert hashlib.sha256((VENDOR / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


def test_each_package_has_its_licence_and_the_version_that_is_pinned() -> None:
    locked = json.loads((PINS / "package-lock.json").read_text())["packages"]
    for package in MANIFEST["packages"]:
        assert locked[f"node_modules/{package['name']}"]["version"] == package["version"]
        assert package["licence"]
        assert (
            "Copyright" in (VENDOR / package["file"]).read_text()
            or "Apache License" in (VENDOR / package["file"]).read_text()
        )
    named = {name for entry in MANIFEST["files"] for name in entry["packages"]}
    assert named == {package["name"] for package in MANIFEST["packages"]}


def test_each_package_is_pinned_exactly_and_by_its_hash() -> None:
    wanted = json.loads((PINS / "package.json").read_text())
    for version in {**wanted["dependencies"], **wanted["devDependencies"]}.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    locked = json.loads((PINS / "package-lock.json").read_text())["packages"]
    assert all(name == "" or entry["integrity"] for name, entry in locked.items())


@pytest.mark.parametrize("module", sorted(VENDOR.glob("*.js")), ids=lambda path: path.name)
def test_a_module_stands_alone_and_needs_no_eval(module: Path) -> None:
    text = module.read_text()
    assert re.search(r"\bexport\s*\{", text)
    assert not re.search(r"(?:^|[;}])import[\s{*\"']", text)
    assert not re.search(r"\beval\s*\(|\bnew\s+Function\b", text)
