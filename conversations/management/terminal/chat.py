"""The conversation: what is typed goes to the engine, what the engine says to the screen."""

from __future__ import annotations

import asyncio
import shlex
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ... import conf, services
from ...access.credentials import Connection
from ...access.rules import Caller
from ...database import db
from ...engine import completions, engines
from ...engine.events import COMPLETED, STOPPED, AnswerIds, DoneEvent, Ending
from ...engine.reader import open_reader
from ...exceptions import ChatError, NotFound
from ...limits.rates import check_rate
from ...models import Conversation, Message, UserConfig
from .lines import Lines
from .screen import Screen

WHO = {
    Message.Role.USER: gettext_lazy("you"),
    Message.Role.ASSISTANT: gettext_lazy("model"),
    Message.Role.TOOL: gettext_lazy("tool"),
}
HELP = gettext_lazy(
    "/new begins a new conversation, /history shows this one, /quit leaves; Ctrl-C stops an answer, then leaves."
)
INTERRUPTED_EXIT = 130
# Who sits at the terminal calls from nowhere: requests count for their account.
HERE = Connection(peer="", headers={})


@dataclass(kw_only=True)
class Chat:
    """A conversation with a person at a terminal, or with lines from a pipe.

    ``caller`` is the operator, who sees everything, or an account: then all counts as if it came over the API.
    """

    caller: Caller = field(default_factory=lambda: Caller(sees_all=True))
    session_id: uuid.UUID | None = None
    model_type: str = ""
    user_id: str = ""
    system_prompt: str = ""
    color: bool = True

    def __post_init__(self) -> None:
        self._screen = Screen(color=self.color)
        self._interrupt = asyncio.Event()

    async def run(self, message: str | None) -> int:
        """Answer ``message``, or what is typed until the end; return the exit code.

        Raises ``ChatError`` for a session or a model that is not there.
        """
        async with self._engine():
            await db.read(self._check)
            if message is not None:
                return _exit_code(await self._turn(message))
            return await self._talk()

    @asynccontextmanager
    async def _engine(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt.set)
        try:
            yield
        finally:
            if self.session_id:
                self._screen.say(_("Go on with: %(command)s") % {"command": self._command()})
            await engines.shutdown()
            await asyncio.to_thread(db.close)
            loop.remove_signal_handler(signal.SIGINT)

    def _command(self) -> str:
        user = ["--user", self.caller.user.get_username()] if self.caller.user else []
        return shlex.join(["manage.py", "chat", *user, "--session", str(self.session_id)])

    def _check(self) -> None:
        """Database job: find out at once what no answer could come of."""
        conversation = self._conversation() if self.session_id else None
        known = completions.known_model_types()
        if self.model_type and self.model_type not in known:
            names = {"type": repr(self.model_type), "types": ", ".join(sorted(known))}
            raise ChatError(_("There is no model type %(type)s; there are: %(types)s.") % names)
        label = self.caller.labelled(self.user_id).user_identifier or (
            conversation.user_identifier if conversation else ""
        )
        endpoint = completions.endpoint_for(
            asked=self.model_type,
            conversation=conversation.model_type if conversation else "",
            config=UserConfig.objects.owned_by(label).first(),
        )
        needs_label = endpoint.is_demo and "demo" not in endpoint.name
        text = _("Chatting with %(model)s (demo).") if needs_label else _("Chatting with %(model)s.")
        self._screen.say(text % {"model": endpoint.name})

    def _conversation(self) -> Conversation:
        assert self.session_id is not None
        session_id, self.session_id = self.session_id, None
        try:
            conversation = services.get_conversation(caller=self.caller, session_id=session_id)
        except NotFound:
            raise ChatError(_("There is no session %(session)s.") % {"session": session_id}) from None
        self.session_id = session_id
        return conversation

    # Turns ----------------------------------------------------------------------------------------------------

    async def _talk(self) -> int:
        """Take line after line until there are no more, /quit, or Ctrl-C at the prompt."""
        commands = {"/new": self._new, "/history": self._history, "/help": self._help}
        code = 0
        with Lines.of_this_process() as lines:
            if lines.interactive:
                await self._help()
            while (line := await self._next(lines)) is not None and line.strip() != "/quit":
                if command := commands.get(line.strip()):
                    await command()
                elif line.strip():
                    code = _exit_code(await self._turn(line))
                    if not lines.interactive and code == INTERRUPTED_EXIT:
                        break
            return 0 if lines.interactive else code

    async def _next(self, lines: Lines) -> str | None:
        """Return the next line; None at their end, or when Ctrl-C came first."""
        self._interrupt.clear()
        reading = asyncio.ensure_future(lines.next())
        interrupted = asyncio.ensure_future(self._interrupt.wait())
        try:
            await asyncio.wait({reading, interrupted}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and (line := reading.result()) is not None:
                return line
            if lines.interactive:
                self._screen.say("")  # the cursor stands behind the prompt
            return None
        finally:
            reading.cancel()
            interrupted.cancel()

    async def _turn(self, message: str) -> Ending | None:
        """Send a message and show its answer; return how it ended, None where it was refused."""
        self._interrupt.clear()
        try:
            ids = await db.write(self._start, message)
        except ChatError as error:
            self._screen.say(str(error))
            return None
        stopper = asyncio.create_task(self._stop_on_interrupt(ids.generation_id))
        try:
            return await self._show(ids)
        finally:
            stopper.cancel()
            with suppress(asyncio.CancelledError):
                await stopper

    def _start(self, message: str) -> AnswerIds:
        """Database job: store the message and begin its answer."""
        if self.caller.user:
            check_rate(HERE, self.caller)
        if len(message) > (limit := conf.get().MAX_MESSAGE_LENGTH):
            lengths = {"length": len(message), "limit": limit}
            raise ChatError(_("The message has %(length)d characters; at most %(limit)d are allowed.") % lengths)
        with transaction.atomic():
            ids = services.start_reply(
                caller=self.caller,
                message=message,
                session_id=self.session_id or self._prepared(),
                user_id=self.user_id,
                options=services.ReplyOptions(model_type=self.model_type),
            )
        if self.session_id is None:
            self._screen.say(_("Session %(session)s") % {"session": ids.session_id})
        self.session_id = ids.session_id
        return ids

    def _prepared(self) -> uuid.UUID | None:
        """Begin a conversation with the system prompt, if there is one."""
        if not self.system_prompt:
            return None
        whose = self.caller.labelled(self.user_id)
        return services.create_conversation(caller=whose, system_prompt=self.system_prompt).session_id

    async def _stop_on_interrupt(self, generation_id: uuid.UUID) -> None:
        await self._interrupt.wait()
        await engines.current().stop(generation_id)

    async def _show(self, ids: AnswerIds) -> Ending:
        reader = await open_reader(ids.generation_id)
        async with aclosing(reader.batches()) as batches:
            async for event in (event async for batch in batches for event in batch):
                self._screen.show(event)
                if isinstance(event, DoneEvent):
                    return event.ending
        raise AssertionError("a reader ended without DoneEvent")

    # Commands -------------------------------------------------------------------------------------------------

    async def _new(self) -> None:
        self.session_id = None
        self._screen.say(_("A new conversation begins with your next message."))

    async def _help(self) -> None:
        self._screen.say(str(HELP))

    async def _history(self) -> None:
        if self.session_id is None:
            self._screen.say(_("Nothing was said yet."))
            return
        for message in await db.read(self._load_history, self.session_id):
            self._screen.tell(str(WHO[Message.Role(message.role)]), message.content)

    def _load_history(self, session_id: uuid.UUID) -> list[Message]:
        conversation = services.get_conversation(caller=self.caller, session_id=session_id)
        return list(services.branch(conversation.active_leaf_id, conversation))[::-1]


def _exit_code(ending: Ending | None) -> int:
    if ending is None:
        return 1
    return {COMPLETED: 0, STOPPED: INTERRUPTED_EXIT}.get(ending.status, 1)
