"""Runs what concerns databases on servers of its own, one after the other.

    python -m tests.on_servers [--wide] [postgresql] [mysql] [-- arguments of pytest]

The servers are new and on free ports, whatever else the machine runs. A server that is not installed is a failure.
What runs is where databases differ: statements, rows, locks, outages, values. ``--wide`` runs all but what shows
nothing of them, which takes twice as long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from .database_server import QUICK, DatabaseServer

ROOT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest"]
WHERE_DATABASES_DIFFER = [
    *(
        f"tests/conversations/test_{kind}.py"
        for kind in (
            "admin_*",
            "aisdk",
            "attachment*",
            "branches",
            "budgets",
            "claim_conversations",
            "compiled*",
            "conversations",
            "db",
            "dead*",
            "deletion",
            "engine*",
            "fallbacks",
            "feed",
            "hostile_values",
            "import_legacy",
            "limits",
            "living",
            "listing",
            "log_keys",
            "on_every_database",
            "openai",
            "outages*",
            "prun*",
            "recover_generations",
            "search",
            "seed_demo",
            "under_test",
            "usage",
        )
    ),
    *(f"tests/llmproviders/test_{kind}.py" for kind in ("fields", "models")),
    "tests/processes/test_*.py",
    *(f"tests/reliability/test_p{kind}_*.py" for kind in ("01", "02", "03", "04", "07", "12", "13", "15")),
]
# What these show hangs on no database: who may do what and how they show it, what a request and an answer look like,
# other people's clients and proxies, models' servers, how a process starts, what the documents say. `make test` runs
# them. What stays concerns rows, locks, outages and values that databases take differently.
SAME_ON_EVERY_DATABASE = [
    "tests/chatproject/test_[!d]*.py",
    "tests/chatproject/test_descriptors.py",
    "tests/chatproject/test_dotenv.py",
    "tests/clients/*",
    *(
        f"tests/conversations/test_{kind}.py"
        for kind in (
            "accept*",
            "access",
            "api_key_admin",
            "askers",
            "authorization_matrix",
            "base_urls",
            "behind_a_proxy",
            "bodies",
            "chat_command*",
            "checks",
            "credentials",
            "events",
            "host_settings",
            "images",
            "large_bodies",
            "local_processes",
            "odd_urls",
            "old_readme",
            "pace",
            "parsers",
            "prompts",
            "refusals_end_to_end",
            "request_forms",
            "router_check",
            "sessions",
            "shown_urls",
            "staff",
            "times",
            "transcript",
            "wsgi",
        )
    ),
    "tests/deploy/*",
    "tests/docs/*",
    *(
        f"tests/llmproviders/test_{kind}*.py"
        for kind in ("answer", "connection", "costly", "dial", "failures", "floods", "guard")
    ),
    *(f"tests/llmproviders/test_{kind}*.py" for kind in ("http", "local", "open", "over", "s", "text", "unopened")),
    "tests/reliability/test_p1[67]_*.py",
    "tests/test_*.py",
    "tests/upstream/*",
]


def main(arguments: list[str]) -> int:
    """Return the exit code: that of the first run that failed."""
    dashes = arguments.index("--") if "--" in arguments else len(arguments)
    kinds, options = arguments[:dashes], arguments[dashes + 1 :]
    if "--wide" in kinds:
        kinds.remove("--wide")
        chosen = [f"--ignore-glob={ROOT / pattern}" for pattern in SAME_ON_EVERY_DATABASE]
    else:
        chosen = sorted(str(path) for pattern in WHERE_DATABASES_DIFFER for path in ROOT.glob(pattern))
    for kind in kinds or list(QUICK):
        began = time.monotonic()
        with DatabaseServer(kind, quick=True) as server:
            print(f"The tests on {kind}:", flush=True)
            env = {**os.environ, "DATABASE_URL": server.url}
            code = subprocess.run([*PYTEST, *chosen, *options], cwd=ROOT, env=env, check=False).returncode
        print(f"{kind}: {time.monotonic() - began:.0f} s", flush=True)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
