"""Imports point one way, from room to room; and one module leads to llmproviders."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("chatproject", "conversations", "llmproviders")

# The rooms of the house, from the roof down: a module may import from its own and from those below it.
LAYERS: list[tuple[str, list[str]]] = [
    ("the project", ["chatproject"]),
    (
        "the app's wiring",
        ["conversations.asgi", "conversations.urls", "conversations.apps", "conversations.management"],
    ),
    (
        "doors",
        [
            "conversations.agui",
            "conversations.aisdk",
            "conversations.openai",
            "conversations.pages",
            "conversations.rest",
            "conversations.socket",
            "conversations.admin",
            "conversations.checks",
        ],
    ),
    ("what doors share", ["conversations.web"]),
    ("verbs", ["conversations.services"]),
    ("the engine", ["conversations.engine"]),
    ("what is found", ["conversations.search"]),
    ("images, and files", ["conversations.files"]),
    ("how much", ["conversations.limits"]),
    ("who calls", ["conversations.access"]),
    ("rows", ["conversations.models"]),
    ("threads and statements", ["conversations.database"]),
    ("the ground", ["conversations.conf", "conversations.exceptions"]),
]
# The same of llmproviders; what no layer names is the ground.
PROVIDER_LAYERS: list[tuple[str, list[str]]] = [
    (
        "the app",
        [
            "llmproviders.admin",
            "llmproviders.apps",
            "llmproviders.catalog",
            "llmproviders.checks",
            "llmproviders.key_admin",
            "llmproviders.management",
            "llmproviders.models",
            "llmproviders.validators",
        ],
    ),
    ("wire formats", ["llmproviders.backends"]),
    ("connections, and what comes over them", ["llmproviders.answer", "llmproviders.net"]),
    ("the ground", ["llmproviders"]),
]
# The one way to llmproviders, and who may go beside it: for the encrypted field, its form in admin, and for what the
# checks of both apps' settings share.
TO_PROVIDERS = "conversations.engine.completions"
BESIDE_IT = {
    ("conversations.models", "llmproviders.fields"),
    ("conversations.admin", "llmproviders.fields"),
    ("conversations.admin", "llmproviders.key_admin"),
    ("conversations.checks", "llmproviders.settings_dict"),
}
HTTP_CLIENTS = {"httptools", "httpx", "aiohttp", "httpcore", "requests", "urllib3", "openai"}
CONNECTIONS = {f"llmproviders.net.{name}" for name in ("exchange", "http", "pool")}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name; migrations aside."""
    found = {}
    for path in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "migrations" not in parts:
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, anywhere in it, as dotted names: of ``from a import b`` it is ``a.b``."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(_imported(ast.parse(path.read_text()), package))


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def part_of(name: str, layers: list[tuple[str, list[str]]] = LAYERS) -> tuple[int, str] | None:
    """The layer and the prefix that a dotted name of ours belongs to; None for the bare package."""
    matches = [
        (prefix, layer)
        for layer, (_title, prefixes) in enumerate(layers)
        for prefix in prefixes
        if within(name, prefix)
    ]
    prefix, layer = max(matches, key=lambda match: len(match[0]), default=("", -1))
    return (layer, prefix) if prefix else None


def crossings(*packages: str) -> Iterator[tuple[str, str]]:
    """Each import of one of our modules, as (importer, imported)."""
    for module in MODULES:
        if any(within(module, package) for package in packages):
            for name in sorted(imports(module)):
                if any(within(name, package) for package in PACKAGES):
                    yield module, name


def test_the_imports_are_found() -> None:
    """Absolute and relative, of modules and of names, at the top and inside of functions."""
    tree = ast.parse("import a.b\nfrom c import d\ndef f():\n    from . import e\n    from ..g import h as i")
    assert list(_imported(tree, "x.y")) == ["a.b", "c.d", "x.y.e", "x.g.h"]
    assert "conversations.models.Conversation" in imports("conversations.services.conversations")
    assert len(MODULES) > 50


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if name.startswith(("chatproject", "conversations.")))
)
def test_every_module_has_a_layer(module: str) -> None:
    assert part_of(module), f"say in LAYERS where {module} belongs"


def test_every_layer_has_modules() -> None:
    for _title, prefixes in [*LAYERS, *PROVIDER_LAYERS]:
        for prefix in prefixes:
            assert any(within(module, prefix) for module in MODULES), f"{prefix} is gone"


