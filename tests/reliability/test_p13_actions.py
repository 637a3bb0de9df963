"""P13: whatever is done while an answer runs follows one rule: the table in docs/reliability.md.

A state machine does what clients do, over REST and WebSocket, in any order, and compares what the server shows
with a small model of it. The text of every answer is ``<n> begins, `` and, once it may go on, ``<n> ends``.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from websockets.sync.client import connect

from tests.conftest import Server
from tests.conversations.helpers import Stream
from tests.docs.markdown import ROOT
from tests.entry import HEADERS, USER
from tests.upstream import ScriptedUpstream, answer

from .paced import WAIT_SECONDS, Refused, Socket, SocketReader, SseReader
from .sizes import is_full, size
from .truth import consistent

EXAMPLES = size(8, 120)
STEPS = size(25, 50)
# A failure is made small at full size only: that takes minutes.
PHASES = size((Phase.generate,), tuple(Phase))
MAX_CONVERSATIONS = 3


@dataclass
class Turn:
    """A message as the history has to show it."""

    role: str
    content: str
    status: str = "completed"
    model: str = ""
    message_id: int = 0


@dataclass
class Run:
    """An answer that is being made, and who reads it."""

    number: int
    generation_id: str
    readers: list[Any]


@dataclass
class Talk:
    """A conversation as the model knows it: ``turns`` is the active branch."""

    session_id: str
    title: str
    turns: list[Turn] = field(default_factory=list)
    run: Run | None = None
    is_pinned: bool = False
    activity: int = 0
    ended: list[str] = field(default_factory=list)

    @property
    def ids(self) -> dict[str, str]:
        return {"session_id": self.session_id}


there_are_talks = precondition(lambda machine: machine.talks)


class Actions(RuleBasedStateMachine):
    """What clients do. ``server`` and ``upstream`` stay from one run to the next; conversations do not."""

    server: Server
    upstream: ScriptedUpstream
    numbers: Iterator[int]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.client = self.stack.enter_context(
            httpx.Client(base_url=self.server.url, headers=HEADERS, timeout=WAIT_SECONDS, trust_env=False)
        )
        self.socket = Socket(
            self.stack.enter_context(connect(self.server.ws_url, proxy=None, additional_headers=HEADERS))
        )
        self.talks: list[Talk] = []
        self.gone: list[Talk] = []
        self.clock = itertools.count(1)
        self.model = ""
        self.max_tokens = 0

    def teardown(self) -> None:
        for talk in list(self.talks):
            self._delete(talk)
        self.stack.close()

    # What the rules are made of -----------------------------------------------------------------------------

    def pick(self, data: st.DataObject) -> Talk:
        return data.draw(st.sampled_from(self.talks))

    def ask(self, over_socket: bool, path: str, frame: dict[str, Any], body: dict[str, Any]) -> Any:
        if over_socket:
            return SocketReader(self.socket, f"{next(self.numbers)}", **frame, **body)
        return SseReader(self.client, "POST", path, body)

    def begin(self, data: st.DataObject, talk: Talk | None, question: Turn, path: str, frame: Any, body: Any) -> None:
        """Ask for an answer to ``question``, which is the last turn by then; follow it to its first text."""
        silent, over_socket = data.draw(st.booleans()), data.draw(st.booleans())
        number = next(self.numbers)
        gate = self.upstream.gate(f"{number}")
        place: Any = "headers" if silent else 1
        self.upstream.script = [answer(f"{number} begins, ", f"{number} ends", gate=f"{number}", gate_at=place)]
        reader = self.ask(over_socket, path, frame, body)
        if talk is None:
            talk = Talk(reader.ids["session"], title=question.content)
            self.talks.append(talk)
        self.upstream.wait_until(lambda: gate.reached)
        self.expect_call(talk, question)
        text = "" if silent else f"{number} begins, "
        if text:
            reader.until_text()
        assert reader.ids["session"] == talk.session_id
        talk.turns += [question, Turn("assistant", text, "running", self.model, int(reader.ids["message"]))]
        talk.run = Run(number, reader.ids["generation"], [reader])
        talk.activity = next(self.clock)

    def expect_call(self, talk: Talk, question: Turn) -> None:
        """The upstream is asked with the settings as they are now, and the branch as it is now."""
        body = self.upstream.completions[-1].body
        assert body["model"] == self.model
        assert body["max_tokens"] == self.max_tokens
        assert body["messages"][-1]["role"] == "user"
        assert body["messages"][-1]["content"].endswith(question.content)
        said = "\n".join(message["content"] for message in body["messages"])
        assert all(turn.content in said for turn in talk.turns)

    def ended(self, talk: Talk, status: str, text: str) -> None:
        """All readers of the running answer get this end, and this text."""
        assert talk.run
        for reader in talk.run.readers:
            part = reader.to_the_end()
            events = part.events if isinstance(part, Stream) else part
            assert "".join(event.get("chunk", "") for event in events) == text
            assert events[-1]["status"] == status
            if talk in self.talks:
                consistent(self.client, part)
            reader.close()
        talk.turns[-1].content, talk.turns[-1].status = text, status
        talk.ended.append(talk.run.generation_id)
        talk.run = None
        talk.activity = next(self.clock)

    def _delete(self, talk: Talk) -> None:
        self.talks.remove(talk)
        self.gone.append(talk)
        assert self.client.delete(f"/conversations/{talk.session_id}").status_code == 200
        if talk.run:
            self.ended(talk, "stopped", talk.turns[-1].content)

    # The actions --------------------------------------------------------------------------------------------

    @initialize(data=st.data())
    def start_with_two_talks(self, data: st.DataObject) -> None:
        """One that is being answered, and a newer one that was: a run that never chats has something to do, too."""
        self._configure("default", "scripted", 2000)
        self._chat(data, None)
        self._chat(data, None)
        self._finish(self.talks[-1])

    @rule(data=st.data())
    def chat(self, data: st.DataObject) -> None:
        """A message begins an answer, unless one is running."""
        known = self.talks and (data.draw(st.booleans()) or len(self.talks) >= MAX_CONVERSATIONS)
        self._chat(data, self.pick(data) if known else None)

    def _chat(self, data: st.DataObject, talk: Talk | None) -> None:
        question = Turn("user", f"question {next(self.numbers)}")
        body = {"message": question.content, "user_id": USER, **(talk.ids if talk else {})}
        if talk and talk.run:
            with pytest.raises(Refused, match="reply_in_progress"):
                self.ask(data.draw(st.booleans()), "/chat", {"type": "chat"}, body)
        else:
            self.begin(data, talk, question, "/chat", {"type": "chat"}, body)

    @rule(data=st.data())
    @there_are_talks
    def regenerate(self, data: st.DataObject) -> None:
        """The last answer is made again beside the first one, unless one is running."""
        talk = self.pick(data)
        message_id, body = talk.turns[-1].message_id, {"model_type": ""}
        path, frame = f"/messages/{message_id}/regenerate", {"type": "regenerate", "message_id": message_id}
        if talk.run:
            with pytest.raises(Refused, match="reply_in_progress"):
                self.ask(data.draw(st.booleans()), path, frame, body)
        else:
            *talk.turns, question, _answer = talk.turns
            self.begin(data, talk, question, path, frame, body)

    @rule(data=st.data())
    @there_are_talks
    def finish(self, data: st.DataObject) -> None:
        """The model ends its answer: all of it is stored."""
        self._finish(self.pick(data))

    def _finish(self, talk: Talk) -> None:
        if talk.run:
            number = talk.run.number
            self.upstream.gate(f"{number}").open()
            self.ended(talk, "completed", f"{number} begins, {number} ends")

    @rule(data=st.data(), over_socket=st.booleans())
    @there_are_talks
    def stop(self, data: st.DataObject, over_socket: bool) -> None:
        """A running answer keeps its text; one that ended stays as it is."""
        talk = self.pick(data)
        generation_id = talk.run.generation_id if talk.run else data.draw(st.sampled_from(talk.ended))
        before = None if talk.run else self.client.get(f"/generations/{generation_id}").json()
        if over_socket and talk.run:
            self.socket.send(type="stop", generation_id=generation_id)
        else:
            state = self.client.post(f"/generations/{generation_id}/stop").json()
            assert state["status"] == "stopped" if talk.run else state == before
        if talk.run:
            self.ended(talk, "stopped", talk.turns[-1].content)

    @rule(data=st.data())
    @there_are_talks
    def stop_an_earlier_one(self, data: st.DataObject) -> None:
        """A late stop never hits a newer answer."""
        talk = self.pick(data)
        if talk.run and talk.ended:
            earlier = data.draw(st.sampled_from(talk.ended))
            assert self.client.post(f"/generations/{earlier}/stop").status_code == 200

    @rule(data=st.data(), over_socket=st.booleans())
    @there_are_talks
    def attach(self, data: st.DataObject, over_socket: bool) -> None:
        """One more reader gets all of the answer, from its beginning."""
        talk = self.pick(data)
        if talk.run:
            key = talk.run.generation_id
            reader: Any = (
                SocketReader(self.socket, f"{next(self.numbers)}", type="attach", generation_id=key)
                if over_socket
                else SseReader(self.client, "GET", f"/generations/{key}/stream")
            )
            talk.run.readers.append(reader)

    @rule(data=st.data())
    @there_are_talks
    def delete(self, data: st.DataObject) -> None:
        """A running answer is stopped first: its readers get their end. Then nothing is found any more."""
        self._delete(self.pick(data))

    @rule(keep=st.integers(1, 3))
    def prune(self, keep: int) -> None:
        """The newest stay, pinned ones beside them; one that is being answered is never taken."""
        idle_or_not = sorted((t for t in self.talks if not t.is_pinned), key=lambda t: t.activity, reverse=True)
        doomed = [talk for talk in idle_or_not[keep:] if not talk.run]
        printed = io.StringIO()
        call_command("prune_conversations", keep=keep, stdout=printed, stderr=io.StringIO())
        assert int(printed.getvalue()) == len(doomed)
        for talk in doomed:
            self.talks.remove(talk)
            self.gone.append(talk)

    @rule(other=st.booleans(), max_tokens=st.integers(1, 3000))
    def configure(self, other: bool, max_tokens: int) -> None:
        """It counts from the next answer on."""
        self._configure("custom" if other else "default", "other" if other else "scripted", max_tokens)

    def _configure(self, model_type: str, model: str, max_tokens: int) -> None:
        custom = {"custom_api_url": self.upstream.url, "custom_model": "other"}
        body = {"user_id": USER, "model_type": model_type, "max_tokens": max_tokens, **custom}
        assert self.client.post("/api/config", json=body).status_code == 200
        self.model, self.max_tokens = model, max_tokens

    @rule(data=st.data(), title=st.sampled_from(["mine", "yours", "ours"]), is_pinned=st.booleans())
    @there_are_talks
    def rename_and_pin(self, data: st.DataObject, title: str, is_pinned: bool) -> None:
        """No activity, and nothing to the answer that runs."""
        talk, body = self.pick(data), {"title": title, "is_pinned": is_pinned}
        assert self.client.patch(f"/conversations/{talk.session_id}", json=body).status_code == 200
        talk.title, talk.is_pinned = title, is_pinned

    # What holds after each ----------------------------------------------------------------------------------

    @invariant()
    def shows_what_the_model_says(self) -> None:
        for talk in self.talks:
            shown = self.client.get(f"/conversations/{talk.session_id}/history").json()["messages"]
            turns = [Turn(m["role"], m["content"], m["status"], m["model"], m["id"]) for m in shown]
            # The text of a running answer is in its chunks; questions get their ids by being stored.
            assert [(t.role, "" if t.status == "running" else t.content, t.status) for t in talk.turns] == [
                (t.role, t.content, t.status) for t in turns
            ]
            assert [t.model for t in turns if t.role == "assistant"] == [
                t.model for t in talk.turns if t.role == "assistant"
            ]
            if talk.run:
                state = self.client.get(f"/generations/{talk.run.generation_id}").json()
                assert (state["status"], state["position"]) == ("running", len(talk.turns[-1].content))

    @invariant()
    def lists_what_there_is(self) -> None:
        listed = self.client.get("/conversations", params={"user_id": USER}).json()["conversations"]
        newest_first = sorted(self.talks, key=lambda talk: talk.activity, reverse=True)
        expected = [(talk.session_id, talk.title) for talk in newest_first]
        assert [(item["session_id"], item["title"]) for item in listed] == expected

    @invariant()
    def finds_nothing_of_what_is_gone(self) -> None:
        for talk in self.gone[-1:]:
            assert self.client.get(f"/conversations/{talk.session_id}/history").status_code == 404
            for generation_id in talk.ended[-1:]:
                assert self.client.get(f"/generations/{generation_id}").status_code == 404
                assert self.client.get(f"/generations/{generation_id}/stream").status_code == 404


def test_p13_every_action_has_its_effect_in_every_state(server: Server, model: ScriptedUpstream) -> None:
    class Here(Actions):
        pass

    Here.server, Here.upstream, Here.numbers = server, model, itertools.count(1)
    checks = list(HealthCheck)
    run_state_machine_as_test(
        Here,
        settings=settings(
            phases=PHASES,
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=not is_full(),  # `make test` must not fail by chance
            suppress_health_check=checks,
        ),
    )


def test_p13_the_table_names_every_action() -> None:
    """Each rule of the machine is a row of the table in docs/reliability.md."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    table = text.partition("## What happens to a running answer")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|[^|]*\|", table, re.MULTILINE))))
    rules = {"chat", "regenerate", "stop", "attach", "delete", "prune", "configure", "rename"}
    assert rules <= named
