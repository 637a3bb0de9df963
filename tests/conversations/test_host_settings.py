"""Another project's settings of Django REST framework and of formats do not change our JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CODE = """
import os, uuid, django
from django.conf import settings
import tests.settings as ours
values = {name: getattr(ours, name) for name in dir(ours) if name.isupper()}
values.update(eval(os.environ["HOST_SETTINGS"]))
settings.configure(**values)
django.setup()
from datetime import UTC, datetime
from conversations.web.base import ApiView
from conversations.web.serializers import ConversationListItemSerializer
from conversations.models import Conversation
moment = datetime(2026, 1, 31, 12, 0, 0, 5000, tzinfo=UTC)
one = Conversation(title="你好 1234.5", message_count=1234567, created_at=moment, updated_at=moment)
one.session_id = uuid.UUID(int=1)
print("JSON", ApiView.renderer_classes[0]().render(ConversationListItemSerializer(one).data).decode())
"""
CALLS = """
import os, django
from django.conf import settings
import tests.settings as ours
values = {name: getattr(ours, name) for name in dir(ours) if name.isupper()}
values.update(eval(os.environ["HOST_SETTINGS"]))
settings.configure(**values)
django.setup()
from django.test import RequestFactory
from django.urls import resolve
from rest_framework.response import Response
from conversations.web.base import ApiView
from conversations.web.queries import UsageQuerySerializer
class Plain(ApiView):
    authentication_classes = []
    def get(self, request):
        query = UsageQuerySerializer(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        return Response({"from": str(query.validated_data["from"])})
for method in ("get", "options"):
    request = getattr(RequestFactory(), method)("/api/usage?from=2026-01-31&to=2026-02-01", HTTP_ACCEPT="text/html")
    request.resolver_match = resolve("/api/usage")
    answer = Plain.as_view()(request).render()
    print("JSON", answer.status_code, answer.content.decode())
"""
HOSTS = {
    "formats": {
        "DATETIME_FORMAT": "%d.%m.%Y",
        "DATE_FORMAT": "%d",
        "TIME_FORMAT": "%H",
        "COERCE_DECIMAL_TO_STRING": False,
    },
    "ascii": {"UNICODE_JSON": False, "COMPACT_JSON": False, "STRICT_JSON": False},
    "machinery": {
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
        "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
        "PAGE_SIZE": 1,
        "NON_FIELD_ERRORS_KEY": "other",
        "URL_FORMAT_OVERRIDE": "format",
    },
}
VERSIONING = "rest_framework.versioning.NamespaceVersioning"
CALLED = {
    "versions": {"DEFAULT_VERSIONING_CLASS": VERSIONING, "ALLOWED_VERSIONS": ["v1"]},
    "days": {"DATE_INPUT_FORMATS": ["%d.%m.%Y"], "DATE_FORMAT": "%d.%m.%Y"},
    "metadata": {"DEFAULT_METADATA_CLASS": None},
}
FORMATS = {
    "TIME_ZONE": "Asia/Shanghai",
    "USE_THOUSAND_SEPARATOR": True,
    "LANGUAGE_CODE": "zh-hans",
    "DATETIME_FORMAT": "d.m.Y",
}


def rendered(code: str = CODE, **given: object) -> str:
    environment = {**os.environ, "HOST_SETTINGS": repr(given)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.partition("JSON ")[2]


@pytest.mark.parametrize("name", HOSTS)
def test_our_json_stays_as_it_is(name: str) -> None:
    plain = rendered(REST_FRAMEWORK={})
    assert json.loads(plain)["created_at"] == "2026-01-31T12:00:00.005000Z"
    assert "你好" in plain
    assert rendered(REST_FRAMEWORK=HOSTS[name], **FORMATS) == plain


@pytest.fixture(scope="module")
def plain_calls() -> str:
    return rendered(CALLS, REST_FRAMEWORK={})


@pytest.mark.parametrize("name", CALLED)
def test_our_calls_are_answered_as_ever(plain_calls: str, name: str) -> None:
    assert plain_calls.startswith('200 {"from":"2026-01-31"}')
    assert rendered(CALLS, REST_FRAMEWORK=CALLED[name]) == plain_calls
