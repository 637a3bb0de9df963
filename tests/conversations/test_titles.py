"""Names of conversations: the first words at once, a better one from the model once it has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations import services
from conversations.access.rules import Caller
from conversations.database import db
from conversations.engine.events import AnswerIds
from conversations.engine.reader import open_reader
from conversations.engine.supervisor import Supervisor
from conversations.models import Conversation
from conversations.services import listing, titles
from llmproviders.backends.openai_compatible import OpenAICompatible
from llmproviders.models import Preset
from tests.upstream import Behaviour, Request, ScriptedUpstream, answer, echo, events, status

from .helpers import chat, flat

EVERYONE = Caller(sees_all=True)
Source = Conversation.TitleSource


# First words ----------------------------------------------------------------------------------------------------
FIRST_WORDS = {
    "Hello there": "Hello there",
    "  one\n\n two\tthree \n": "one two three",
    "word " * 20: "word word word word word word word word word word…",
    "你好，请介绍一下你自己": "你好，请介绍一下你自己",
    "天" * 80: "天" * 50 + "…",
    "https://example.com/" + "a" * 80: "https://example.com/" + "a" * 30 + "…",
    "See " + "a" * 80: "See " + "a" * 46 + "…",
    "请看 " + "天" * 80: "请看 " + "天" * 47 + "…",
    "a" * 50: "a" * 50,
}


@pytest.mark.parametrize("message", FIRST_WORDS)
def test_first_words_are_one_line_cut_between_words(message: str) -> None:
    assert titles.first_words(message) == FIRST_WORDS[message]


@given(st.text(min_size=1).filter(str.strip))
def test_first_words_of_anything_are_a_short_line(message: str) -> None:
    title = titles.first_words(message)
    assert 1 <= len(title) <= titles.FIRST_WORDS_LENGTH + 1
    assert len(title.splitlines()) == 1
    assert title.strip() == title
    assert " ".join(message.split()).startswith(title.removesuffix("…"))


# What a model says ----------------------------------------------------------------------------------------------
WRITTEN = {
    "Weekend plans": "Weekend plans",
    '"Weekend plans."': "Weekend plans",
    "“周末计划”": "周末计划",
    "《周末计划》。": "周末计划",
    "Title: Weekend plans": "Weekend plans",
    "title：Weekend plans": "Weekend plans",
    "标题：周末计划": "周末计划",
    "# Weekend plans": "Weekend plans",
    "**Weekend plans**": "Weekend plans",
    'Title: "Weekend plans"': "Weekend plans",
    '"Title: Weekend plans"': "Weekend plans",
    "**Title:** Weekend plans": "Weekend plans",
    "# Title: Weekend plans": "Weekend plans",
    "“标题：周末计划”": "周末计划",
    "\n\n  Weekend plans\nBecause you asked for it.": "Weekend plans",
    "<think>They plan\na weekend.</think>\n\nWeekend plans": "Weekend plans",
    "They plan a weekend.</think>Weekend plans": "Weekend plans",
    "<think>They plan a weekend, and never": "",
    "Is it time?": "Is it time?",
    "Titles of nobility": "Titles of nobility",
    "...": "",
    " \n ": "",
    "": "",
    "x" * 200: "x" * 80,
}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_models_title_is_stripped_of_its_decoration(written: str) -> None:
    assert titles.clean(written) == WRITTEN[written]


@given(st.text())
def test_a_title_is_one_line_that_fits_whatever_a_model_writes(written: str) -> None:
    title = titles.clean(written)
    assert len(title) <= titles.MADE_TITLE_LENGTH
    assert len(title.splitlines()) <= 1
    assert title.strip() == title


# Asked of the model ---------------------------------------------------------------------------------------------
def asks_for_a_title(request: Request) -> bool:
    return titles.INSTRUCTION in str(request.body["messages"][0]["content"])


def named(title: Behaviour, *, reply: Behaviour | None = None) -> Callable[[Request], Behaviour]:
    """An upstream that answers chats with ``reply`` (an echo) and requests for titles with ``title``."""
    return lambda request: title if asks_for_a_title(request) else reply or echo()


class Chats:
    """Conversations on the engine of the test's own loop, whose work can be waited for."""

    def __init__(self, engine: Supervisor, upstream: ScriptedUpstream) -> None:
        self.engine = engine
        self.upstream = upstream

    async def start(self, message: str = "Where shall we go?", **options: Any) -> AnswerIds:
        return await db.write(services.start_reply, caller=EVERYONE, message=message, **options)

    async def finish(self, ids: AnswerIds) -> str:
        """Read an answer to its end; return how it ended."""
        ending: str = (await flat((await open_reader(ids.generation_id)).batches()))[-1].ending.status
        return ending

    async def say(self, message: str = "Where shall we go?", **options: Any) -> AnswerIds:
        ids = await self.start(message, **options)
        await self.finish(ids)
        return ids

    async def settled(self) -> None:
        """Wait until nobody is about to name anything any more."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self.engine._producers)

    async def row(self, ids: AnswerIds) -> Conversation:
        return await db.read(Conversation.objects.get, session_id=ids.session_id)

    async def title(self, ids: AnswerIds) -> tuple[str, str]:
        """The title, and who gave it."""
        conversation = await self.row(ids)
        return conversation.title, conversation.title_source

    async def rename(self, ids: AnswerIds, title: str) -> None:
        changes = {"title": title}
        await db.write(services.update_conversation, caller=EVERYONE, session_id=ids.session_id, changes=changes)

    @property
    def titles_asked(self) -> int:
        return sum(asks_for_a_title(request) for request in self.upstream.completions)


@pytest.fixture
def chats(engine: Supervisor, upstream: ScriptedUpstream, settings: Any) -> Chats:
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "API_URL": upstream.url, "MODEL": "scripted", "MAX_RETRIES": 0}
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "model"}
    upstream.default = named(answer("Weekend plans"))
    return Chats(engine, upstream)


FALLBACK = ("Where shall we go?", Source.FIRST_WORDS)


async def test_a_conversation_is_named_before_its_first_answer(chats: Chats) -> None:
    chats.upstream.default = answer("late", gate="g")
    ids = await chats.start()
    assert await chats.title(ids) == FALLBACK


async def test_the_model_names_a_conversation_after_its_first_answer(chats: Chats) -> None:
    ids = await chats.say()
    await chats.settled()
    assert await chats.title(ids) == ("Weekend plans", Source.MODEL)


async def test_the_model_is_shown_question_and_answer(chats: Chats) -> None:
    chats.upstream.default = named(answer("Weekend plans"), reply=answer("To the sea.", reasoning=["Hills, or"]))
    await chats.say("Where shall we go? " + "a" * 10_000)
    await chats.settled()
    asked = chats.upstream.completions[-1]
    prompt = asked.body["messages"][-1]["content"]
    assert "Where shall we go?" in prompt
    assert "To the sea." in prompt
    assert "Hills" not in prompt
    assert len(prompt) < 5_000
    assert asked.body["max_tokens"] <= titles.TITLE_TOKENS


async def test_the_end_of_an_answer_does_not_wait_for_its_title(chats: Chats) -> None:
    chats.upstream.default = named(answer("Weekend plans", gate="title"))
    ids = await chats.say()
    assert await chats.title(ids) == FALLBACK
    await chats.upstream.until(lambda: chats.upstream.gate("title").reached)
    chats.upstream.gate("title").open()
    await chats.settled()
    assert (await chats.title(ids))[0] == "Weekend plans"


async def test_the_next_message_does_not_wait_for_the_title_either(chats: Chats) -> None:
    chats.upstream.default = named(answer("Weekend plans", gate="title"))
    ids = await chats.say()
    await chats.say("And then?", session_id=ids.session_id)
    chats.upstream.gate("title").open()
    await chats.settled()
    assert (await chats.title(ids))[0] == "Weekend plans"
    assert chats.titles_asked == 1


async def test_a_title_is_no_activity(chats: Chats) -> None:
    chats.upstream.default = named(answer("Weekend plans", gate="title"))
    first = await chats.say()
    second = await chats.say("Something else")
    before = (await chats.row(first)).updated_at
    chats.upstream.gate("title").open()
    await chats.settled()
    assert (await chats.row(first)).title == "Weekend plans"
    assert (await chats.row(first)).updated_at == before
    page = await db.read(listing.list_conversations, caller=EVERYONE)
    assert [item.session_id for item in page.conversations] == [second.session_id, first.session_id]


async def test_a_persons_title_is_never_replaced(chats: Chats) -> None:
    """It is set while the model is being asked."""
    chats.upstream.default = named(answer("Weekend plans", gate="title"))
    ids = await chats.say()
    await chats.upstream.until(lambda: chats.upstream.gate("title").reached)
    await chats.rename(ids, "Mine")
    chats.upstream.gate("title").open()
    await chats.settled()
    assert await chats.title(ids) == ("Mine", Source.PERSON)


async def test_a_person_may_like_the_first_words(chats: Chats) -> None:
    """The same words, but now a person's."""
    chats.upstream.default = named(answer("Weekend plans", gate="title"))
    ids = await chats.say()
    await chats.rename(ids, FALLBACK[0])
    chats.upstream.gate("title").open()
    await chats.settled()
    assert await chats.title(ids) == (FALLBACK[0], Source.PERSON)


