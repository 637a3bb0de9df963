"""The child process of ``local.py``: llama.cpp's OpenAI-compatible server on a free loopback port.

Run as a script, outside of the package, so that it loads neither Django nor an HTTP client. The first line of
standard input is the API key; the one line that it prints is the port, once it answers. It ends when standard
input closes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

import xllamacpp

# Beyond a few threads a model of this size only waits for itself.
MAX_THREADS = 4
PROMPT_CACHE_MIB = 128  # the default is 8 GiB


def main() -> None:
    arguments = _arguments()
    # Ctrl-C and a service manager's SIGTERM go to the whole process group, while answers may still be drained:
    # the parent decides when this ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    key = sys.stdin.buffer.readline().decode().strip()
    if not key:
        return  # the parent is gone already
    # Also while the model loads: nobody may be left to read the port.
    watcher = threading.Thread(target=_exit_with_parent, daemon=True)
    watcher.start()
    server = _serve(arguments, key)  # ends with its object, hence the name
    sys.stdout.write(f"{server.listening_address.rpartition(':')[2]}\n")
    sys.stdout.flush()
    watcher.join()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--context-window", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    return parser.parse_args()


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    # Not sys.exit: an answer in progress would be waited for.
    os._exit(0)


def _serve(arguments: argparse.Namespace, key: str) -> xllamacpp.Server:
    """Start the server in threads of this process and return it once it answers."""
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [key]
    params.use_jinja = True  # the chat template that the model file holds
    # llama.cpp divides the context among the slots; this gives each the whole window.
    params.n_ctx = arguments.context_window * arguments.parallel
    params.n_parallel = arguments.parallel
    params.ctx_shift = False  # a prompt that is too long is an error, not a silently shortened one
    params.cpuparams.n_threads = min(MAX_THREADS, os.cpu_count() or 1)
    # A long prompt is read in steps of this size; between them other answers go on and a cancelled one ends.
    params.n_batch = 512
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.fit_params = params.warmup = params.ui = False
    params.verbosity = 1  # errors, to standard error
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
