"""What of a conversation the model gets to see."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import httpx
import pytest
from django.db import connection
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from conversations import services
from conversations.engine import prompts
from conversations.engine.completions import ChatMessage, CompletionRequest, ContextLengthExceeded, Endpoint, Image
from conversations.engine.said import MOST_IMAGES, NOT_SHOWN, images_in
from conversations.exceptions import PromptTooLong
from conversations.limits.budgets import HIGHEST, LOWEST
from conversations.limits.estimates import estimate
from conversations.models import Conversation, Message
from conversations.services import branches
from llmproviders.models import Preset
from tests.upstream import ScriptedUpstream, answer

from .helpers import chat

SYSTEM = ChatMessage("system", "Be brief.")


def endpoint(window: int = 8192, **fields: Any) -> Endpoint:
    return Endpoint(
        **{"model_type": "m", "name": "M", "api_url": "http://m/", "model": "m", **fields}, context_window=window
    )


def said(*texts: str) -> list[Message]:
    """A branch, oldest first: user and assistant in turn."""
    roles = (Message.Role.USER, Message.Role.ASSISTANT)
    return [Message(role=roles[index % 2], content=text) for index, text in enumerate(texts)]


def fit(
    *, window: int = 8192, system: str = "", history: Iterable[Message] = (), message: str = "now", answer: int = 100
) -> tuple[tuple[ChatMessage, ...], int]:
    """Fit a prompt; ``history`` is oldest first."""
    newest_first = reversed(list(history))
    return prompts.fit(
        endpoint=endpoint(window),
        system_prompt=system,
        message=Message(content=message),
        history=newest_first,
        max_tokens=answer,
    )


def texts(messages: Iterable[ChatMessage]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


# What fits ------------------------------------------------------------------------------------------------------
def test_a_conversation_that_fits_is_sent_whole_in_order() -> None:
    prompt, max_tokens = fit(system="Be brief.", history=said("one", "1", "two", "2"), message="three")
    assert texts(prompt) == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "1"),
        ("user", "two"),
        ("assistant", "2"),
        ("user", "three"),
    ]
    assert max_tokens == 100


def test_the_newest_whole_turns_are_kept_and_the_system_prompt_always() -> None:
    turns = said(*(text for number in range(20) for text in (f"question {number}", "语" * 50)))
    prompt, _max_tokens = fit(window=600, system="Be brief.", history=turns)
    assert prompt[0] == SYSTEM
    assert prompt[-1] == ChatMessage("user", "now")
    asked = [message.content for message in prompt if message.content.startswith("question")]
    assert asked == [f"question {number}" for number in range(20 - len(asked), 20)]
    assert 1 < len(asked) < 20
    assert len(prompt) == 2 + 2 * len(asked)


def test_a_turn_is_never_split_and_nothing_older_is_taken_instead() -> None:
    turns = said("small", "small", "question", "语" * 400, "last", "last")
    prompt, _max_tokens = fit(window=500, history=turns)
    assert texts(prompt) == [("user", "last"), ("assistant", "last"), ("user", "now")]


def test_an_answer_that_begins_a_branch_has_no_question_and_is_left_out() -> None:
    greeting = Message(role=Message.Role.ASSISTANT, content="Welcome!")
    prompt, _max_tokens = fit(history=[greeting, *said("hi", "hello")])
    assert texts(prompt) == [("user", "hi"), ("assistant", "hello"), ("user", "now")]


def test_an_answer_without_text_is_left_out_and_its_neighbours_are_joined() -> None:
    prompt, _max_tokens = fit(history=said("first", "", "second", " \n", "third", "3"), message="fourth")
    assert texts(prompt) == [("user", "first\n\nsecond\n\nthird"), ("assistant", "3"), ("user", "fourth")]


def test_a_failed_question_is_joined_to_the_next() -> None:
    assert texts(fit(history=said("first", ""), message="second")[0]) == [("user", "first\n\nsecond")]


def test_partial_texts_are_sent() -> None:
    assert texts(fit(history=said("count", "one, tw"))[0])[1] == ("assistant", "one, tw")


def test_a_blank_system_prompt_is_none() -> None:
    assert texts(fit(system=" \n ")[0]) == [("user", "now")]


def test_messages_are_sent_exactly_as_they_are() -> None:
    assert texts(fit(system="  a\n", history=said(" b ", "\tc\n"), message=" d\n")[0]) == [
        ("system", "  a\n"),
        ("user", " b "),
        ("assistant", "\tc\n"),
        ("user", " d\n"),
    ]


def test_the_history_is_read_no_further_than_needed() -> None:
    read: list[Message] = []

    def newest_first() -> Iterator[Message]:
        for message in reversed(said(*["语" * 100] * 1000)):
            read.append(message)
            yield message

    prompt, _max_tokens = prompts.fit(
        endpoint=endpoint(1000),
        system_prompt="",
        message=Message(content="now"),
        history=newest_first(),
        max_tokens=100,
    )
    assert len(read) <= len(prompt) - 1 + 2


# The answer's share ---------------------------------------------------------------------------------------------
def test_an_answer_may_be_as_long_as_wished_where_it_fits() -> None:
    assert fit(window=8192, answer=2000)[1] == 2000


def test_the_answer_is_lowered_to_what_the_context_leaves() -> None:
    prompt, max_tokens = fit(window=1000, answer=5000)
    assert max_tokens == 1000 - prompts.estimate_prompt(prompt)


def test_an_answer_as_long_as_the_window_does_not_cost_the_whole_history() -> None:
    prompt, _max_tokens = fit(window=1000, history=said("question", "answer"), answer=131_072)
    assert len(prompt) == 3


# What cannot fit ------------------------------------------------------------------------------------------------
def window_for(message: str, system: str = "") -> int:
    """The smallest window that takes these two and the shortest answer."""
    alone = [*([ChatMessage("system", system)] if system else []), ChatMessage("user", message)]
    return prompts.estimate_prompt(alone) + prompts.MIN_ANSWER


@pytest.mark.parametrize(
    ("message", "system"), [("hi", ""), ("语" * 500, ""), ("hi", "s" * 5000), ("x" * 999, "语" * 99)]
)
def test_prompt_too_long_begins_right_where_no_answer_fits(message: str, system: str) -> None:
    smallest = window_for(message, system)
    history = said("question", "answer" * 1000)
    prompt, max_tokens = fit(window=smallest, message=message, system=system, history=history, answer=2000)
    assert max_tokens == prompts.MIN_ANSWER
    assert prompt[-1].content == message
    with pytest.raises(PromptTooLong):
        fit(window=smallest - 1, message=message, system=system, history=history)


def test_a_short_wish_does_not_make_room_for_a_longer_prompt() -> None:
    with pytest.raises(PromptTooLong):
        fit(window=window_for("hi") - 1, message="hi", answer=1)


# Always ---------------------------------------------------------------------------------------------------------
text = st.text(alphabet=st.sampled_from("a b\n.语文😀\t"), max_size=120)


@given(
    window=st.integers(200, 2000),
    system=text,
    branch=st.lists(st.tuples(st.sampled_from([Message.Role.USER, Message.Role.ASSISTANT]), text), max_size=12),
    message=text,
    wished=st.integers(1, 5000),
    measured=st.integers(1, 2000),
)
def test_prompt_and_answer_never_pass_the_window(
    window: int, system: str, branch: list[tuple[Message.Role, str]], message: str, wished: int, measured: int
) -> None:
    """Whatever the branch looks like, and whatever the upstream taught about its tokens."""
    prompts.forget()
    prompts.learn(endpoint(window), [ChatMessage("user", "a" * 2000)], measured)
    history = [Message(role=role, content=content) for role, content in branch]
    try:
        prompt, max_tokens = fit(window=window, system=system, history=history, message=message, answer=wished)
    except PromptTooLong:
        return
    assert prompts.estimate_prompt(prompt) * prompts.correction(endpoint(window)) + max_tokens <= window
    assert min(wished, prompts.MIN_ANSWER) <= max_tokens <= wished
    assert all(first.role != second.role for first, second in pairwise(prompt))
    everything = "\n\n".join(item.content for item in history if item.content.strip())
    sent = "\n\n".join(item.content for item in prompt if item.role != "system")
    assert f"{everything}\n\n{message}".endswith(sent)


@given(text, text)
def test_estimates_grow_with_the_text(first: str, second: str) -> None:
    assert 1 <= estimate(first) <= estimate(first + second)


def test_the_turn_that_results_belong_to_is_kept_whole_and_older_ones_go_first() -> None:
    """Also where a server finds it too long: results without their calls are refused."""
    asks = services.by_model("", [("one", "look_up", '{"a": 1}')])
    loop = [*said("word " * 300, "word " * 300, "look"), Message(**asks._asdict())]
    newest = services.by_tools([services.ToolResult("one", "word " * 100)])
    prompt, _max_tokens = prompts.fit(
        endpoint=endpoint(600), system_prompt="", message=newest, history=reversed(loop), max_tokens=100
    )
    assert [message.role for message in prompt] == ["user", "assistant", "tool"]
    whole, _max_tokens = prompts.fit(
        endpoint=endpoint(), system_prompt="Be brief.", message=newest, history=reversed(loop), max_tokens=100
    )
    shorter = prompts.shorten(whole)
    assert [message.role for message in shorter or ()] == ["system", "user", "assistant", "tool"]
    assert shorter is not None
    assert prompts.shorten(shorter) is None
    refusal = ContextLengthExceeded("too long", limit=400, prompt_tokens=1200)
    refitted = prompts.refit(endpoint(), CompletionRequest(whole), refusal)
    assert refitted is not None
    assert [message.role for message in refitted.messages][1:] == [
        "user",
        "assistant",
        "tool",
    ]


def asks(*keys: str) -> Message:
    return Message(**services.by_model("", [(key, "look_up", '{"a": 1}') for key in keys])._asdict())


def told(*keys: str) -> Message:
    return Message(**services.by_tools([services.ToolResult(key, "x") for key in keys])._asdict())


@pytest.mark.parametrize(
    ("turn", "roles"),
    [
        ([asks("a", "b"), told("a"), told("b")], ["assistant", "tool", "tool"]),
        ([asks("a"), told("a"), told("a")], ["assistant", "tool"]),
        ([asks("a"), told("a", "other")], ["assistant", "tool"]),
        ([told("a")], []),
        ([asks("a"), *said("never mind")[:1], told("a")], []),
    ],
    ids=["in two messages", "twice", "of another", "of none", "too late"],
)
def test_each_result_stands_after_its_call(turn: list[Message], roles: list[str]) -> None:
    """Whatever was stored: models' servers refuse a prompt in which it does not."""
    prompt, _max_tokens = fit(history=[*said("look"), *turn])
    found = [message.role for message in prompt if message.role in ("assistant", "tool")]
    assert found == roles
    calls = {call.id for message in prompt for call in message.tool_calls}
    assert calls == {message.tool_call_id for message in prompt if message.role == "tool"}


