"""Which names the sources take from packages that never promised them, and what docs/upgrading.md says of them.

Two kinds can be found by looking: names that begin with an underscore, and whatever is used or overridden of a class
that is nobody's promise as a whole. Undocumented functions cannot be told from documented ones: they are only listed.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("chatproject", "conversations", "llmproviders")
PAGE = ROOT / "docs" / "upgrading.md"
_ROW = re.compile(r"^\| (`[^|]+`) \| ([^|]+) \|", re.MULTILINE)
_BY_NAME = ("getattr", "hasattr", "setattr", "delattr")
# What a class statement adds by itself, or Python calls.
_OF_PYTHON = re.compile(r"__\w+__")


@dataclass(frozen=True, slots=True)
class Name:
    """A name in the page, as ``module.Class.attribute``, and the files that use it, or only ``members`` of it."""

    path: str
    files: tuple[str, ...]
    members: tuple[str, ...] = ()

    @property
    def last(self) -> str:
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Use:
    """A name in our sources: where, and the class of ours whose attribute it is, if it is known."""

    file: str
    line: int
    name: str
    of: type | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.of.__qualname__ + '.' if self.of else ''}{self.name}"


@cache
def listed() -> tuple[Name, ...]:
    """The names in the page's tables. In a cell with several, those that begin with a dot are of the same class."""
    return tuple(name for cell, where in _ROW.findall(PAGE.read_text()) for name in _in_row(cell, where))


def _in_row(cell: str, where: str) -> Iterator[Name]:
    first, *members = re.findall(r"`([^`]+)`", cell)
    files = tuple(re.findall(r"`([^`]+)`", where))
    owner, _dot, last = first.rpartition(".")
    is_class = last[0].isupper()
    yield Name(first, files, tuple(members) if is_class else ())
    for member in members:
        yield Name((first if is_class else owner) + member, files)


@cache
def documented() -> frozenset[str]:
    """The names that begin with an underscore and are promised all the same."""
    line = next(line for line in PAGE.read_text().splitlines() if line.startswith("Documented in spite"))
    return frozenset(re.findall(r"`(_\w+)`", line))


def look(path: str) -> Any:
    """Return what a dotted path names; raise ``AttributeError`` where there is none.

    Of an attribute that only instances have it is enough that the class, or its module, assigns it.
    """
    parts = path.split(".")
    found: Any = import_module(parts[0])
    for number, part in enumerate(parts[1:], start=2):
        try:
            found = getattr(found, part)
        except AttributeError:
            if inspect.isclass(found) and part in assigned_in(found):
                return None
            if not isinstance(found, ModuleType):
                raise
            module = ".".join(parts[:number])
            try:
                found = import_module(module)
            except ImproperlyConfigured:  # the driver of a database that is not used here
                return _read(module, parts[number:])
            except ModuleNotFoundError:
                if part not in _stores(ast.parse(inspect.getsource(found))):
                    raise AttributeError(path) from None
                return None
    return found


