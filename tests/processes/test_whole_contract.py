"""Real server processes, as users start them, through the whole contract with the embedded model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests import databases
from tests.conversations.helpers import chat, stream, streaming
from tests.upstream import answer, run_upstream_in_thread

from .server import ServerProcess, environment

pytestmark = [pytest.mark.server, pytest.mark.local_model]


@pytest.fixture(params=["uvicorn", "daphne"])
def process(request: pytest.FixtureRequest, migrated: Path, tmp_path: Path) -> Any:
    databases.copy(migrated, tmp_path)
    with ServerProcess(request.param, environment(tmp_path), tmp_path / "server.log") as server:
        yield server


def test_the_whole_contract_with_the_embedded_model(process: ServerProcess) -> None:
    with process.client() as client:
        assert client.get("/api/health/ready").json() == {"status": "ok"}
        config = client.get("/api/config").json()
        assert (config["current_model_type"], config["llm_api_key"]) == ("local", "")

        session_id = client.post("/conversations", json={"title": "Colours"}).json()["session_id"]
        # A long answer: deltas that come together are one chunk, so that a short one may be two chunks.
        asked = {"message": "Tell a long story about the colours of the sky.", "session_id": session_id}
        answer = stream(client, "POST", "/chat", json=asked | {"max_tokens": 100, "temperature": 0})
        assert answer.done["status"] == "completed"
        assert len(answer.ids) > 3, "the text arrives in pieces"

        history = client.get(f"/conversations/{session_id}/history").json()["messages"]
        assert [message["role"] for message in history] == ["user", "assistant"]
        assert history[1]["content"] == answer.text
        assert history[1]["usage"] == answer.done["usage"]

        rest = stream(
            client,
            "GET",
            f"/generations/{answer.done['generation_id']}/stream",
            headers={"Last-Event-ID": answer.ids[2]},
        )
        assert answer.text.endswith(rest.text)
        assert len(rest.text) == len(answer.text) - int(answer.ids[2].split(":")[1])

        again = stream(client, "POST", f"/messages/{history[1]['id']}/regenerate", json={"max_tokens": 5})
        assert again.done["status"] == "completed"
        assert client.patch(f"/conversations/{session_id}", json={"title": "Hues"}).json()["title"] == "Hues"

        over_socket = _over_websocket(process, session_id)
        assert over_socket[0]["type"] == "accepted"
        assert over_socket[-1]["status"] == "completed"

        listed = client.get("/conversations").json()["conversations"]
        assert [(item["title"], item["message_count"]) for item in listed] == [("Hues", 4)]
        assert client.delete(f"/conversations/{session_id}").status_code == 200
        assert client.get("/conversations").json()["conversations"] == []
        assert "openapi" in client.get("/schema").text
        assert client.get("/docs").status_code == 200
        assert client.get("/").status_code == 200
        assert client.get("/admin/login/").status_code == 200


def _over_websocket(process: ServerProcess, session_id: str) -> list[dict[str, Any]]:
    with connect(process.ws_url, proxy=None) as socket:
        frame = {"type": "chat", "id": "1", "session_id": session_id, "message": "And another?", "max_tokens": 20}
        socket.send(json.dumps(frame))
        frames: list[dict[str, Any]] = []
        while not frames or "done" not in frames[-1]:
            frames.append(json.loads(socket.recv(timeout=60)))
        return frames


def test_a_second_turn_reaches_the_model_with_the_first(process: ServerProcess) -> None:
    """The embedded model counts the tokens of what it saw: the second prompt holds the first turn."""
    with process.client() as client:
        first = chat(client, "Hello! My name is Ada.", max_tokens=20).done
        second = chat(client, "What did I say?", session_id=first["session_id"], max_tokens=5).done
    assert second["usage"]["prompt_tokens"] > first["usage"]["total_tokens"]


@pytest.mark.parametrize("kind", ["uvicorn", "daphne"])
def test_an_answer_can_be_resumed_after_a_kill_and_a_restart(kind: str, migrated: Path, tmp_path: Path) -> None:
    databases.copy(migrated, tmp_path)
    log = tmp_path / "server.log"
    with run_upstream_in_thread() as upstream:
        upstream.script = [answer("one ", "two ", "three ", gate="never", gate_at=3)]
        env = environment(tmp_path, LLM_API_URL=upstream.url, LLM_MODEL="scripted")
        with ServerProcess(kind, env, log) as killed, killed.client() as client:
            with streaming(client, "POST", "/chat", json={"message": "Count."}) as (seen, blocks):
                while seen.text != "one two three ":
                    next(blocks)
                killed.kill()
            generation_id, first = seen.headers["x-generation-id"], seen.ids[0]
        with ServerProcess(kind, env, log, port=killed.port) as restarted, restarted.client() as client:
            path = f"/generations/{generation_id}/stream"
            rest = stream(client, "GET", path, headers={"Last-Event-ID": first})
            assert rest.done["status"] == "interrupted"
            position = int(first.split(":")[1])
            assert rest.text == seen.text[position:]
            history = client.get(f"/conversations/{seen.headers['x-session-id']}/history").json()["messages"]
            assert history[1]["content"] == seen.text
            assert chat(client, "Go on.", session_id=rest.done["session_id"]).done["status"] == "completed"
