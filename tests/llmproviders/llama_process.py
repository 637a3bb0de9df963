"""llama.cpp's own server on a free loopback port, as any operator starts it: a model file, a chat template, a window.

``python -P PATH MODEL TEMPLATE WINDOW``: prints its port once it answers, and ends when standard input closes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import xllamacpp

SLOTS = 2


def main() -> None:
    model, template, window = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [os.environ["LLAMA_API_KEY"]]
    params.use_jinja = True
    params.chat_template = Path(template).read_text()
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * int(window)
    params.ctx_shift = params.fit_params = params.warmup = params.ui = False
    params.cpuparams.n_threads = os.cpu_count() or 1
    params.verbosity = 1
    server = xllamacpp.Server(params)  # ends with its object, hence the name
    print(server.listening_address.rpartition(":")[2], flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # an answer in progress would be waited for


if __name__ == "__main__":
    main()
