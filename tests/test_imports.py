"""Imports point one way: from wiring over edges to verbs, engine and models; and to models' servers by one door."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("chatproject", "conversations", "llmproviders")

# A module may import from its own layer and from those below it. The longest prefix of its name decides.
LAYERS: list[tuple[str, list[str]]] = [
    ("the project's wiring", ["chatproject"]),
    ("the app's wiring", ["conversations.urls", "conversations.apps", "conversations.management"]),
    ("edges", ["conversations.streaming", "conversations.admin", "conversations.terminal", "conversations.api"]),
    (
        "verbs",
        [
            "conversations.services",
            "conversations.configuration",
            "conversations.listing",
            "conversations.pruning",
            "conversations.seeding",
            "conversations.legacy",
            "conversations.keys",
            "conversations.checks",
            "conversations.quotas",
        ],
    ),
    (
        "the engine",
        [
            "conversations.generation",
            "conversations.titles",
            "conversations.budgets",
            "conversations.context",
            "conversations.completions",
            "conversations.db",
        ],
    ),
    (
        "who calls",
        [
            "conversations.credentials",
            "conversations.api_keys",
            "conversations.limits",
            "conversations.allowances",
            "conversations.signals",
        ],
    ),
    ("rows and events", ["conversations.generation.events", "conversations.models", "conversations.querysets"]),
    (
        "what all of them need",
        [
            "conversations.access",
            "conversations.compiled",
            "conversations.problems",
            "conversations.exceptions",
            "conversations.conf",
            "conversations.hosts",
        ],
    ),
]
# Edges do not import one another; a stream begins as an API call, so that one may.
SIDEWAYS = {("conversations.streaming", "conversations.api")}
# The door to llmproviders, and who may go past it: for the encrypted field, and for its form in admin.
DOOR = "conversations.completions"
PAST_THE_DOOR = {
    ("conversations.models", "llmproviders.fields"),
    ("conversations.admin", "llmproviders.fields"),
    ("conversations.admin", "llmproviders.key_admin"),
}
HTTP_CLIENTS = {"httpx", "httpx_aiohttp", "aiohttp", "httpcore", "requests", "urllib3", "openai"}


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


def part_of(name: str) -> tuple[int, str] | None:
    """The layer and the prefix that a dotted name of ours belongs to; None for the bare package."""
    matches = [
        (prefix, layer)
        for layer, (_title, prefixes) in enumerate(LAYERS)
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
    for _title, prefixes in LAYERS:
        for prefix in prefixes:
            assert any(within(module, prefix) for module in MODULES), f"{prefix} is gone"


def test_imports_never_point_upward() -> None:
    upward = []
    for module, name in crossings("chatproject", "conversations"):
        of_module, of_name = part_of(module), part_of(name)
        if of_module and of_name and of_name[0] < of_module[0]:
            upward.append(f"{module} ({LAYERS[of_module[0]][0]}) imports {name} ({LAYERS[of_name[0]][0]})")
    assert not upward, "\n".join(upward)


def test_edges_do_not_import_one_another() -> None:
    edges = next(prefixes for title, prefixes in LAYERS if title == "edges")
    sideways = []
    for module, name in crossings(*edges):
        of_module, of_name = part_of(module), part_of(name)
        assert of_module
        if not of_name or of_name[1] not in edges or of_name[1] == of_module[1]:
            continue
        if (of_module[1], of_name[1]) not in SIDEWAYS:
            sideways.append(f"{module} imports {name}")
    assert not sideways, "\n".join(sideways)


def test_one_door_leads_to_llmproviders() -> None:
    strangers = [
        f"{module} imports {name}"
        for module, name in crossings("conversations")
        if within(name, "llmproviders")
        and module != DOOR
        and not any(within(module, who) and within(name, what) for who, what in PAST_THE_DOOR)
    ]
    assert not strangers, "\n".join(strangers)


@pytest.mark.parametrize("stranger", ["conversations", "chatproject", "rest_framework", "channels", "drf_spectacular"])
def test_llmproviders_knows_nothing_of_who_uses_it(stranger: str) -> None:
    users = [module for module in MODULES if within(module, "llmproviders")]
    assert [module for module in users if any(within(name, stranger) for name in imports(module))] == []


def test_the_apps_know_nothing_of_the_project() -> None:
    apps = [module for module in MODULES if not within(module, "chatproject")]
    assert [module for module in apps if any(within(name, "chatproject") for name in imports(module))] == []


def test_one_module_knows_the_http_client_and_one_its_connections() -> None:
    users = {module for module in MODULES for name in imports(module) if name.split(".")[0] in HTTP_CLIENTS}
    assert users == {"llmproviders.http", "llmproviders.connector"}
    assert "httpx" not in imports("llmproviders.connector")


def test_types_and_exceptions_need_the_standard_library_only() -> None:
    for module in ("llmproviders.types", "llmproviders.exceptions"):
        assert {name.split(".")[0] for name in imports(module)} <= sys.stdlib_module_names


def test_the_decoder_does_no_io() -> None:
    forbidden = {"asyncio", "socket", "http", "urllib", "threading", *HTTP_CLIENTS}
    for module in ("llmproviders.sse", "llmproviders.text"):
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
