"""docs/upgrading.md names all that another version of a library may take away, and none of it is gone."""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from . import borrowed_names
from .borrowed_names import PAGE, ROOT, Name, Use, documented, foreign_bases, is_private, listed, look, uses


@pytest.mark.parametrize("name", listed(), ids=lambda name: name.path)
def test_a_name_of_another_package_is_still_there(name: Name) -> None:
    try:
        look(name.path)
    except (AttributeError, ImportError) as error:
        pytest.fail(f"{name.path} is gone ({error}): see its row in {PAGE.relative_to(ROOT)}")


@pytest.mark.parametrize("name", listed(), ids=lambda name: name.path)
def test_a_listed_name_is_used_where_the_page_says(name: Name) -> None:
    assert name.files
    for file in name.files:
        assert (ROOT / file).is_file(), f"{name.path}: there is no {file}"
    text = "".join((ROOT / file).read_text() for file in name.files)
    assert name.members or re.search(rf"\b{name.last}\b", text), f"{name.path} is used no more"


def test_the_page_lists_each_name_once() -> None:
    paths = [name.path for name in listed()]
    assert len(paths) > 80
    assert sorted(paths) == sorted(set(paths))


def of_the_class(use: Use) -> list[Name]:
    """The rows for an attribute of a class: those that name it of one of the classes above."""
    assert use.of is not None
    bases = foreign_bases(use.of)
    return [name for name in listed() if name.last == use.name and look(name.path.rpartition(".")[0]) in bases]


def is_listed(use: Use) -> bool:
    """Whether a row names it, with the file; what is documented after all needs none."""
    if use.name in documented():
        return True
    rows = of_the_class(use) if use.of else listed()
    return any(use.name == name.last and use.file in name.files for name in rows)


def promises_nothing(owner: type) -> bool:
    """Whether a class above is in the page itself, so that every name of it is borrowed."""
    return any(base in undocumented() for base in foreign_bases(owner))


@cache
def undocumented() -> frozenset[type]:
    return frozenset(found for found in (look(name.path) for name in listed()) if inspect.isclass(found))


@cache
def ours() -> tuple[Use, ...]:
    return tuple(uses())


def test_every_private_name_of_another_package_is_listed() -> None:
    missing = [str(use) for use in ours() if is_private(use.name) and not is_listed(use)]
    assert not missing, "add to docs/upgrading.md, with the file:\n" + "\n".join(missing)


def test_of_a_class_that_nobody_documents_every_name_is_listed() -> None:
    borrowed = (use for use in ours() if use.of and use.name != "__init__" and promises_nothing(use.of))
    missing = [str(use) for use in borrowed if not is_listed(use)]
    assert not missing, "add to docs/upgrading.md, with the file:\n" + "\n".join(missing)


def test_what_needs_a_driver_that_is_not_installed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh clone there is no driver but SQLite's, and the names are looked for all the same."""
    source = "from django.core.exceptions import ImproperlyConfigured\nraise ImproperlyConfigured\n"
    (tmp_path / "driven").mkdir()
    (tmp_path / "driven" / "__init__.py").touch()
    (tmp_path / "driven" / "base.py").write_text(source + "class Wrapper:\n    def _there(self): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    look("driven.base.Wrapper")
    look("driven.base.Wrapper._there")
    for gone in ("driven.base.Gone", "driven.base.Wrapper._gone", "driven.base.Wrapper._there._gone"):
        with pytest.raises(AttributeError, match=gone):
            look(gone)


LENDER = """
def _function(): ...
class Lender:
    _declared = 1
    def __init__(self): self._assigned = 2
    def _method(self): ...
"""
BORROWER = """
import lender
from lender import Lender, _function
class Borrower(Lender):
    _own = 1
    def _declared(self): ...
    def use(self, other):
        self._own, self._assigned, self._nowhere, super()._method()
        return other._own, Borrower._own, Lender._method, getattr(other, "_asked_for"), lender._function
"""


def test_private_names_are_found_however_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported, overridden, inherited, taken from something else, or asked for by their name."""
    (tmp_path / "lender.py").write_text(LENDER)
    (tmp_path / "borrower.py").write_text(BORROWER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(borrowed_names, "ROOT", tmp_path)
    monkeypatch.setattr(borrowed_names, "PACKAGES", ("borrower",))
    monkeypatch.setattr(borrowed_names, "sources", lambda: {"borrower": tmp_path / "borrower.py"})
    found = [(use.name, use.of.__name__ if use.of else "") for use in uses() if is_private(use.name)]
    assert found == [
        ("_function", ""),
        ("_declared", "Borrower"),
        ("_assigned", "Borrower"),
        ("_nowhere", "Borrower"),
        ("_method", "Borrower"),
        ("_own", ""),
        ("_method", ""),
        ("_asked_for", ""),
        ("_function", ""),
    ]
