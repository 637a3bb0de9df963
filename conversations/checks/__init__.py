"""System checks: settings that this app cannot work with (E), or works badly with (W).

========  =====================================================================
E001      ``CONVERSATIONS`` is not a dict
E002      a key of it that does not exist
E003      a value of the wrong type
E004      a value out of range
E005      a word that is none of the known ones
E006      no login is asked for, but ``ALLOWED_HOSTS`` names more than this machine
E007      ``ATOMIC_REQUESTS`` is on
E008      MySQL with a character set other than utf8mb4
E009      ``llmproviders`` is not installed
E010      ``TRUSTED_PROXIES`` names something that is no address or network
E011      a rate limit, or where it is counted, that cannot be used
E013      a database that cannot hold every character (asked by ``migrate`` and ``check --database default``)
E014      ``DATABASE_ROUTERS`` sends models of ours, or accounts, to another database
E015      ``SEARCH`` names no index
E016      ``ATTACHMENT_STORAGE`` is none of ``STORAGES``
E017      ``USE_TZ`` is off
W001      SQLite whose transactions do not begin as IMMEDIATE
W002      SQLite without write-ahead log
W003      ``CONN_MAX_AGE`` is not 0
W004      MySQL with an isolation level other than READ COMMITTED
W005      no channel layer
W006      the project can be served by WSGI
W007      attachments are kept among files that a URL may give to anybody
========  =====================================================================
"""

from .databases import check_fitness, check_routers
from .deployment import (
    check_asgi,
    check_attachment_storage,
    check_channel_layer,
    check_database_settings,
    check_providers_installed,
    check_time_zones,
)
from .settings import RANGES, check_app_settings, check_login, check_rate_limit

__all__ = [
    "RANGES",
    "check_app_settings",
    "check_asgi",
    "check_attachment_storage",
    "check_channel_layer",
    "check_database_settings",
    "check_fitness",
    "check_login",
    "check_providers_installed",
    "check_rate_limit",
    "check_routers",
    "check_time_zones",
]
