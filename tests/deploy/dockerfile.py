"""Run the steps of deploy/Dockerfile in an empty folder, and the command that it ends with: `make docker-check`.

There is no Docker here. A stage is a folder, `COPY` copies what .dockerignore lets through, and `RUN` runs in the
stage's folder with this Python as `python`. Owners are left alone where the user may not change them.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
WORKDIR = "/srv/chatproject"
START_SECONDS = 60
OPEN_SERVER = {"HOST": "127.0.0.1"}


def instructions(source: str) -> Iterator[tuple[str, str]]:
    """Give each instruction of a Dockerfile and what follows it, continued lines joined."""
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _space, rest = line.strip().partition(" ")
        yield name.upper(), rest.strip()


def context_files() -> list[str]:
    """Return the paths that .dockerignore lets through: of its rules, the last that fits counts."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for path in tracked.splitlines() if _is_sent(path, rules)]


def _is_sent(path: str, rules: list[str]) -> bool:
    sent = True
    for rule in rules:
        if any(_fits(part, rule.removeprefix("!").rstrip("/")) for part in [path, *map(str, Path(path).parents)]):
            sent = rule.startswith("!")
    return sent


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(Path(path).name, pattern.removeprefix("**/"))
    return fnmatch(path, pattern)


@dataclass
class Build:
    """What the steps did so far: a folder a stage, the variables, and the command at the end."""

    folder: Path
    tools: Path
    stages: dict[str, Path] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    @property
    def stage(self) -> Path:
        return self.stages[next(reversed(self.stages))]

    def step(self, name: str, rest: str) -> None:
        """Do one instruction; raises where it is none that is known here."""
        match name:
            case "FROM":
                self._begin(rest)
            case "WORKDIR":
                assert rest == WORKDIR, rest
            case "COPY":
                self._copy(shlex.split(rest))
            case "RUN":
                self.run(["sh", "-ec", rest])
            case "ENV":
                self.variables |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            case "CMD":
                self.command = json.loads(rest)
            case "HEALTHCHECK":
                self.health = json.loads(rest.partition("CMD")[2])
            case "USER" | "EXPOSE" | "STOPSIGNAL":
                pass
            case _:
                raise ValueError(f"{name} is not known here: teach tests/deploy/dockerfile.py what it does")

    def _begin(self, rest: str) -> None:
        _image, _as, stage = (*rest.split(), "", "")[:3]
        folder = self.folder / (stage or "last") / WORKDIR.removeprefix("/")
        folder.mkdir(parents=True)
        self.stages[stage or "last"] = folder

    def _copy(self, words: list[str]) -> None:
        if words[0].startswith("--from="):
            source = self.folder / words[0].removeprefix("--from=")
            shutil.copytree(source / words[1].removeprefix("/"), self.stage / words[2], symlinks=True)
            return
        sources, target = words[:-1], words[-1]
        for source in sources:
            paths = [path for path in context_files() if path == source or path.startswith(source.rstrip("/") + "/")]
            assert paths, f"{source} does not come through .dockerignore"
            for path in paths:
                place = self.stage / target / Path(path).relative_to(source) if target.endswith("/") else None
                if source == path:
                    place = self.stage / target / path if target == "./" else self.stage / target
                assert place is not None
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, place)

    def environment(self, **given: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in os.environ if name.startswith("PIP_") or name in ("HOME", "LANG")}
        return {**kept, "PATH": f"{self.tools}:{os.defpath}", **self.variables, **given}

    def run(self, command: list[str], **given: str) -> None:
        """Run a command in the stage, as a step does."""
        print("+", *command, flush=True)
        subprocess.run(command, cwd=self.stage, env=self.environment(**given), check=True, timeout=900)


def make_tools(folder: Path) -> Path:
    """Return a folder for PATH with this Python as `python`, and a `chown` that may fail where we are not root."""
    folder.mkdir()
    (folder / "python").symlink_to(Path(sys.executable).resolve())
    if os.geteuid():
        chown = folder / "chown"
        chown.write_text("#!/bin/sh\nexit 0\n")
        chown.chmod(0o755)
    return folder


def serve_and_ask(build: Build) -> None:
    """Migrate, run the image's command, ask as its HEALTHCHECK does, and end it with its signal."""
    port = str(free_port())
    build.run([".venv/bin/python", "manage.py", "migrate", "--no-input", "--verbosity=0"], **OPEN_SERVER)
    server = subprocess.Popen(build.command, cwd=build.stage, env=build.environment(**OPEN_SERVER | {"PORT": port}))
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/api/health/ready"):
            assert server.poll() is None, f"it ended with {server.returncode}"
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.1)
        build.run(build.health, PORT=port)
        server.terminate()
        assert server.wait(60) == 0, f"it ended with {server.returncode}"
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        build = Build(Path(folder), make_tools(Path(folder) / "tools"))
        for name, rest in instructions(DOCKERFILE.read_text()):
            build.step(name, rest)
        serve_and_ask(build)
    print("Every step of deploy/Dockerfile held, and what it makes serves.")


if __name__ == "__main__":
    main()
