"""App configuration."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class LLMProvidersConfig(AppConfig):
    """Language models: presets, backends and the embedded demo model."""

    name = "llmproviders"
    verbose_name = _("Language models")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers the system checks)