async def test_a_title_given_at_creation_stays_and_no_other_is_asked_for(chats: Chats) -> None:
    conversation = await db.write(services.create_conversation, caller=EVERYONE, title="Mine")
    ids = await chats.say(session_id=conversation.session_id)
    await chats.settled()
    assert await chats.title(ids) == ("Mine", Source.PERSON)
    assert not chats.titles_asked


async def test_an_emptied_title_hands_naming_back(chats: Chats) -> None:
    chats.upstream.default = named(answer("Weekend plans", gate="title"))
    ids = await chats.say()
    await chats.upstream.until(lambda: chats.upstream.gate("title").reached)
    await chats.rename(ids, "")
    chats.upstream.gate("title").open()
    await chats.settled()
    assert await chats.title(ids) == ("", Source.NONE)
    chats.upstream.default = named(answer("Train times"))
    await chats.say("When does the train leave?", session_id=ids.session_id)
    assert (await chats.title(ids))[0] in ("When does the train leave?", "Train times")
    await chats.settled()
    assert await chats.title(ids) == ("Train times", Source.MODEL)


async def test_only_the_first_answer_names(chats: Chats) -> None:
    ids = await chats.say()
    await chats.settled()
    chats.upstream.default = named(answer("Another title"))
    again, _question = await db.write(services.regenerate, caller=EVERYONE, message_id=ids.message_id)
    await chats.finish(again)
    await chats.say("And then?", session_id=ids.session_id)
    await chats.settled()
    assert await chats.title(ids) == ("Weekend plans", Source.MODEL)
    assert chats.titles_asked == 1


