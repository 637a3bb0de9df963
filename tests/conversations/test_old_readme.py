"""The ten calls of the old FastAPI service's README: same paths, same bodies, same keys in the answers."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.docs.markdown import READMES, blocks
from tests.upstream import ScriptedUpstream, answer


def test_the_ten_calls_of_the_old_readme(client: httpx.Client, model: ScriptedUpstream) -> None:
    # 1. Is it up?
    assert client.get("/api/health").json()["status"] == "ok"

    # 2. Create a conversation, with no body at all.
    created = client.post("/conversations")
    assert created.status_code == 201
    assert created.json().keys() == {"session_id", "message"}
    session_id = created.json()["session_id"]

    # 3. Chat, not streamed.
    body = {"user_id": "user_001", "session_id": session_id, "message": "你好", "stream": False}
    reply = client.post("/chat", json=body).json()
    assert {"session_id", "user_message", "assistant_reply"} <= reply.keys()
    assert (reply["session_id"], reply["user_message"]) == (session_id, "你好")
    assert reply["assistant_reply"] == "You said: 你好 (0 earlier messages)"

    # 4. Chat, streamed: parsed as the simple clients of the old service do.
    body |= {"message": "再说一次", "stream": True, "temperature": 0.7, "max_tokens": 2000}
    with client.stream("POST", "/chat", json=body) as response:
        data = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    assert "".join(event.get("chunk", "") for event in data) == "You said: 再说一次 (2 earlier messages)"
    assert data[-1]["done"] is True

    # 5. The history.
    history = client.get(f"/conversations/{session_id}/history").json()
    assert history["session_id"] == session_id
    assert [(message["role"], message["content"]) for message in history["messages"]][:2] == [
        ("user", "你好"),
        ("assistant", "You said: 你好 (0 earlier messages)"),
    ]

    # 6. The list.
    listed = client.get("/conversations").json()["conversations"]
    assert {"session_id", "title", "created_at", "updated_at", "message_count"} <= listed[0].keys()
    assert (listed[0]["session_id"], listed[0]["message_count"]) == (session_id, 4)

    # 7. The configuration.
    config = client.get("/api/config", params={"user_id": "user_001"}).json()
    keys = {"llm_api_url", "llm_model", "llm_api_key", "preset_models", "current_model_type", "max_tokens"}
    assert keys <= config.keys()

    # 8. Choose a preset.
    chosen = client.post("/api/config", json={"user_id": "user_001", "model_type": "codegeex", "max_tokens": 4000})
    assert (chosen.json()["current_model_type"], chosen.json()["max_tokens"]) == ("codegeex", 4000)
    assert chosen.json()["llm_model"] == "codegeex4-all-9b"

    # 9. A model of one's own.
    custom = {
        "user_id": "user_001",
        "model_type": "custom",
        "custom_api_url": model.url,
        "custom_model": "my-model",
        "custom_api_key": "sk-my-own-key-1234",
    }
    assert client.post("/api/config", json=custom).json()["llm_model"] == "my-model"
    body = {"user_id": "user_001", "session_id": session_id, "message": "hi", "stream": False}
    assert client.post("/chat", json=body).status_code == 200
    assert model.requests[-1].body["model"] == "my-model"
    assert model.requests[-1].headers["authorization"] == "Bearer sk-my-own-key-1234"

    # 10. Delete.
    deleted = client.delete(f"/conversations/{session_id}")
    assert deleted.status_code == 200
    assert "message" in deleted.json()
    assert client.get(f"/conversations/{session_id}/history").status_code == 404


@pytest.mark.parametrize("language", READMES)
def test_the_readmes_loop_for_old_clients_meets_every_event(
    client: httpx.Client, model: ScriptedUpstream, language: str
) -> None:
    (loop,) = [block.text for block in blocks(READMES[language], "python") if 'event["chunk"]' in block.text]
    model.script = [answer("kept", "lost", reasoning=["hm"], cut=2), answer("fine", reasoning=["hm"])]
    for said in ("kept", "fine"):
        with client.stream("POST", "/chat", json={"message": "hi"}) as response:
            names: dict[str, object] = {"response": response, "answer": "", "problem": None, "json": json}
            exec(loop, names)
        assert names["answer"] == said
        assert bool(names["problem"]) == (said == "kept")
        assert names["event"] == {"done": True, **names["event"]}  # type: ignore[dict-item]


def test_what_the_readme_says_of_titles_and_times(client: httpx.Client) -> None:
    created = client.post("/conversations")
    shown = client.get(f"/conversations/{created.json()['session_id']}").json()
    assert (created.status_code, shown["title"]) == (201, "")
    assert shown["created_at"].endswith("Z")
