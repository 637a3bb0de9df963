"""The embedded demo model: starts llama.cpp's own server and talks to it as to any other."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from django.core.checks import CheckMessage, Error, Warning
from django.utils.translation import gettext as _

from .. import conf, local
from ..base import Provider
from ..exceptions import UpstreamUnavailable
from ..failures import CONNECTION_REFUSED
from ..types import CompletionFinished, CompletionRequest, Delta, Endpoint
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
        """Refuse a file that is no model; warn of a context window in which the demo model only babbles."""
        if chosen := conf.get().LOCAL_MODEL_FILE:
            return [] if _is_model(chosen) else [_no_model(chosen)]
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

    @classmethod
    def adapted(cls, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint as the model file wants it: a file of one's own is no demo, nor sampled like that."""
        if not (chosen := conf.get().LOCAL_MODEL_FILE):
            return endpoint
        name = Path(chosen).stem
        return replace(
            endpoint,
            name=name,
            model=name,
            is_demo=False,
            context_window=conf.get().LOCAL_CONTEXT_WINDOW,
            max_tokens=None,
            temperature=None,
            parameters={},
        )

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        address = await local.ensure(_options())
        try:
            async with aclosing(self._asked(address, request)) as deltas:
                async for delta in deltas:
                    yield delta
            return
        except UpstreamUnavailable as error:
            if error.message != CONNECTION_REFUSED:
                raise
        # The server listens as long as it lives: it is about to be gone, though its process may not have ended yet.
        await local.lost(address)
        async with aclosing(self._asked(await local.ensure(_options()), request)) as deltas:
            async for delta in deltas:
                yield delta

    async def _asked(self, address: local.Address, request: CompletionRequest) -> AsyncGenerator[Delta, None]:
        endpoint = replace(self.endpoint, api_url=address.api_url, api_key=address.api_key, set_by="program")
        server = OpenAICompatible(endpoint)
        server.flows, server.loading = self.flows, self.loading
        server.accepted, server.unopened = self.accepted, self.unopened
        async with aclosing(server.stream(request)) as deltas:
            async for delta in deltas:
                # llama.cpp calls its model by the path of the file.
                yield replace(delta, model=self.endpoint.model) if isinstance(delta, CompletionFinished) else delta


def _options() -> local.Options:
    settings = conf.get()
    return local.Options(
        context_window=settings.LOCAL_CONTEXT_WINDOW,
        parallel=settings.LOCAL_PARALLEL,
        start_timeout=settings.LOCAL_START_TIMEOUT,
    )


def _is_model(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(4) == b"GGUF"
    except OSError:
        return False


def _no_model(path: str) -> CheckMessage:
    return Error(
        _("%(setting)s: %(path)s cannot be read, or is no GGUF file.")
        % {"setting": f"{conf.NAME}['LOCAL_MODEL_FILE']", "path": repr(path)},
        hint=_("Set LOCAL_MODEL_FILE to the whole path of a model's .gguf file."),
        id="llmproviders.E011",
    )