USELESS: dict[str, Behaviour] = {
    "server error": status(500, {"error": {"message": "no"}}),
    "refused": status(401, {"error": {"message": "no"}}),
    "web page": status(200, "<html>login</html>"),
    "cut": answer("Weekend", " plans", cut=1),
    "broken JSON": events("{", "[DONE]"),
    "no text": answer(),
    "only decoration": answer('"', '"'),
    "only reasoning": answer(reasoning=["They plan a weekend."]),
    "reasoning without an end": answer("<think>", "They plan"),
}


@pytest.mark.parametrize("fault", USELESS)
async def test_without_a_proper_title_the_first_words_stay(chats: Chats, fault: str) -> None:
    chats.upstream.default = named(USELESS[fault])
    ids = await chats.start()
    assert await chats.finish(ids) == "completed"
    await chats.settled()
    assert chats.titles_asked == 1
    assert await chats.title(ids) == FALLBACK


@pytest.mark.parametrize(
    "title",
    [answer("Weekend plans", reasoning=["They plan."]), answer("<think>They", " plan.</think>", "\n\nWeekend plans")],
)
async def test_reasoning_is_no_part_of_a_title(chats: Chats, title: Behaviour) -> None:
    chats.upstream.default = named(title)
    ids = await chats.say()
    await chats.settled()
    assert (await chats.title(ids))[0] == "Weekend plans"


@pytest.mark.parametrize("silence", [answer("late", stall="headers"), answer("Week", "end", stall=1)])
async def test_a_model_that_takes_too_long_is_not_waited_for(chats: Chats, settings: Any, silence: Behaviour) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLE_TIMEOUT": 0.5}
    chats.upstream.default = named(silence)
    ids = await chats.say()
    await chats.settled()
    await chats.upstream.closed_by_client()
    assert await chats.title(ids) == FALLBACK


