"""What only tests may have: a server that looks a little like one has none of it."""

from __future__ import annotations

import subprocess
import sys

from django.test import override_settings

from conversations import conf
from conversations.access import hosts

SERVER = """
import django
from django.conf import settings
settings.configure(
    EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend", ALLOWED_HOSTS=["chat.example.com"],
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
)
django.setup()
import django.test.utils
from django.core import mail
from conversations import conf
from conversations.access import hosts
mail.send_mail("subject", "text", "from@example.com", ["to@example.com"])
assert mail.outbox
assert not conf.is_under_test()
assert not hosts.names_this_machine("testserver")
assert hosts.names_this_machine("localhost")
"""


def test_a_server_that_keeps_its_mails_in_memory_is_no_test() -> None:
    subprocess.run([sys.executable, "-c", SERVER], check=True, timeout=60)


def test_a_test_stays_one_whatever_hosts_it_allows() -> None:
    assert conf.is_under_test()
    with override_settings(ALLOWED_HOSTS=["localhost"]):
        assert conf.is_under_test()
        assert hosts.names_this_machine("testserver")


def test_other_names_mean_this_machine_in_no_test() -> None:
    for host in ("testserver.example.com", "TESTSERVER", "xtestserver", "testserver:80", "*", ""):
        assert not hosts.names_this_machine(host)
