"""The embedded demo model: starts llama.cpp's own server and talks to it as to any other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar

from django.core.checks import CheckMessage, Warning
from django.utils.translation import gettext as _

from .. import conf, local
from ..base import Provider
from ..types import CompletionFinished, CompletionRequest, Delta
from .openai_compatible import OpenAICompatible

# llama.context_length of the model file.
TRAINED_CONTEXT_WINDOW = 8192


class Embedded(Provider):
    """SmolLM2-135M on this machine: English only, for a first try. Needs no URL and no key."""

    is_demo: ClassVar[bool] = True
    needs_url: ClassVar[bool] = False

    @classmethod
    def is_available(cls) -> bool:
        """Whether its packages are installed."""
        return local.is_installed()

    @classmethod
    def context_limit(cls) -> int:
        """The tokens that one conversation gets, whatever its preset says."""
        return conf.get().LOCAL_CONTEXT_WINDOW

    @classmethod
    def check(cls) -> list[CheckMessage]:
        """Warn of a context window in which the model only babbles."""
        if conf.get().LOCAL_CONTEXT_WINDOW <= TRAINED_CONTEXT_WINDOW:
            return []
        return [
            Warning(
                _("%(setting)s is larger than what the embedded model was trained on.")
                % {"setting": f"{conf.NAME}['LOCAL_CONTEXT_WINDOW']"},
                hint=_("Use at most %(limit)d.") % {"limit": TRAINED_CONTEXT_WINDOW},
                id="llmproviders.W002",
            )
        ]

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        settings = conf.get()
        address = await local.ensure(
            local.Options(
                context_window=settings.LOCAL_CONTEXT_WINDOW,
                parallel=settings.LOCAL_PARALLEL,
                start_timeout=settings.LOCAL_START_TIMEOUT,
            )
        )
        endpoint = replace(self.endpoint, api_url=address.api_url, api_key=address.api_key, set_by="program")
        server = OpenAICompatible(endpoint)
        server.turn = self.turn
        async with aclosing(server.stream(request)) as deltas:
            async for delta in deltas:
                # llama.cpp calls its model by the path of the file.
                yield replace(delta, model=self.endpoint.model) if isinstance(delta, CompletionFinished) else delta