async def test_a_failed_answer_is_not_asked_about(chats: Chats) -> None:
    chats.upstream.script = [status(500)]
    ids = await chats.start()
    assert await chats.finish(ids) == "failed"
    await chats.settled()
    assert not chats.titles_asked
    assert await chats.title(ids) == FALLBACK


async def test_after_a_failed_first_answer_the_next_one_names(chats: Chats) -> None:
    chats.upstream.script = [status(500)]
    first = await chats.say()
    again = await chats.say("And where to?", session_id=first.session_id)
    await chats.settled()
    assert await chats.title(again) == ("Weekend plans", Source.MODEL)


async def test_a_title_of_white_space_is_none(chats: Chats) -> None:
    ids = await chats.say()
    await chats.settled()
    await chats.rename(ids, "  \n")
    assert await chats.title(ids) == ("", Source.NONE)


async def test_a_stopped_answer_is_not_asked_about(chats: Chats) -> None:
    chats.upstream.script = [answer("a", "b", gate="g", gate_at=1)]
    ids = await chats.start()
    await chats.engine.stop(ids.generation_id)
    await chats.settled()
    assert not chats.titles_asked


async def test_the_setting_first_words_asks_nobody(chats: Chats, settings: Any) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "first_words"}
    ids = await chats.say()
    await chats.settled()
    assert not chats.titles_asked
    assert await chats.title(ids) == FALLBACK


class Demo(OpenAICompatible):
    """A demo model that answers, unlike the embedded one, without its packages."""

    is_demo = True


async def test_a_demo_model_is_never_asked(chats: Chats, settings: Any) -> None:
    backends = {"openai_compatible": settings_path(OpenAICompatible), "demo": settings_path(Demo)}
    settings.LLMPROVIDERS = {**settings.LLMPROVIDERS, "BACKENDS": backends}
    await db.write(Preset.objects.create, type="demo", name="D", api_url=chats.upstream.url, model="d", backend="demo")
    ids = await chats.say(options=services.ReplyOptions(model_type="demo"))
    await chats.settled()
    assert chats.upstream.calls == 1
    assert await chats.title(ids) == FALLBACK


def settings_path(backend: type[OpenAICompatible]) -> str:
    return f"{backend.__module__}.{backend.__qualname__}"


async def test_a_conversation_may_be_deleted_while_it_is_named(chats: Chats) -> None:
    chats.upstream.default = named(answer("Weekend plans", gate="title"))
    ids = await chats.say()
    await chats.upstream.until(lambda: chats.upstream.gate("title").reached)
    await db.write(services.delete_conversation, caller=EVERYONE, session_id=ids.session_id)
    chats.upstream.gate("title").open()
    await chats.settled()
    assert not await db.read(Conversation.objects.exists)


async def test_a_shutdown_does_not_wait_for_a_title(chats: Chats) -> None:
    chats.upstream.default = named(answer("Weekend plans", gate="title"))
    ids = await chats.say()
    await chats.upstream.until(lambda: chats.upstream.gate("title").reached)
    await chats.engine.shutdown()
    await chats.upstream.closed_by_client()
    assert await chats.title(ids) == FALLBACK


def test_a_title_can_be_seen_and_changed_over_http(
    client: httpx.Client, model: ScriptedUpstream, settings: Any
) -> None:
    settings.CONVERSATIONS = {**settings.CONVERSATIONS, "TITLES": "model"}
    model.default = named(answer("Weekend plans", gate="title"))
    path = f"/conversations/{chat(client, 'Where shall we go?').done['session_id']}"
    assert client.get(path).json()["title"] == "Where shall we go?"
    assert client.get("/conversations").json()["conversations"][0]["title"] == "Where shall we go?"
    model.wait_until(lambda: model.gate("title").reached)
    assert client.patch(path, json={"title": "Mine"}).json()["title"] == "Mine"
    model.gate("title").open()
    model.wait_until(lambda: model.completions[-1].answered)
    assert client.get(path).json()["title"] == "Mine"