def test_results_of_what_nobody_asked_for_stand_after_their_calls() -> None:
    history = [asks("a")]
    prompt, _max_tokens = prompts.fit(
        endpoint=endpoint(), system_prompt="", message=told("a"), history=reversed(history), max_tokens=100
    )
    assert [message.role for message in prompt] == ["assistant", "tool"]


@pytest.mark.parametrize(("window", "kept"), [(8192, True), (1000, False)])
def test_what_was_thought_in_this_turn_is_reckoned_in_where_it_has_room(window: int, kept: bool) -> None:
    """Few servers get it at all; before the newest question it says nothing any more."""
    thinking = [asks("a"), asks("b")]
    for message in thinking:
        message.reasoning = "hm " * 2000
    history = [*said("look"), thinking[0], told("a"), *said("And there?"), thinking[1]]
    prompt, max_tokens = prompts.fit(
        endpoint=endpoint(window), system_prompt="", message=told("b"), history=reversed(history), max_tokens=100
    )
    thoughts = [message.reasoning for message in prompt if message.tool_calls]
    assert thoughts == ["", "hm " * 2000] if kept else not any(thoughts)
    # They cost neither what was said before nor the answer's length.
    assert (len(prompt), max_tokens) == (6, 100)
    thought = prompts.request_tokens(endpoint(), CompletionRequest(prompt)) - prompts.estimate_prompt(prompt)
    assert (thought > 1000) == kept


