"""A chat in a terminal, on the same engine as every other edge.

Answers go to standard output, everything else to standard error. Ctrl-C stops a running answer, and at the
prompt it leaves.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TextIO

from . import completions, conf, db, services
from .access import Caller
from .exceptions import ChatError
from .generation import supervisor
from .generation.events import CONTENT, AnswerIds, DoneEvent, Ending, ErrorEvent, Event, Piece
from .generation.events import COMPLETED, STOPPED
from .generation.reader import open_reader
from .models import Message, UserConfig

PROMPT = "> "
HELP = "/new begins a new conversation, /history shows this one, /quit leaves; Ctrl-C stops an answer, then leaves."
INTERRUPTED_EXIT = 130
DIM, PLAIN = "\x1b[2m", "\x1b[0m"
# What a model writes must not steer the terminal; line ends and tabs are fine.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(kw_only=True)
class Chat:
    """A conversation with a person at a terminal, or with lines from a pipe."""

    session_id: uuid.UUID | None = None
    model_type: str = ""
    user_id: str = ""
    system_prompt: str = ""
    color: bool = True

    def __post_init__(self) -> None:
        self._screen = Screen(color=self.color)
        self._interrupt = asyncio.Event()
        self._caller = Caller(sees_all=True)

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
                self._screen.say(f"Go on with: manage.py chat --session {self.session_id}")
            await supervisor.shutdown()
            await asyncio.to_thread(db.close)
            loop.remove_signal_handler(signal.SIGINT)

    def _check(self) -> None:
        """Database job: find out at once what no answer could come of."""
        conversation = None
        if self.session_id:
            session_id, self.session_id = self.session_id, None
            conversation = services.get_conversation(caller=self._caller, session_id=session_id)
            self.session_id = session_id
        label = self.user_id or (conversation.user_identifier if conversation else "")
        endpoint = completions.endpoint_for(
            asked=self.model_type,
            conversation=conversation.model_type if conversation else "",
            config=UserConfig.objects.owned_by(label).first(),
        )
        demo = " (a small demo model, English only)" if endpoint.is_demo else ""
        self._screen.say(f"Chatting with {endpoint.name}{demo}.")

    # Turns ----------------------------------------------------------------------------------------------------

    async def _talk(self) -> int:
        """Take line after line until there are no more, /quit, or Ctrl-C at the prompt."""
        commands = {"/new": self._new, "/history": self._history, "/help": self._help}
        ending: Ending | None = None
        with Lines.of_this_process() as lines:
            if lines.interactive:
                await self._help()
            while (line := await self._next(lines)) is not None and line.strip() != "/quit":
                if command := commands.get(line.strip()):
                    await command()
                elif line.strip():
                    ending = await self._turn(line)
                    if not lines.interactive and _exit_code(ending) == INTERRUPTED_EXIT:
                        break
            return 0 if lines.interactive else _exit_code(ending or Ending(COMPLETED))

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
        if len(message) > (limit := conf.get().MAX_MESSAGE_LENGTH):
            raise ChatError(f"The message has {len(message)} characters; at most {limit} are allowed.")
        is_new = self.session_id is None
        if is_new and self.system_prompt:
            whose = self._caller.labelled(self.user_id)
            self.session_id = services.create_conversation(caller=whose, system_prompt=self.system_prompt).session_id
        ids = services.start_reply(
            caller=self._caller,
            message=message,
            session_id=self.session_id,
            user_id=self.user_id,
            options=services.ReplyOptions(model_type=self.model_type),
        )
        self.session_id = ids.session_id
        if is_new:
            self._screen.say(f"Session {ids.session_id}")
        return ids

    async def _stop_on_interrupt(self, generation_id: uuid.UUID) -> None:
        await self._interrupt.wait()
        await supervisor.current().stop(generation_id)

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
        self._screen.say("A new conversation begins with your next message.")

    async def _help(self) -> None:
        self._screen.say(HELP)

    async def _history(self) -> None:
        if self.session_id is None:
            self._screen.say("Nothing was said yet.")
            return
        for message in await db.read(self._load_history, self.session_id):
            self._screen.tell("you" if message.role == Message.Role.USER else "model", message.content)

    def _load_history(self, session_id: uuid.UUID) -> list[Message]:
        conversation = services.get_conversation(caller=self._caller, session_id=session_id)
        return list(services.branch(conversation.active_leaf_id, conversation))[::-1]


class Screen:
    """Writes answers to standard output and the rest to standard error, each at once."""

    def __init__(self, *, color: bool) -> None:
        self._out, self._err = sys.stdout, sys.stderr
        self._dim = color and self._err.isatty()
        self._mid_line: TextIO | None = None

    def say(self, text: str) -> None:
        """Write a line about the chat."""
        self._write(self._err, f"{self._safe(self._err, text)}\n")

    def tell(self, who: str, text: str) -> None:
        """Write a message of the history."""
        self._write(self._out, f"{who}: {self._safe(self._out, text)}\n")

    def show(self, event: Event) -> None:
        """Write what a reader yields; every answer ends with a line end."""
        if isinstance(event, Piece):
            stream = self._out if event.kind == CONTENT else self._err
            text = self._safe(stream, event.text)
            self._write(stream, f"{DIM}{text}{PLAIN}" if stream is self._err and self._dim else text, ends=text)
        elif isinstance(event, ErrorEvent):
            self.say(" ".join(event.message.split()))
        elif isinstance(event, DoneEvent):
            self._end_line()
            if event.ending.status not in (COMPLETED, "failed"):
                self.say(f"[{event.ending.status}; the text so far is kept]")

    @staticmethod
    def _safe(stream: TextIO, text: str) -> str:
        return STEERING.sub("", text) if stream.isatty() else text

    def _write(self, stream: TextIO, text: str, *, ends: str | None = None) -> None:
        if self._mid_line not in (None, stream) or (ends is None and self._mid_line):
            self._end_line()
        stream.write(text)
        stream.flush()
        self._mid_line = None if (ends or text).endswith("\n") else stream

    def _end_line(self) -> None:
        if stream := self._mid_line:
            self._mid_line = None
            stream.write("\n")
            stream.flush()


class Lines:
    """Lines of standard input, read in threads that may be left behind while they wait for one."""

    def __init__(self, read: Callable[[], str | None], *, interactive: bool) -> None:
        self._read = read
        self.interactive = interactive

    @classmethod
    @contextmanager
    def of_this_process(cls) -> Iterator[Lines]:
        """Prompt and edit lines on a terminal, else read them as they come."""
        if sys.stdin.isatty() and sys.stdout.isatty():
            with suppress(ImportError):
                import readline  # noqa: F401  (gives `input` editing and a history)
            with _terminal_restored():
                yield cls(_prompted, interactive=True)
        else:
            # Not sys.stdin: a thread that waits in it would hold a lock that the interpreter's end needs.
            own = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8", errors="replace")
            yield cls(lambda: own.readline() or None, interactive=False)

    async def next(self) -> str | None:
        """Return the next line, None at the end."""
        loop = asyncio.get_running_loop()
        line: asyncio.Future[str | None] = loop.create_future()

        def read() -> None:
            try:
                text = self._read()
            except (OSError, ValueError):  # closed under us
                text = None
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(lambda: line.done() or line.set_result(text and clean(text)))

        threading.Thread(target=read, name="stdin", daemon=True).start()
        return await line


def clean(line: str) -> str:
    """Return what a person typed without what no database stores."""
    return line.rstrip("\r\n").replace("\x00", "").encode("utf-8", "replace").decode()


def _prompted() -> str | None:
    try:
        return input(PROMPT)
    except EOFError:
        return None


@contextmanager
def _terminal_restored() -> Iterator[None]:
    """A thread that is left behind in `input` leaves the terminal as it was for editing: without echo."""
    import termios

    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _exit_code(ending: Ending | None) -> int:
    if ending is None:
        return 1
    return {COMPLETED: 0, STOPPED: INTERRUPTED_EXIT}.get(ending.status, 1)
