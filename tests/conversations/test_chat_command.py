"""``manage.py chat``, as a process of its own: with pipes, and at a terminal (a pty)."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import databases
from tests.upstream import ScriptedUpstream, answer, status

ROOT = Path(__file__).resolve().parents[2]
MANAGE = [sys.executable, str(ROOT / "manage.py")]
SECONDS = 30.0
# In a session of its own, the first terminal that a process opens is the one whose Ctrl-C it gets.
TAKE_TERMINAL = "import os, sys; os.open(os.ttyname(0), os.O_RDWR); os.execv(sys.argv[1], sys.argv[1:])"


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, to be copied."""
    folder = tmp_path_factory.mktemp("chat")
    environ = {**os.environ, "DATABASE_URL": databases.url_of(folder)}
    subprocess.run([*MANAGE, "migrate", "-v0"], env=environ, check=True, timeout=120, cwd=ROOT)
    return folder


@pytest.fixture
def environ(migrated: Path, tmp_path: Path, upstream_thread: ScriptedUpstream) -> dict[str, str]:
    """The environment of a chat with the scripted upstream, on a database of its own."""
    databases.copy(migrated, tmp_path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLM_", "DEFAULT_MODEL"))}
    return {
        **kept,
        "DATABASE_URL": databases.url_of(tmp_path),
        "LLM_API_URL": upstream_thread.url,
        "LLM_MODEL": "scripted",
        "LLM_API_KEY": "sk-scripted-0123456789",
        "TITLES": "first_words",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONWARNINGS": "error",
    }


def chat(environ: dict[str, str], *arguments: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    """Run a chat with ``lines`` from a pipe, to its end."""
    command = [*MANAGE, "chat", *arguments]
    return subprocess.run(
        command, env=environ, input=lines, capture_output=True, encoding="utf-8", timeout=SECONDS, cwd=ROOT
    )


def session_of(text: str) -> str:
    found = re.search(r"--session ([0-9a-f-]{36})", text)
    assert found, text
    return found[1]


class Terminal:
    """A chat at a terminal: what is typed, and what appears."""

    def __init__(self, environ: dict[str, str], *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self._fresh = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *MANAGE, "chat", *arguments],
            env={**environ, "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=ROOT,
        )
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, wanted: str) -> str:
        """Wait until ``wanted`` appears; return what appeared up to it since the last call."""
        deadline = time.monotonic() + SECONDS
        while wanted not in self.text:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{wanted!r} did not appear in {self.text!r}"
            try:
                self.text += os.read(self._master, 65_536).decode("utf-8", "replace")
            except OSError:  # every process has closed it
                raise AssertionError(f"{wanted!r} did not appear in {self.text!r}") from None
        before, _, self.text = self.text.partition(wanted)
        return before + wanted

    def end(self) -> int:
        """Wait for the process; return its exit code."""
        return self.process.wait(SECONDS)

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal's settings (echo, line mode) are those that the chat found."""
        return termios.tcgetattr(self.slave) == self._fresh

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
        os.close(self.slave)


@contextmanager
def terminal(environ: dict[str, str], *arguments: str) -> Iterator[Terminal]:
    opened = Terminal(environ, *arguments)
    try:
        yield opened
    finally:
        opened.close()


# One message ------------------------------------------------------------------------------------------------------


def test_what_a_terminal_has_no_character_for_is_a_question_mark(environ: dict[str, str]) -> None:
    """As one in GBK has none for what models like to write."""
    ended = chat({**environ, "PYTHONIOENCODING": "gbk"}, "Hi 👋!")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "You said: Hi ?! (0 earlier messages)\n"


def test_one_message_is_answered_on_standard_output_alone(environ: dict[str, str]) -> None:
    done = chat(environ, "hello 你好")
    assert done.stdout == "You said: hello 你好 (0 earlier messages)\n"
    assert done.returncode == 0
    first, second, third = done.stderr.splitlines()
    assert first == "Chatting with scripted."
    assert second == f"Session {session_of(third)}"


def test_an_answer_that_was_cut_says_so(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.script = [answer("on and", finish="length")]
    done = chat(environ, "Hi")
    assert (done.returncode, done.stdout) == (0, "on and\n")
    assert "[cut at max_tokens]" in done.stderr.splitlines()


def test_a_session_goes_on(environ: dict[str, str]) -> None:
    session = session_of(chat(environ, "one").stderr)
    done = chat(environ, "--session", session, "two")
    assert done.stdout == "You said: two (2 earlier messages)\n"
    assert session_of(done.stderr) == session


def test_text_comes_as_the_model_writes_it(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.script = [answer("first ", "second", gate="go", gate_at=1)]
    with terminal(environ, "hi") as screen:
        screen.until("first ")
        upstream_thread.gate("go").open()
        screen.until("second\r\n")
        assert screen.end() == 0


def test_options_reach_the_model(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    chat(environ, "--system", "Be brief.", "--model", "default", "--user-id", "kim", "hi")
    [request] = upstream_thread.completions
    assert request.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]


def test_a_failure_is_one_line_and_exit_code_1(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.script = [status(401, {"error": {"message": "no\nsuch key"}})]
    done = chat(environ, "hi")
    assert done.returncode == 1
    assert done.stdout == ""
    assert len([line for line in done.stderr.splitlines() if "refused our key" in line and "no such key" in line]) == 1
    assert "Traceback" not in done.stderr


def test_a_partial_answer_is_shown_and_kept(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.script = [answer("so ", "far", cut=1)]
    done = chat(environ, "hi")
    assert done.returncode == 1
    assert done.stdout == "so \n"
    again = chat(environ, "--session", session_of(done.stderr), lines="/history\n")
    assert again.stdout == "you: hi\nmodel: so \n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--session", str(uuid.UUID(int=5)), "hi"], f"There is no session {uuid.UUID(int=5)}"),
        (["--session", "five", "hi"], "'five' is not a session id"),
        (["--model", "nope", "hi"], "There is no model type 'nope'; there are: "),
        (["--user-id", "user:1", "hi"], "may not begin with 'user:'"),
        (["  "], "The message is empty"),
        (["--system", "x" * 20_001, "hi"], "The system prompt has more than 20000 characters"),
        (["x" * 100_001], "The message has 100001 characters"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    environ: dict[str, str], upstream_thread: ScriptedUpstream, arguments: list[str], expected: str
) -> None:
    done = chat(environ, *arguments)
    assert done.returncode != 0
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert upstream_thread.calls == 0


def test_a_database_without_tables_is_one_line(environ: dict[str, str], tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    done = chat({**environ, "DATABASE_URL": databases.url_of(empty)}, "hi")
    assert done.returncode == 1
    assert "The database does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_reasoning_goes_to_standard_error(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.script = [answer("yes", reasoning=["hm, ", "well"])]
    done = chat(environ, "really?")
    assert done.stdout == "yes\n"
    assert "hm, well\n" in done.stderr
    assert "\x1b" not in done.stderr


def test_control_characters_of_a_model_reach_a_file_but_no_terminal(
    environ: dict[str, str], upstream_thread: ScriptedUpstream
) -> None:
    evil = "a\x1b]0;title\x07\x9b2Jb\tc\nd"
    upstream_thread.script = [answer(evil)]
    assert chat(environ, "hi").stdout == f"{evil}\n"
    upstream_thread.script = [answer(evil)]
    with terminal(environ, "hi") as screen:
        screen.until("a]0;title2Jb\tc\r\nd\r\n")


def test_ctrl_c_stops_the_one_answer(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.script = [answer("so ", "far", stall=1)]
    with terminal(environ, "hi") as screen:
        screen.until("so ")
        screen.process.send_signal(signal.SIGINT)
        assert screen.end() == 130
        text = screen.until("--session ")
        assert "[stopped; the text so far is kept]" in text
    upstream_thread.wait_until(lambda: upstream_thread.requests[0].closed_by_client)


# Lines from a pipe ------------------------------------------------------------------------------------------------


def test_a_line_is_a_message_and_blank_ones_are_none(environ: dict[str, str]) -> None:
    done = chat(environ, lines="one\n\n  \ntwo\nthree without an end")
    assert done.stdout.splitlines() == [
        "You said: one (0 earlier messages)",
        "You said: two (2 earlier messages)",
        "You said: three without an end (4 earlier messages)",
    ]
    assert done.returncode == 0
    assert "> " not in done.stdout + done.stderr


def test_lines_may_come_from_a_file(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one\n/quit\ntwo\n")
    with (tmp_path / "lines").open() as lines:
        done = subprocess.run(
            [*MANAGE, "chat"], env=environ, stdin=lines, capture_output=True, text=True, timeout=SECONDS, cwd=ROOT
        )
    assert done.stdout == "You said: one (0 earlier messages)\n"


def test_no_lines_are_no_conversation(environ: dict[str, str]) -> None:
    done = chat(environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Chatting with scripted.\n")


def test_small_commands(environ: dict[str, str]) -> None:
    done = chat(environ, lines="/history\none\n/new\n/etc/hosts is a path\n/history\n/help\n/quit\nnever\n")
    assert done.stdout.splitlines() == [
        "You said: one (0 earlier messages)",
        "You said: /etc/hosts is a path (0 earlier messages)",
        "you: /etc/hosts is a path",
        "model: You said: /etc/hosts is a path (0 earlier messages)",
    ]
    assert "Nothing was said yet." in done.stderr
    assert done.stderr.count("Session ") == 2


def test_what_no_database_stores_is_cleaned(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [*MANAGE, "chat"], env=environ, input=b"a\x00b\xffc\n", capture_output=True, timeout=SECONDS, cwd=ROOT
    )
    assert done.stdout.decode() == "You said: ab\ufffdc (0 earlier messages)\n"


def test_the_exit_code_tells_of_the_last_answer(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    failed = status(400, {"error": {"message": "no"}})
    upstream_thread.script = [failed]
    assert chat(environ, lines="one\ntwo\n").returncode == 0
    upstream_thread.script = [answer("yes"), failed]
    assert chat(environ, lines="one\ntwo\n").returncode == 1


def test_ctrl_c_leaves_while_a_pipe_brings_nothing(environ: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*MANAGE, "chat"],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=ROOT,
    )
    assert process.stdin
    assert process.stdout
    with process:
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "You said: one (0 earlier messages)\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert process.stderr
        assert "Fatal" not in (rest := process.stderr.read())
        assert session_of(rest)


# At a terminal ----------------------------------------------------------------------------------------------------


def test_a_conversation_at_a_terminal(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    with terminal(environ) as screen:
        assert "/quit leaves" in screen.until("> ")
        screen.type("hello\n")
        screen.until("You said: hello (0 earlier messages)\r\n")
        screen.until("> ")
        upstream_thread.script = [answer("yes", reasoning=["hm"])]
        screen.type("and?\n")
        assert "\x1b[2mhm\x1b[0m\r\nyes\r\n" in screen.until("yes\r\n")
        screen.until("> ")
        screen.type("/quit\n")
        screen.until("Go on with: manage.py chat --session ")
        assert screen.end() == 0
        assert screen.is_as_before


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["ctrl-c", "ctrl-d"])
def test_leaving_at_the_prompt_restores_the_terminal(environ: dict[str, str], key: str) -> None:
    with terminal(environ) as screen:
        screen.until("> ")
        screen.type("hello\n")
        screen.until("earlier messages)\r\n")
        screen.until("> ")
        screen.type(key)
        screen.until("--session ")
        assert screen.end() == 0
        assert screen.is_as_before
        assert "Traceback" not in screen.text


def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(
    environ: dict[str, str], upstream_thread: ScriptedUpstream
) -> None:
    upstream_thread.script = [answer("so ", "far", stall=1)]
    with terminal(environ) as screen:
        screen.until("> ")
        screen.type("long story\n")
        screen.until("so ")
        screen.type("\x03")
        screen.until("[stopped; the text so far is kept]")
        upstream_thread.wait_until(lambda: upstream_thread.requests[0].closed_by_client)
        screen.until("> ")
        screen.type("again\n")
        screen.until("You said: again (2 earlier messages)\r\n")
        screen.until("> ")
        screen.type("/history\n")
        screen.until("model: so \r\nyou: again\r\n")
        screen.type("/quit\n")
        assert screen.end() == 0


def test_an_error_does_not_end_the_chat(environ: dict[str, str], upstream_thread: ScriptedUpstream) -> None:
    upstream_thread.script = [status(400, {"error": {"message": "too odd"}})]
    with terminal(environ) as screen:
        screen.until("> ")
        screen.type("odd\n")
        screen.until("too odd")
        screen.until("> ")
        screen.type("even\n")
        screen.until("even (0 earlier messages)\r\n")
        screen.until("> ")
        screen.type("\x04")
        assert screen.end() == 0


def test_what_is_left_running_is_nothing(environ: dict[str, str]) -> None:
    """The worker signs off, no answer says "running"."""
    chat(environ, "hi")
    code = (
        "import json; from conversations.models import *; "
        "print(json.dumps([Worker.objects.count(), list(Generation.objects.values_list('status', flat=True))]))"
    )
    done = subprocess.run(
        [*MANAGE, "shell", "--no-imports", "-v0", "-c", code],
        env=environ,
        capture_output=True,
        check=True,
        text=True,
        timeout=SECONDS,
        cwd=ROOT,
    )
    assert json.loads(done.stdout) == [0, ["completed"]]


def test_a_thought_that_was_shown_as_the_answer_is_owned_up_to(
    environ: dict[str, str], upstream_thread: ScriptedUpstream
) -> None:
    upstream_thread.script = [answer("I ", "think.", "</think>", "Hi", delay=0.2)]
    result = chat(environ, lines="hi\n")
    assert result.stdout == "I think.Hi\n"
    assert "[the first 8 characters of this answer were only thought]" in result.stderr


def test_a_thought_that_was_shown_as_one_needs_no_word(
    environ: dict[str, str], upstream_thread: ScriptedUpstream
) -> None:
    upstream_thread.script = [answer("Hi", reasoning=["I ", "think."])]
    result = chat(environ, lines="hi\n")
    assert result.stdout == "Hi\n"
    assert "characters" not in result.stderr