def test_what_was_thought_goes_first_where_a_server_finds_it_too_long() -> None:
    thinking = ChatMessage("assistant", "so", reasoning="hm " * 5000)
    asked = CompletionRequest((ChatMessage("user", "word " * 500), thinking, ChatMessage("user", "go on")))
    shorter = prompts.refit(endpoint(128_000), asked, ContextLengthExceeded("too long", limit=4096))
    assert shorter is not None
    assert not any(message.reasoning for message in shorter.messages)


def test_thoughts_teach_nothing() -> None:
    prompts.learn(endpoint(), [*LONG, ChatMessage("assistant", reasoning="hm " * 5000)], COUNTED)
    assert prompts.correction(endpoint()) == 1.0


def test_of_many_images_the_newest_are_shown() -> None:
    shown = [services.by_user(str(number), [uuid.UUID(int=number)]) for number in range(MOST_IMAGES + 3)]
    prompt, _max_tokens = fit(window=100_000, history=[Message(**each._asdict()) for each in shown])
    parts = [part for message in prompt for part in message.parts]
    assert [str(uuid.UUID(int=number)) for number in range(3, MOST_IMAGES + 3)] == images_in(prompt)
    assert parts.count(NOT_SHOWN) == 3


def test_how_images_are_counted_says_nothing_of_texts() -> None:
    prompts.learn(endpoint(), [*LONG, ChatMessage("user", parts=(Image("data:x"),))], 2 * COUNTED)
    assert prompts.correction(endpoint()) == 1.0