@pytest.mark.parametrize(
    ("packages", "layers"),
    [(("chatproject", "conversations"), LAYERS), (("llmproviders",), PROVIDER_LAYERS)],
    ids=["conversations", "llmproviders"],
)
def test_imports_never_point_upward(packages: tuple[str, ...], layers: list[tuple[str, list[str]]]) -> None:
    upward = []
    for module, name in crossings(*packages):
        of_module, of_name = part_of(module, layers), part_of(name, layers)
        if of_module and of_name and of_name[0] < of_module[0]:
            upward.append(f"{module} ({layers[of_module[0]][0]}) imports {name} ({layers[of_name[0]][0]})")
    assert not upward, "\n".join(upward)


def test_doors_do_not_import_one_another() -> None:
    doors = next(prefixes for title, prefixes in LAYERS if title == "doors")
    sideways = []
    for module, name in crossings(*doors):
        of_module, of_name = part_of(module), part_of(name)
        if of_module and of_name and of_name[1] in doors and of_name[1] != of_module[1]:
            sideways.append(f"{module} imports {name}")
    assert not sideways, "\n".join(sideways)


def test_one_module_leads_to_llmproviders() -> None:
    strangers = [
        f"{module} imports {name}"
        for module, name in crossings("conversations")
        if within(name, "llmproviders")
        and module != TO_PROVIDERS
        and not any(within(module, who) and within(name, what) for who, what in BESIDE_IT)
    ]
    assert not strangers, "\n".join(strangers)


@pytest.mark.parametrize("stranger", ["conversations", "chatproject", "rest_framework", "channels", "drf_spectacular"])
def test_llmproviders_knows_nothing_of_who_uses_it(stranger: str) -> None:
    users = [module for module in MODULES if within(module, "llmproviders")]
    assert [module for module in users if any(within(name, stranger) for name in imports(module))] == []


def test_the_apps_know_nothing_of_the_project() -> None:
    apps = [module for module in MODULES if not within(module, "chatproject")]
    assert [module for module in apps if any(within(name, "chatproject") for name in imports(module))] == []


def test_what_speaks_http_to_models_is_in_one_room() -> None:
    """And the server's own parser, which is no client, in one module."""
    users = {module for module in MODULES for name in imports(module) if name.split(".")[0] in HTTP_CLIENTS}
    assert users == CONNECTIONS | {"chatproject.protocol"}
    parsers = [module for module in sorted(users) if any(within(name, "httptools") for name in imports(module))]
    assert parsers == ["chatproject.protocol", "llmproviders.net.exchange"]


def test_connections_and_the_reading_of_answers_know_nothing_of_each_other() -> None:
    for room, other in (("llmproviders.net", "llmproviders.answer"), ("llmproviders.answer", "llmproviders.net")):
        assert not [name for module, name in crossings(room) if within(name, other)]


def test_types_and_exceptions_need_the_standard_library_only() -> None:
    for module in ("llmproviders.types", "llmproviders.exceptions"):
        others = {name for name in imports(module) if not within(name, "llmproviders.types")}
        assert {name.split(".")[0] for name in others} <= sys.stdlib_module_names


def test_the_decoder_does_no_io() -> None:
    forbidden = {"asyncio", "socket", "http", "urllib", "threading", *HTTP_CLIENTS}
    readers = [module for module in MODULES if within(module, "llmproviders.answer")]
    assert len(readers) > 1
    for module in ("llmproviders.sse", "llmproviders.text", *readers):
        assert not {name.split(".")[0] for name in imports(module)} & forbidden


def test_each_backend_is_named_in_its_own_file_and_in_the_settings_only() -> None:
    """A backend may build on another; everybody else asks the registry."""
    importers = {
        module
        for module in MODULES
        for name in imports(module)
        if within(name, "llmproviders.backends") and name != module
    }
    assert {module for module in importers if not within(module, "llmproviders.backends")} == set()


@pytest.mark.parametrize("module", ["chatproject.server", "chatproject.protocol", "conversations.database.db"])
def test_what_servers_load_before_the_settings_needs_none(module: str) -> None:
    """Worker classes name them by their path, and are imported before the application is."""
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environ, cwd=ROOT, check=True, timeout=60)
