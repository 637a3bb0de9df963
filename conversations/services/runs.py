"""Runs of clients that name each answer before they ask for it, and threads and messages, and send all of a thread.

What is stored is believed over what is sent: of a thread that we have, the last message counts, and where it is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..access.rules import Action, Caller, authorize
from ..engine.events import COMPLETED, AnswerIds, ids_of
from ..engine.producer import ReplyOptions
from ..exceptions import ReplyInProgress
from ..models import Conversation, Generation, Message, ToolResult
from .beginnings import Beginning, Said, by_tools
from .branches import ACTIVE_LEAF
from .client_chats import ATTEMPTS, check_number, find_chat
from .client_names import MessageName, message_named, messages_named
from .generations import stop_generation
from .idempotency import Idempotency
from .replies import start_reply
from .turns import results_to

# Of the answers that a client has, so many are looked for: from the last on.
MOST_HELD = 10


@dataclass(frozen=True, slots=True)
class Run:
    """What a client asks for: the thread's name, what was said in it, and the key of this run.

    ``said`` ends in the user's last message or, with ``results``, in the answer that asked for them. ``brought`` are
    results that come right before that message. ``held`` are the answers that the client has to it. ``system_prompt``
    None leaves what there is.
    """

    thread_id: str
    key: Idempotency
    said: Sequence[Said]
    results: Sequence[ToolResult] = ()
    brought: Sequence[ToolResult] = ()
    held: Sequence[str] = ()
    system_prompt: str | None = None


def start_run(*, caller: Caller, run: Run, options: ReplyOptions) -> AnswerIds:
    """Begin the answer that a run asks for, or find it: by the run's key, or as the client has a part of it.

    A thread that we do not know becomes a conversation of all that was said. What is being answered in one that we
    have is stopped, with its text: the client turned to something new. Raises as ``start_reply`` does.
    """
    authorize(caller, Action.CHAT)
    for _attempt in range(ATTEMPTS - 1):
        try:
            return _started(caller, run, options)
        except ReplyInProgress:
            _make_way(caller, run)
    return _started(caller, run, options)


def _started(caller: Caller, run: Run, options: ReplyOptions) -> AnswerIds:
    conversation = find_chat(caller=caller, chat_id=run.thread_id, action=Action.CHAT)
    if conversation is None:
        return _begun(caller, run, options)
    if ids := _held(conversation, run):
        return ids
    session_id, beginning = conversation.session_id, Beginning(run.system_prompt)
    if run.results:
        asking = _last_answer(conversation, run.said)
        return start_reply(
            caller=caller,
            tool_results=run.results,
            session_id=session_id,
            parent_id=asking.pk if asking else ACTIVE_LEAF,
            options=options,
            beginning=beginning,
            idempotency=run.key,
        )
    asked = run.said[-1]
    known = message_named(conversation, asked.client_id, role=Message.Role.USER) if asked.client_id else None
    before = None if known else _last_answer(conversation, run.said)
    brought = results_to(before, run.brought) if before else []
    return start_reply(
        caller=caller,
        message=asked.content,
        session_id=session_id,
        # What is sent again, by another run, is answered again; what is edited goes where it was.
        parent_id=known.parent_id if known else before.pk if before else ACTIVE_LEAF,
        options=options,
        beginning=replace(beginning, said=[by_tools(brought)]) if brought else beginning,
        idempotency=run.key,
        name=MessageName(asked.client_id, known.pk if known else None) if asked.client_id else None,
    )


def _begun(caller: Caller, run: Run, options: ReplyOptions) -> AnswerIds:
    """Begin a conversation with all that was said."""
    asked = None if run.results else run.said[-1]
    before = _named_once(run.said if asked is None else run.said[:-1], asked.client_id if asked else None)
    check_number(before)
    return start_reply(
        caller=caller,
        message=asked.content if asked else "",
        tool_results=run.results,
        options=options,
        beginning=Beginning(run.system_prompt, before, run.thread_id),
        idempotency=run.key,
        name=MessageName(asked.client_id) if asked and asked.client_id else None,
    )


def _named_once(said: Sequence[Said], taken: str | None) -> list[Said]:
    names, found = {taken}, []
    for message in said:
        found.append(message._replace(client_id=None) if message.client_id in names else message)
        names.add(message.client_id)
    return found


def _held(conversation: Conversation, run: Run) -> AnswerIds | None:
    """Return the newest answer of which a client has a part, unless it failed or was stopped: it asks once more."""
    names = run.held[: -MOST_HELD - 1 : -1]
    answers = messages_named(conversation, names, role=Message.Role.ASSISTANT)
    generations = Generation.objects.with_ids().filter(message__in=answers.values()) if answers else ()
    made = {generation.message_id: generation for generation in generations}
    for answer in (answers[name] for name in names if name in answers):
        generation = made.get(answer.pk)
        if generation is not None and (generation.is_running or generation.status == COMPLETED):
            return ids_of(generation)
    return None


def _last_answer(conversation: Conversation, said: Sequence[Said]) -> Message | None:
    """Return the last answer among what was said, if that is one of the conversation."""
    names = (message.client_id for message in reversed(said) if message.role == Message.Role.ASSISTANT)
    name = next(names, None)
    return message_named(conversation, name, role=Message.Role.ASSISTANT) if name else None


def _make_way(caller: Caller, run: Run) -> None:
    conversation = find_chat(caller=caller, chat_id=run.thread_id, action=Action.STOP)
    running = Generation.objects.filter(active_for=conversation) if conversation else None
    if running is not None and (generation_id := running.values_list("pk", flat=True).first()):
        stop_generation(caller=caller, generation_id=generation_id)
