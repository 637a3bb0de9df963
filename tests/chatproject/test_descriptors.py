"""A process has as many answers as it may have files open, and no more."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chatproject import descriptors
from tests.upstream import run_upstream_in_thread

from .processes import serving

HARD = 256
FIT = (HARD - 64) // 2


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Any:
    def set_limits(soft: int, hard: int) -> list[tuple[int, int]]:
        made: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda _what: made[-1] if made else (soft, hard))
        monkeypatch.setattr(resource, "setrlimit", lambda _what, limit: made.append(limit))
        return made

    return set_limits


@pytest.mark.parametrize(
    ("hard", "wanted", "expected"),
    [
        (1024, 2000, 448),
        (1024, 0, 448),
        (1024, 100, 100),
        (20_000, 2000, 2000),
        (16, 2000, 1),
        (resource.RLIM_INFINITY, 2000, 2000),
        (resource.RLIM_INFINITY, 0, 0),
    ],
)
def test_answers_fit_the_hard_limit(limits: Any, hard: int, wanted: int, expected: int) -> None:
    limits(64, hard)
    assert descriptors.fitting(wanted) == expected


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 4096, [(4096, 4096)]),
        (4096, 4096, []),
        (256, resource.RLIM_INFINITY, [(1_048_576, resource.RLIM_INFINITY)]),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_the_soft_limit_becomes_the_hard_one(limits: Any, soft: int, hard: int, expected: list[Any]) -> None:
    made = limits(soft, hard)
    descriptors.raise_limit()
    assert made == expected


@pytest.mark.server
def test_as_many_answers_as_it_says_run_under_a_low_limit(tmp_path: Path, database_url: str) -> None:
    with ExitStack() as opened:
        scripted = opened.enter_context(run_upstream_in_thread())
        given = {"LLM_API_URL": scripted.url, "LLM_MODEL": "scripted", "TITLES": "first_words", "DRAIN_SECONDS": "1"}
        message = {"message": '!script {"chunks": ["seen ", "rest"], "gate": "all", "gate_at": 1}'}
        low = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, {HARD}))"
        program = f"{low}; import runpy; runpy.run_module('chatproject', run_name='__main__', alter_sys=True)"
        started = serving(tmp_path / "log", ["-c", program], DATABASE_URL=database_url, **given)
        process, client = opened.enter_context(started)
        assert f"MAX_ANSWERS_PER_PROCESS is {FIT} instead of 2000" in process.output()
        streams = [opened.enter_context(client.stream("POST", "/chat", json=message)) for _ in range(FIT)]
        assert {stream.status_code for stream in streams} == {200}
        texts = [stream.iter_text() for stream in streams]
        for text in texts:
            while "seen" not in next(text):
                pass
        files = Path(f"/proc/{process.process.pid}/fd")
        if files.exists():  # Linux
            assert 2 * FIT < len(list(files.iterdir())) < HARD - 16
        assert client.post("/chat", json=message).json()["code"] == "server_busy"
        scripted.gate("all").open()
        assert all("completed" in "".join(text) for text in texts)
