#!/usr/bin/env python
"""Django's command line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        assert settings.INSTALLED_APPS
    except ImproperlyConfigured as error:
        # Here, for commands that Django runs without settings would show all the places that it came through.
        sys.exit(f"chatproject: {' '.join(str(error).split())}")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
