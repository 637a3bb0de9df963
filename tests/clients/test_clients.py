"""Each piece of docs/clients.md, run with the library it is for, against a server process and a cut connection."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.markdown import ROOT
from tests.ports import free_port
from tests.processes.server import ServerProcess, environment, manage
from tests.upstream import ScriptedUpstream, answer, run_upstream_in_thread

from .cutting import cutting
from .programs import run_node, run_python

pytestmark = pytest.mark.server

PAGE = ROOT / "docs" / "clients.md"
SERVER = "127.0.0.1:8000"
JS_END = "\nprocess.stdout.write(JSON.stringify(await ask(process.argv[2])));\nprocess.exit();\n"
PY_END = "\nimport sys\ntext, done = ask(sys.argv[1])\nprint(json.dumps({'text': text, 'done': done}))\n"
# What some libraries expect of a page, where there is none.
BROWSER = """
globalThis.window = globalThis;
globalThis.document = { addEventListener() {}, removeEventListener() {} };
globalThis.addEventListener = () => {};
"""
TEXT = ("one\u2028 ", "two\r\n ", "三 😀")
# What is in the first text that comes, where it is not ours.
THEIRS = {"AI SDK": b"text-delta", "@ag-ui/client": b"TEXT_MESSAGE_CONTENT"}
# What is asked first on the connection that is cut.
CUT = {
    "fetch": b"POST /chat",
    "@microsoft/fetch-event-source": b"POST /chat",
    "EventSource": b"GET /generations/",
    "event-source-polyfill": b"GET /generations/",
    "httpx-sse": b"POST /chat",
    "sseclient-py": b"POST /chat",
    "websockets": b"GET /ws/chat",
    "AI SDK": b"POST /api/chat",
    "@ag-ui/client": b"POST /api/agui",
}


def pieces() -> dict[str, tuple[str, str]]:
    """Heading -> language and code."""
    found = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        match = re.search(r"```(js|python)\n(.*?)```", section, re.DOTALL)
        if match:
            found[section.partition("\n")[0]] = (match[1], match[2])
    return found


def ask(client: str, server: str, message: str, folder: Path, tries: int = 60) -> dict[str, Any]:
    """Run the page's `ask` for a client, with ``server`` for the page's own; return what that returns."""
    language, code = pieces()[client]
    code = re.sub(r"\btries( ?= ?)60\b", rf"tries\g<1>{tries}", code.replace(SERVER, server))
    if language == "python":
        printed = run_python("import json\n" + code + PY_END, message, NO_PROXY="*")
    else:
        (folder / "browser.cjs").write_text(BROWSER)
        printed = run_node(code + JS_END, message, NODE_OPTIONS=f"--require {folder / 'browser.cjs'}")
    said: dict[str, Any] = json.loads(printed)
    return said


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with run_upstream_in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def process(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("clients")
    overrides = {"conversations": {"PING_INTERVAL": 0.1, "REQUIRE_LOGIN": False}}
    env = environment(
        folder,
        LLM_API_URL=upstream.url,
        LLM_MODEL="scripted",
        DJANGO_SETTINGS_MODULE="tests.reliability.settings",
        OVERRIDES=json.dumps(overrides),
    )
    manage(env, "migrate", "--verbosity=0")
    with ServerProcess("uvicorn", env, folder / "server.log") as server:
        yield server


def test_every_piece_of_the_page_is_run() -> None:
    assert pieces().keys() == CUT.keys()


@pytest.mark.parametrize("client", CUT)
def test_a_cut_answer_is_taken_up_exactly(
    process: ServerProcess, upstream: ScriptedUpstream, tmp_path: Path, client: str
) -> None:
    gate = f"cut-{client}"
    upstream.script = [answer(*TEXT, reasoning=["hm"], gate=gate, gate_at=2, delay=0.3)]  # pings come in between
    calls = upstream.calls
    text = THEIRS.get(client, b'"chunk"')
    with cutting(process.port, CUT[client], lambda: upstream.gate(gate).open(), text) as between:
        said = ask(client, f"127.0.0.1:{between.port}", "hi", tmp_path)
    assert said["text"] == "".join(TEXT)
    assert (said["done"]["done"], said["done"]["status"]) == (True, "completed")
    assert between.cuts == 1
    assert upstream.calls == calls + 1


@pytest.mark.parametrize("client", CUT)
def test_a_server_that_is_down_is_given_up(tmp_path: Path, client: str) -> None:
    with pytest.raises(AssertionError, match=r"(?i)refused|fetch failed|connect"):
        ask(client, f"127.0.0.1:{free_port()}", "hi", tmp_path, tries=2)


@pytest.mark.parametrize("client", CUT)
def test_a_refusal_ends_it(process: ServerProcess, upstream: ScriptedUpstream, tmp_path: Path, client: str) -> None:
    calls = upstream.calls
    with pytest.raises(AssertionError, match=r"request is not valid|400 "):
        ask(client, f"127.0.0.1:{process.port}", " ", tmp_path)
    assert upstream.calls == calls
