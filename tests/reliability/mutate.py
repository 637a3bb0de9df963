"""Breaks what each promise rests on, one patch at a time, and expects the promise's test to fail.

    python -m tests.reliability.mutate [NAME...]

Each ``mutations/*.patch`` begins with the tests that have to fail, a line each, then comes the diff::

    # test: tests/reliability/test_p09_drain.py::test_p9_sigterm_lets_answers_end_and_tells_every_reader

It is applied to a copy of the tree; the copy's tests run in small size. The exit code is 0 if each patch applied
and each of its tests failed. NAME takes only the patches whose names contain one of these words.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MUTATIONS = Path(__file__).with_name("mutations")
# What a copy does without; the interpreter that runs this one runs its tests, too.
LEFT_OUT = shutil.ignore_patterns(
    ".venv", "var", ".git", ".env", "__pycache__", ".*_cache", ".hypothesis", "node_modules"
)
TESTS_FAILED = 1  # pytest's exit code
TIMEOUT_SECONDS, TEARDOWN_SECONDS = 300.0, 60.0
TAIL_LINES = 30


@dataclass(frozen=True, slots=True)
class Mutation:
    """A patch, and the tests that it has to make fail."""

    path: Path
    tests: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Mutation:
        return cls(path, tuple(re.findall(r"^# test: (\S.*)$", path.read_text(), re.MULTILINE)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one test under one mutation; ``word`` is ``red`` where all is well."""

    mutation: Mutation
    test: str
    word: str
    seconds: float
    output: str = ""


def main(words: list[str]) -> int:
    """Try the mutations that ``words`` name, all without words; return the exit code."""
    paths = [
        path for path in sorted(MUTATIONS.glob("*.patch")) if not words or any(word in path.name for word in words)
    ]
    if not paths:
        print(f"no patch in {MUTATIONS} is named so", file=sys.stderr)
        return 2
    outcomes = []
    for path in paths:
        for outcome in tried(Mutation.read(path)):
            outcomes.append(outcome)
            print(f"{outcome.word:<16} {outcome.seconds:5.1f} s  {path.stem:<40} {outcome.test}", flush=True)
    wrong = [outcome for outcome in outcomes if outcome.word != "red"]
    for outcome in wrong:
        print(f"\n{outcome.mutation.path.name}: {outcome.test}: {outcome.word}\n{outcome.output}", file=sys.stderr)
    print(f"\n{len(outcomes)} breaks tried, {len(wrong)} not noticed")
    return 1 if wrong else 0


def tried(mutation: Mutation) -> list[Outcome]:
    """Apply a mutation to a copy of the tree and run its tests there."""
    if not mutation.tests:
        return [Outcome(mutation, "", "names no test", 0.0)]
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        (copy / "var").mkdir()
        applied = run(["git", "apply", "--whitespace=nowarn", str(mutation.path)], copy)
        if applied.returncode:
            return [Outcome(mutation, mutation.tests[0], "does not apply", 0.0, applied.stdout)]
        return [tested(mutation, test, copy) for test in mutation.tests]


def tested(mutation: Mutation, test: str, copy: Path) -> Outcome:
    """Run one test in a mutated tree."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    try:
        done = run(command, copy)
    except subprocess.TimeoutExpired:
        return Outcome(mutation, test, "took too long", time.monotonic() - began)
    word = {0: "GREEN", TESTS_FAILED: "red"}.get(done.returncode, f"pytest ended {done.returncode}")
    output = "\n".join(done.stdout.splitlines()[-TAIL_LINES:])
    return Outcome(mutation, test, word, time.monotonic() - began, output)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a tree, without what ties it to the repository that this one is.

    One that takes too long is interrupted, as with Ctrl-C: what its tests started ends with them.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**env, "RELIABILITY": "small", "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            output, _none = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=TEARDOWN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
