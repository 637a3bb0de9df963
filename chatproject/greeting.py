"""What a server says when it starts: where to find what, who gets in, and a line to try."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext as _

from conversations.access.hosts import is_loopback

# Compared with, never bound to.
EVERYWHERE = {
    "0.0.0.0",  # noqa: S104  # nosec B104
    "::",
}


def greet(host: str, port: int) -> None:
    """Print it, for a server that listens on ``host`` and ``port``."""
    print(greeting(host, port), flush=True)


def greeting(host: str, port: int) -> str:
    """Return the lines."""
    base = base_url(host, port) + settings.ROOT_PATH
    names = {"url": base, "socket": base.replace("http", "ws", 1)}
    places = _(
        "chatproject is at %(url)s/ (Ctrl-C stops it)\n"
        "  API docs   %(url)s/docs\n"
        "  Admin      %(url)s/admin/\n"
        "  Health     %(url)s/api/health\n"
        "  WebSocket  %(socket)s/ws/chat"
    )
    key = "-H 'Authorization: Bearer chatkey_…' " if settings.REQUIRE_LOGIN else ""
    command = f"curl -N {base}/chat {key}-H 'Content-Type: application/json' -d '{{\"message\": \"Hello!\"}}'"
    return "\n".join([places % names, *_who_gets_in(base), _("Try it in another terminal:"), f"  {command}"])


def _who_gets_in(base: str) -> list[str]:
    if not settings.REQUIRE_LOGIN:
        return [
            _(
                "Nobody has to log in: this server is open to whatever reaches its port, a proxy included.\n"
                "Set REQUIRE_LOGIN=true before one stands in front."
            )
        ]
    command = "manage.py create_api_key USER --name NAME"
    ways = {"command": command, "url": f"{base}/accounts"}
    return [_("Everybody has to log in. A key for programs: `%(command)s`, or %(url)s.") % ways]


def base_url(host: str, port: int) -> str:
    """Return the URL by which this server can be called: by a name that it answers to."""
    public = [name for name in settings.ALLOWED_HOSTS if name != "*" and not is_loopback(name)]
    if public and settings.SECURE_SSL_REDIRECT:
        return f"https://{public[0].removeprefix('.')}"  # a proxy ends TLS, at its own port
    name = "127.0.0.1" if host in EVERYWHERE else host
    if public == settings.ALLOWED_HOSTS:
        name = public[0].removeprefix(".")
    return f"http://{f'[{name}]' if ':' in name and name[0] != '[' else name}:{port}"