# Corrections ----------------------------------------------------------------------------------------------------
LONG = [ChatMessage("user", "word " * 1000)]
COUNTED = prompts.estimate_prompt(LONG)


def test_a_model_is_taken_at_its_estimate_until_its_upstream_counted() -> None:
    assert prompts.correction(endpoint()) == 1.0
    prompts.learn(endpoint(), LONG, 2 * COUNTED)
    assert prompts.correction(endpoint()) == pytest.approx(2.0)
    assert prompts.correction(endpoint(model="another")) == 1.0
    assert prompts.correction(endpoint(api_url="http://elsewhere/")) == 1.0


def test_later_counts_move_a_correction_gently() -> None:
    prompts.learn(endpoint(), LONG, 2 * COUNTED)
    prompts.learn(endpoint(), LONG, COUNTED)
    assert 1.0 < prompts.correction(endpoint()) < 2.0


@pytest.mark.parametrize(("counted", "bound"), [(10**9, HIGHEST), (1, LOWEST)])
def test_corrections_are_bounded(counted: int, bound: float) -> None:
    for _time in range(3):
        prompts.learn(endpoint(), LONG, counted)
        assert prompts.correction(endpoint()) == bound


def test_a_count_of_nothing_teaches_nothing() -> None:
    prompts.learn(endpoint(), LONG, 0)
    assert prompts.correction(endpoint()) == 1.0


def test_a_short_prompt_teaches_nothing() -> None:
    """A chat template adds more to `hi` than `hi` is."""
    prompts.learn(endpoint(), [ChatMessage("user", "hi")], 45)
    assert prompts.correction(endpoint()) == 1.0


