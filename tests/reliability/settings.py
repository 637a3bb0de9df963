"""Settings of the server processes under test: the project's own, and what a test changes in them.

``OVERRIDES`` of the environment is a JSON object: ``conversations`` and ``providers`` hold keys of the two apps'
settings, ``pragmas`` SQL for each new SQLite connection.
"""

import json
import os

from chatproject.settings import *  # noqa: F403
from chatproject.settings import CONVERSATIONS, DATABASES, LLMPROVIDERS

_overrides = json.loads(os.environ.get("OVERRIDES", "{}"))
CONVERSATIONS = {**CONVERSATIONS, **_overrides.get("conversations", {})}
LLMPROVIDERS = {**LLMPROVIDERS, **_overrides.get("providers", {})}
if _pragmas := _overrides.get("pragmas"):
    _options = DATABASES["default"]["OPTIONS"]
    _options["init_command"] = f"{_options['init_command'].rstrip('; ')}; {_pragmas}"
if "timeout" in _overrides:
    DATABASES["default"]["OPTIONS"]["timeout"] = _overrides["timeout"]
