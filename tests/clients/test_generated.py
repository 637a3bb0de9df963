"""Clients that generators make of docs/openapi.yaml compile, and make the README's calls.

And two linters find nothing in the document.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.processes.server import ServerProcess
from tests.tools import program

from .programs import NODE, PYTHON, ROOT, folder, run

pytestmark = pytest.mark.server

DOCUMENT = ROOT / "docs" / "openapi.yaml"
SCRIPTS = Path(__file__).with_name("generated")
# What each script prints at its end: the texts of the conversation that it had.
SAID = "hello | You said: hello (0 earlier messages) | again | You said: again (2 earlier messages)"
# Node wants the ends of names that its modules import.
HEY_API = f"""export default {{
    input: {str(DOCUMENT)!r},
    output: {{ path: "api", importFileExtension: ".js" }},
}};"""
TYPESCRIPT = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"]


def test_redocly_finds_nothing() -> None:
    with folder() as cwd:
        printed = run(str(NODE / "redocly"), "lint", str(DOCUMENT), "--format=json", cwd=cwd)
    assert '"totals": {\n    "errors": 0,\n    "warnings": 0' in printed, printed


def test_spectral_finds_nothing() -> None:
    with folder() as cwd:
        (cwd / ".spectral.yaml").write_text('extends: ["spectral:oas"]\n')
        printed = run(str(NODE / "spectral"), "lint", "--fail-severity=hint", str(DOCUMENT), cwd=cwd)
    assert "No results" in printed


def test_openapi_python_client(server: ServerProcess) -> None:
    with folder() as cwd:
        generate = [str(PYTHON / "openapi-python-client"), "generate", "--path", str(DOCUMENT), "--output-path", "api"]
        # It formats what it writes with the ruff beside it.
        path = f"{PYTHON}:{program('sh').rpartition('/')[0]}"
        # It knows no images, but may take them for bytes.
        kinds = (f"image/{name}" for name in ("png", "jpeg", "webp"))
        (cwd / "config.json").write_text(
            json.dumps({"content_type_overrides": dict.fromkeys(kinds, "application/octet-stream")})
        )
        run(*generate, "--meta=none", "--fail-on-warning", "--config=config.json", cwd=cwd, PATH=path)
        script = (SCRIPTS / "python_client.py").read_text()
        (cwd / "script.py").write_text(script)
        assert run(str(PYTHON / "python"), "script.py", server.url, cwd=cwd).strip() == SAID


@pytest.mark.parametrize(
    ("generator", "arguments", "script"),
    [
        ("openapi-typescript", [str(DOCUMENT), "--output", "api.d.ts"], "typescript_fetch.ts"),
        ("openapi-ts", ["--file", "hey-api.config.mjs"], "hey_api.ts"),
    ],
)
def test_typescript_clients(server: ServerProcess, generator: str, arguments: list[str], script: str) -> None:
    with folder() as cwd:
        (cwd / "package.json").write_text('{"type": "module"}')
        (cwd / "hey-api.config.mjs").write_text(HEY_API)
        (cwd / "script.ts").write_text((SCRIPTS / script).read_text())
        run(str(NODE / generator), *arguments, cwd=cwd)
        run(str(NODE / "tsc"), *TYPESCRIPT, "script.ts", cwd=cwd)
        assert run(program("node"), "script.js", server.url, cwd=cwd).strip() == SAID


def test_what_always_comes_is_no_optional_property() -> None:
    with folder() as cwd:
        run(str(NODE / "openapi-typescript"), str(DOCUMENT), "--output", "api.d.ts", cwd=cwd)
        (cwd / "check.ts").write_text(
            'import type { components } from "./api.js";\n'
            'type Message = components["schemas"]["Message"];\n'
            "export const content = (message: Message): string => message.content;\n"
            "export const ended = (message: Message): boolean => message.status === 'completed';\n"
            "// @ts-expect-error: no such status\n"
            "export const wrong = (message: Message): boolean => message.status === 'done';\n"
        )
        run(str(NODE / "tsc"), *TYPESCRIPT, "--noEmit", "check.ts", cwd=cwd)