def test_a_correction_changes_what_fits() -> None:
    turns = said(*["word " * 30] * 40)
    before, _max_tokens = fit(window=2000, history=turns)
    prompts.learn(endpoint(2000), LONG, 2 * COUNTED)
    after, _max_tokens = fit(window=2000, history=turns)
    assert 1 < len(after) < len(before) < len(turns)


def test_the_corrections_of_endpoints_that_come_and_go_do_not_grow_for_ever() -> None:
    for number in range(2500):
        prompts.learn(endpoint(model=str(number)), LONG, 2 * COUNTED)
    kept = [number for number in range(2500) if prompts.correction(endpoint(model=str(number))) != 1.0]
    assert kept[-1] == 2499
    assert len(kept) <= 1000


# Trimmed once more ----------------------------------------------------------------------------------------------
def dialogue(turns: int, *, system: bool = False) -> tuple[ChatMessage, ...]:
    pairs = [
        message for n in range(turns) for message in (ChatMessage("user", f"q{n}"), ChatMessage("assistant", f"a{n}"))
    ]
    return (*([SYSTEM] if system else []), *pairs, ChatMessage("user", "now"))


@pytest.mark.parametrize("system", [False, True])
def test_a_prompt_of_the_newest_message_alone_cannot_be_shortened(system: bool) -> None:
    assert prompts.shorten(dialogue(0, system=system)) is None


def test_the_older_half_of_the_turns_is_dropped() -> None:
    assert [message.content for message in prompts.shorten(dialogue(4)) or ()] == ["q2", "a2", "q3", "a3", "now"]
    assert [message.content for message in prompts.shorten(dialogue(3)) or ()] == ["q2", "a2", "now"]


@pytest.mark.parametrize("turns", range(1, 9))
@pytest.mark.parametrize("system", [False, True])
def test_shortening_keeps_the_ends_and_comes_to_an_end(turns: int, system: bool) -> None:
    prompt: tuple[ChatMessage, ...] | None = dialogue(turns, system=system)
    times = 0
    while prompt is not None:
        assert prompt[-1] == ChatMessage("user", "now")
        assert not system or prompt[0] == SYSTEM
        assert prompt[int(system)].role == "user"
        shorter = prompts.shorten(prompt)
        assert shorter is None or len(shorter) < len(prompt)
        prompt, times = shorter, times + 1
    assert times <= 5


def long_dialogue(turns: int = 20) -> CompletionRequest:
    return CompletionRequest(tuple(replace(message, content=message.content * 500) for message in dialogue(turns)))


def test_a_refusal_with_numbers_is_met_just_as_far_as_they_say() -> None:
    request = long_dialogue()
    estimated = prompts.estimate_prompt(request.messages)
    refusal = ContextLengthExceeded("too long", limit=estimated, prompt_tokens=2 * estimated)
    fitted = prompts.refit(endpoint(100_000), request, refusal)
    assert fitted is not None
    counted = 2 * prompts.estimate_prompt(fitted.messages)
    turn = 2 * prompts.estimate_prompt(request.messages[-3:-1])
    assert estimated - request.max_tokens - turn < counted <= estimated - request.max_tokens
    assert (fitted.messages[-1], fitted.max_tokens) == (request.messages[-1], request.max_tokens)
    assert prompts.correction(endpoint(100_000)) == pytest.approx(2.0, rel=0.01)
    assert prompts.window_of(endpoint(100_000)) == estimated


def test_an_answer_that_left_no_room_gets_less() -> None:
    request = replace(long_dialogue(0), max_tokens=8000)
    fitted = prompts.refit(endpoint(), request, ContextLengthExceeded("both", limit=4000, prompt_tokens=1000))
    assert fitted is not None
    assert (fitted.messages, fitted.max_tokens) == (request.messages, 3000)


