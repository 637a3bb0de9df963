"""Make accounts with a key each, in the database that DATABASE_URL names; the keys are printed, one a line.

`python -m benchmarks.accounts NUMBER`
"""

from __future__ import annotations

import os
import sys

import django


def main(number: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatproject.settings")
    django.setup()
    from django.contrib.auth.models import User
    from django.db import transaction

    from conversations.access import api_keys

    with transaction.atomic():
        for index in range(number):
            user, _made = User.objects.get_or_create(username=f"bench-{index}")
            _key, token = api_keys.make(user=user, name="bench")
            print(token)


if __name__ == "__main__":
    main(int(sys.argv[1]))
