"""What a person types, or a pipe brings."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PROMPT = "> "


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
            own = open(sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
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
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(arrive, text and clean(text))

        def arrive(text: str | None) -> None:
            if not line.done():
                line.set_result(text)

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