def test_a_limit_alone_trims_also_where_our_own_count_would_fit() -> None:
    request = long_dialogue(8)
    limit = 4 * prompts.estimate_prompt(request.messages)
    fitted = prompts.refit(endpoint(1_000_000), request, ContextLengthExceeded("too long", limit=limit))
    assert fitted is not None
    assert len(fitted.messages) < len(request.messages)


@pytest.mark.parametrize("limit", [None, 5])
def test_no_numbers_drop_the_older_half(limit: int | None) -> None:
    fitted = prompts.refit(endpoint(), long_dialogue(4), ContextLengthExceeded("too long", limit=limit))
    assert fitted is not None
    assert fitted.messages == prompts.shorten(long_dialogue(4).messages)


def test_a_message_that_is_too_long_by_itself_is_not_asked_again() -> None:
    refusal = ContextLengthExceeded("too long", limit=200, prompt_tokens=5000)
    assert prompts.refit(endpoint(), long_dialogue(0), refusal) is None


# In the database ------------------------------------------------------------------------------------------------
def grow(conversation: Conversation, parent: Message | None, *contents: str) -> Message:
    """Hang a branch of messages below ``parent``; return its leaf."""
    for content in contents:
        is_question = parent is None or parent.role == Message.Role.ASSISTANT
        role = Message.Role.USER if is_question else Message.Role.ASSISTANT
        parent = Message.objects.create(conversation=conversation, parent=parent, role=role, content=content)
    assert parent is not None
    return parent


def contents(messages: Iterable[Message]) -> list[str]:
    return [message.content for message in messages]


@pytest.mark.django_db
def test_a_branch_is_read_past_its_siblings() -> None:
    conversation, other = Conversation.objects.create(), Conversation.objects.create()
    question = grow(conversation, None, "q1")
    first = grow(conversation, question, "a1")
    grow(other, None, "elsewhere")
    second = grow(conversation, question, "a1 again")
    continued = grow(conversation, first, "q2", "a2")
    late = grow(conversation, second, "q2 again", "a2 again")
    third = grow(conversation, question, "a1 at last")
    assert contents(services.branch(continued.pk, conversation)) == ["a2", "q2", "a1", "q1"]
    assert contents(services.branch(late.pk, conversation)) == ["a2 again", "q2 again", "a1 again", "q1"]
    assert contents(services.branch(third.pk, conversation)) == ["a1 at last", "q1"]
    assert contents(services.branch(question.pk, conversation)) == ["q1"]
    assert contents(services.branch(None, conversation)) == []


@pytest.mark.django_db
def test_a_branch_of_a_thousand_messages_is_one_query_and_is_read_no_further_than_a_page() -> None:
    conversation = Conversation.objects.create()
    leaf = grow(conversation, None, *(str(number) for number in range(1000)))
    made: list[Message] = []

    def count(instance: Message, **_kwargs: Any) -> None:
        made.append(instance)

    post_init.connect(count, sender=Message)
    try:
        with CaptureQueriesContext(connection) as queries:
            assert contents(islice(services.branch(leaf.pk, conversation), 3)) == ["999", "998", "997"]
    finally:
        post_init.disconnect(count, sender=Message)
    assert len(queries) == 1
    assert len(made) == branches.FIRST_LEVELS


def test_a_long_conversation_goes_to_the_model_as_far_as_it_fits(
    client: httpx.Client, model: ScriptedUpstream
) -> None:
    Preset.objects.create(
        type="small", name="S", api_url=model.url, model="small", context_window=1000, max_tokens=200
    )
    model.default = answer("答" * 100, usage=None)
    session_id = chat(client, "问" * 100, model_type="small").done["session_id"]
    for _turn in range(5):
        assert chat(client, "问" * 100, session_id=session_id, model_type="small").done["status"] == "completed"
    sent = [len(request.body["messages"]) for request in model.completions]
    assert sent == [1, 3, 5, 5, 5, 5]
    assert {request.body["max_tokens"] for request in model.completions} == {200}