def _read(module: str, names: list[str]) -> None:
    """Look for names in the source of a module that cannot be imported."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    node: ast.AST = ast.parse(Path(spec.origin).read_text())
    for number, name in enumerate(names):
        classes = {item.name: item for item in ast.iter_child_nodes(node) if isinstance(item, ast.ClassDef)}
        if name in classes:
            node = classes[name]
        elif number + 1 < len(names) or not isinstance(node, ast.ClassDef) or name not in _names_of(node):
            raise AttributeError(f"{module}.{'.'.join(names)}")


@cache
def assigned_in(owner: type) -> frozenset[str]:
    """The attributes that the methods of a class and of its bases assign, and those that it declares."""
    return frozenset(name for base in owner.__mro__ for name in _of_class(base))


@cache
def _of_class(owner: type) -> frozenset[str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError):  # written in C
        return frozenset()
    return frozenset(_stores(tree) | set(inspect.get_annotations(owner)) | set(vars(owner)))


def _stores(tree: ast.AST, *, on_self: bool = False) -> set[str]:
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    stored = [node for node in attributes if isinstance(node.ctx, ast.Store)]
    return {node.attr for node in stored if not on_self or _is_self(node.value)}


# Our sources ----------------------------------------------------------------------------------------------------


@cache
def sources() -> dict[str, Path]:
    """Our modules by their dotted names; migrations aside, and what is run as a script."""
    found = {}
    for path in (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "migrations" not in parts and parts[-1] not in ("__main__", "llama_server"):
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def is_ours(owner: Any) -> bool:
    return str(owner.__module__).partition(".")[0] in PACKAGES


def uses() -> Iterator[Use]:
    """Every name in our sources that another package may have meant for itself."""
    for module, path in sources().items():
        yield from _Finder(module, path).found()


class _Finder:
    def __init__(self, module: str, path: Path) -> None:
        self._file = str(path.relative_to(ROOT))
        self._tree = ast.parse(path.read_text())
        self._module = import_module(module)

    def found(self) -> Iterator[Use]:
        yield from self._in(self._tree, None)

    def _in(self, node: ast.AST, owner: type | None) -> Iterator[Use]:
        for child in ast.iter_child_nodes(node):
            inner = owner
            if isinstance(child, ast.ClassDef):
                inner = getattr(owner or self._module, child.name, None)
                yield from self._overridden(child, inner)
            elif isinstance(child, ast.ImportFrom | ast.Import):
                yield from self._imported(child)
            elif isinstance(child, ast.Attribute):
                yield from self._attribute(child, owner)
            elif isinstance(child, ast.Call):
                yield from self._by_name(child)
            yield from self._in(child, inner)

    def _use(self, node: ast.AST, name: str, of: type | None = None) -> Use:
        return Use(self._file, getattr(node, "lineno", 0), name, of)

    def _overridden(self, node: ast.ClassDef, owner: type | None) -> Iterator[Use]:
        for name in _names_of(node):
            if owner is not None and any(name in _of_class(base) for base in foreign_bases(owner)):
                yield self._use(node, name, owner)

    def _imported(self, node: ast.ImportFrom | ast.Import) -> Iterator[Use]:
        base = (getattr(node, "module", None) or "") if isinstance(node, ast.ImportFrom) else ""
        if getattr(node, "level", 0) or base.partition(".")[0] in PACKAGES:
            return
        for alias in node.names:
            if any(is_private(part) for part in [*base.split("."), *alias.name.split(".")]) and base != "__future__":
                yield self._use(node, alias.name)

    def _attribute(self, node: ast.Attribute, owner: type | None) -> Iterator[Use]:
        if owner is not None and _is_self(node.value):
            inherited = any(node.attr in _of_class(base) for base in foreign_bases(owner))
            ours = any(node.attr in _of_class(base) for base in owner.__mro__ if is_ours(base))
            if inherited or (is_private(node.attr) and not ours):
                yield self._use(node, node.attr, owner)
        elif is_private(node.attr) and not self._is_ours(node.value):
            yield self._use(node, node.attr)

    def _by_name(self, node: ast.Call) -> Iterator[Use]:
        if isinstance(node.func, ast.Name) and node.func.id in _BY_NAME and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield self._use(node, str(name.value))

    def _is_ours(self, node: ast.expr) -> bool:
        """Whether this is a class or a module of ours, by its name."""
        found = getattr(self._module, node.id, None) if isinstance(node, ast.Name) else None
        return (inspect.isclass(found) and is_ours(found)) or getattr(found, "__name__", "") in sources()


def _names_of(node: ast.ClassDef) -> set[str]:
    """What a class defines, in its body and on its instances."""
    names = {item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}
    for item in node.body:
        targets = getattr(item, "targets", [getattr(item, "target", None)])
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names | _stores(node, on_self=True)


def _is_self(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def is_private(name: str) -> bool:
    return name.startswith("_") and not _OF_PYTHON.fullmatch(name) and name != "_"


@cache
def foreign_bases(owner: type) -> tuple[type, ...]:
    """The classes above one of ours that are of other packages; Python's own make no promise less."""
    return tuple(
        base
        for base in owner.__mro__
        if not is_ours(base) and base.__module__.partition(".")[0] not in sys.stdlib_module_names
    )
