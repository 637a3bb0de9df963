"""Runs the whole suite on database servers of its own, one after the other.

    python -m tests.on_servers [postgresql] [mysql] [-- arguments of pytest]

The servers are new and on free ports, whatever else the machine runs. A server that is not installed is a failure.
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


def main(arguments: list[str]) -> int:
    """Return the exit code: that of the first run that failed."""
    dashes = arguments.index("--") if "--" in arguments else len(arguments)
    kinds, options = arguments[:dashes], arguments[dashes + 1 :]
    for kind in kinds or list(QUICK):
        began = time.monotonic()
        with DatabaseServer(kind, quick=True) as server:
            print(f"The tests on {kind}:", flush=True)
            env = {**os.environ, "DATABASE_URL": server.url}
            code = subprocess.run([*PYTEST, *options], cwd=ROOT, env=env, check=False).returncode
        print(f"{kind}: {time.monotonic() - began:.0f} s", flush=True)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
