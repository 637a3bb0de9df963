"""Presets in Django admin. Keys go in and never come out."""

from __future__ import annotations

import asyncio
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlsplit

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .breaker import breaker
from .exceptions import ProviderError, UnknownModelType
from .fields import DecryptionFailed
from .key_admin import KeyAdmin, KeyForm
from .management import trials
from .models import Preset
from .types import Endpoint

# How long an endpoint may take (seconds): less than proxies wait. And how many are tried at a time, in a process.
LIST_SECONDS, TEST_SECONDS = 20.0, 45.0
MOST_SHOWN = 200
ABILITIES = (
    ("takes_images", "takes_tools", "reasons"),
    ("thinks_first", "takes_system", "alternates"),
    "extra_fields",
)
_places = BoundedSemaphore(2)


class PresetForm(KeyForm):
    class Meta:
        model = Preset
        fields = (
            "type",
            "name",
            "backend",
            "api_url",
            "model",
            "api_key",
            "context_window",
            "max_tokens",
            "temperature",
            "parameters",
            "takes_images",
            "takes_tools",
            "reasons",
            "thinks_first",
            "takes_system",
            "alternates",
            "extra_fields",
            "fallbacks",
            "input_price",
            "output_price",
            "order",
            "is_enabled",
        )


@admin.register(Preset)
class PresetAdmin(KeyAdmin):
    form = PresetForm
    change_form_template = "admin/llmproviders/preset/change_form.html"
    list_display = ("type", "name", "model", "host", "has_key", "can", "state", "order", "is_enabled")
    list_editable = ("order", "is_enabled")
    list_filter = ("is_enabled", "backend", "takes_images", "takes_tools", "reasons")
    search_fields = ("type", "name", "model", "api_url")
    ordering = ("order", "type")
    readonly_fields = ("masked_key", "created_at", "updated_at")
    fieldsets = (
        (None, {"fields": ("type", "name", "is_enabled", "order")}),
        (
            gettext_lazy("Endpoint"),
            {"fields": ("backend", "api_url", "model", "api_key", "fallbacks")},
        ),
        (gettext_lazy("Abilities"), {"fields": ABILITIES}),
        (gettext_lazy("Limits"), {"fields": ("context_window", "max_tokens", "temperature", "parameters")}),
        (gettext_lazy("Prices"), {"fields": ("input_price", "output_price")}),
        (gettext_lazy("History"), {"fields": ("created_at", "updated_at")}),
    )

    class Media:
        css = {"all": ["llmproviders/admin.css"]}

    def get_urls(self) -> list[URLPattern]:
        wrap: Any = self.admin_site.admin_view
        own = [
            path("<int:preset_id>/test/", wrap(self.test_view), name="llmproviders_preset_test"),
            path("<int:preset_id>/models/", wrap(self.models_view), name="llmproviders_preset_models"),
        ]
        return [*own, *super().get_urls()]

    def test_view(self, request: HttpRequest, preset_id: int) -> HttpResponse:
        """Ask the model for a word, as the preset is saved."""
        return self._tried(request, preset_id, _("Test of the connection"), _test)

    def models_view(self, request: HttpRequest, preset_id: int) -> HttpResponse:
        """Ask the server which models it has."""
        return self._tried(request, preset_id, _("Models of the server"), _list)

    def _tried(self, request: HttpRequest, preset_id: int, title: str, trial: Any) -> HttpResponse:
        """Call the server, in this thread and in no transaction, and show what came of it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        preset = Preset.objects.filter(pk=preset_id).defer("api_key").first()
        if preset is None:
            raise Http404
        if not self.has_change_permission(request, preset):
            raise PermissionDenied
        asked: Any = request
        asked.current_app = self.admin_site.name
        page = reverse(f"{self.admin_site.name}:llmproviders_preset_change", args=[preset_id])
        try:
            endpoint = preset.endpoint()
        except DecryptionFailed as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(page)
        if not _places.acquire(blocking=False):
            self.message_user(request, _("Others are being tried; try again in a moment."), messages.WARNING)
            return HttpResponseRedirect(page)
        try:
            outcome = trial(endpoint)
        finally:
            _places.release()
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "original": preset,
            "host": self.host(preset),
            **outcome,
        }
        return TemplateResponse(request, "admin/llmproviders/preset/tried.html", context)

    @admin.display(description=gettext_lazy("state"))
    def state(self, preset: Preset) -> str:
        """Whether this process passes it over, after failures; nothing where it does not."""
        seconds = breaker.seconds_left(_shown(preset))
        return _("passed over for %(seconds)d s") % {"seconds": seconds} if seconds else ""

    @admin.display(description=gettext_lazy("can"))
    def can(self, preset: Preset) -> str:
        """What it is known to be able to do."""
        reasons = preset.reasons or preset.thinks_first
        words = {_("images"): preset.takes_images, _("tools"): preset.takes_tools, _("reasoning"): reasons}
        return ", ".join(word for word, known in words.items() if known)

    @admin.display(description=gettext_lazy("host"), ordering="api_url")
    def host(self, preset: Preset) -> str:
        """The URL's host and port, without what else a URL may carry."""
        return urlsplit(preset.api_url).netloc.rpartition("@")[2] or _("this machine")


def _shown(preset: Preset) -> Endpoint:
    """What the breaker knows an endpoint by; its key is not read."""
    return Endpoint(preset.type, preset.name, preset.api_url, preset.model)


def _test(endpoint: Endpoint) -> dict[str, Any]:
    [report] = asyncio.run(trials.ask_all([endpoint], TEST_SECONDS, trials.SOME_TOKENS))
    if report.ok:
        breaker.worked(endpoint)
    return {"report": report, "reason": report.reason, "code": report.code}


def _list(endpoint: Endpoint) -> dict[str, Any]:
    try:
        names = asyncio.run(trials.names_of(endpoint, LIST_SECONDS))
    except (ProviderError, UnknownModelType) as error:
        return {"reason": _(str(error)), "code": error.code}
    return {
        "names": names[:MOST_SHOWN],
        "total": len(names),
        "more": max(0, len(names) - MOST_SHOWN),
        "is_among": endpoint.model in names,
    }
