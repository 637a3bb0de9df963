"""Names that other people's programs rely on. A failing test here means: you are about to break them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import llmproviders.exceptions
from conversations import exceptions
from conversations.engine import answer_errors
from conversations.exceptions import ChatError
from tests.test_imports import MODULES, ROOT

# Refusals: the class, its HTTP status, its code.
REFUSALS = {
    "ChatError": (500, "internal_error"),
    "NotAuthenticated": (401, "login_required"),
    "PermissionRefused": (403, "forbidden"),
    "NotFound": (404, "not_found"),
    "UnknownAttachment": (404, "unknown_attachment"),
    "InvalidRequest": (400, "invalid"),
    "UnknownModel": (400, "unknown_model_type"),
    "UnreadableKey": (400, "unknown_model_type"),
    "PromptTooLong": (400, "context_length"),
    "ImagesNotSupported": (400, "images_not_supported"),
    "ToolsNotSupported": (400, "tools_not_supported"),
    "InvalidPosition": (400, "invalid_position"),
    "InvalidCursor": (400, "invalid_cursor"),
    "UnsupportedImage": (400, "unsupported_image"),
    "ImageTooLarge": (400, "image_too_large"),
    "ReplyInProgress": (409, "reply_in_progress"),
    "AnswerStopped": (409, "answer_stopped"),
    "TooManyKeys": (409, "too_many_keys"),
    "AttachmentInUse": (409, "attachment_in_use"),
    "BodyTooLarge": (413, "body_too_large"),
    "BodyTooSlow": (408, "request_timeout"),
    "AttachmentQuota": (413, "attachment_quota"),
    "IdempotencyMismatch": (422, "idempotency_mismatch"),
    "RateLimited": (429, "rate_limited"),
    "TooManyAnswers": (429, "too_many_answers"),
    "BudgetExhausted": (429, "budget_exhausted"),
    "ServerBusy": (503, "server_busy"),
    "ShuttingDown": (503, "shutting_down"),
    "DatabaseBusy": (503, "database_busy"),
    "UnfitForDatabase": (500, "unfit_for_database"),
}
# What becomes of an answer: the code, and the status of an answer that is not streamed.
ANSWERS = {
    "upstream_authentication": 502,
    "upstream_rate_limit": 503,
    "upstream_unpaid": 502,
    "context_length": 400,
    "upstream_bad_request": 502,
    "upstream_unavailable": 502,
    "local_model_missing": 503,
    "upstream_timeout": 504,
    "upstream_protocol": 502,
    "upstream_error": 502,
    "empty_answer": 502,
    "interrupted": 503,
    "storage_failed": 503,
    "internal_error": 500,
}
PROVIDERS = {
    "ProviderError": "upstream_error",
    "UpstreamAuthenticationFailed": "upstream_authentication",
    "UpstreamRateLimited": "upstream_rate_limit",
    "UpstreamUnpaid": "upstream_unpaid",
    "ContextLengthExceeded": "context_length",
    "UpstreamBadRequest": "upstream_bad_request",
    "UpstreamUnavailable": "upstream_unavailable",
    "LocalModelMissing": "local_model_missing",
    "ModelLoading": "upstream_unavailable",
    "AddressRefused": "upstream_unavailable",
    "UpstreamTimeout": "upstream_timeout",
    "UpstreamProtocolError": "upstream_protocol",
    "EmptyAnswer": "empty_answer",
    "AnswerCut": "upstream_protocol",
    "AnswerTooLarge": "upstream_protocol",
    "UnknownModelType": "unknown_model_type",
    "InvalidEndpoint": "invalid_endpoint",
}
# Codes that are given where the refusal is made.
ON_THE_SPOT = {
    "csrf_failed",
    "invalid_key",
    "scope_missing",
    "body_too_large",
    "head_too_large",
    "needs_asgi",
    "request_timeout",
    "bad_request",
    "host_not_allowed",
    "internal_error",
    "invalid_host",
    "login_required",
    "malformed_json",
    "method_not_allowed",
    "model_not_found",
    "previous_response_not_found",
    "not_ready",
    "origin_not_allowed",
    "unsupported_media_type",
    "unsupported_parameter",
}
# Codes that no client of the API sees: of an answer that is told as it ended, and of Django's password form.
NOT_OF_THE_API = {"interrupted", "password_incorrect"}
# Django's own handlers, as chatproject/views.py answers for them.
HANDLERS = {"bad_request", "not_found", "forbidden", "internal_error"}
PROVIDER_PARENTS = {
    "ProviderError": "Exception",
    "LocalModelMissing": "UpstreamUnavailable",
    "ModelLoading": "UpstreamUnavailable",
    "AddressRefused": "UpstreamUnavailable",
    "AnswerCut": "UpstreamProtocolError",
    "AnswerTooLarge": "UpstreamProtocolError",
    "UnknownModelType": "LookupError",
    "InvalidEndpoint": "ValueError",
}
CODES = {code for _status, code in REFUSALS.values()} | {*ANSWERS, *PROVIDERS.values(), *ON_THE_SPOT, *HANDLERS}
LONGEST_MODULE = 300
LONGEST_FUNCTION = 40


def own(module: object) -> dict[str, type]:
    """The classes that a module defines."""
    name = getattr(module, "__name__", "")
    return {key: value for key, value in vars(module).items() if isinstance(value, type) and value.__module__ == name}


def words_of(name: str) -> set[str]:
    """What stands between backticks in a document."""
    return set(re.findall(r"`([^`\n]+)`", (ROOT / "docs" / name).read_text()))


def literal_codes(tree: ast.AST) -> Iterator[str]:
    """The texts that are passed as ``code=`` in calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for argument in node.keywords:
                value = argument.value.value if isinstance(argument.value, ast.Constant) else None
                if argument.arg == "code" and isinstance(value, str):  # numbers are statuses
                    yield value


def test_refusals_keep_their_status_and_code() -> None:
    refusals = {
        name: (kind.status, kind.code) for name, kind in own(exceptions).items() if issubclass(kind, ChatError)
    }
    assert refusals == REFUSALS


def test_what_is_refused_for_a_moment_says_when_to_try_again() -> None:
    for name, (status, _code) in REFUSALS.items():
        assert (getattr(exceptions, name)().retry_after is not None) == (status == 503), name


def test_failed_answers_keep_their_status_and_code() -> None:
    assert {code: answer_errors.ANSWER_STATUS.get(code, 500) for code in answer_errors.ANSWER_ERRORS} == ANSWERS
    assert answer_errors.ANSWER_STATUS.keys() <= answer_errors.ANSWER_ERRORS.keys()


def test_a_providers_errors_keep_their_code_and_their_place_in_the_tree() -> None:
    errors = own(llmproviders.exceptions)
    assert {name: getattr(kind, "code", "") for name, kind in errors.items()} == PROVIDERS
    parents = {name: kind.__mro__[1].__name__ for name, kind in errors.items()}
    assert parents == {name: PROVIDER_PARENTS.get(name, "ProviderError") for name in PROVIDERS}


def test_everything_that_a_provider_raises_while_it_answers_has_a_sentence() -> None:
    errors = own(llmproviders.exceptions).values()
    raised = {kind.code for kind in errors if issubclass(kind, llmproviders.exceptions.ProviderError)}
    assert raised <= answer_errors.ANSWER_ERRORS.keys()


def test_codes_given_on_the_spot_are_stable() -> None:
    found = {code for path in MODULES.values() for code in literal_codes(ast.parse(path.read_text()))}
    assert found - NOT_OF_THE_API == ON_THE_SPOT


def test_every_code_is_documented() -> None:
    assert words_of("errors.md") >= CODES


def test_every_code_is_a_plain_word() -> None:
    assert [code for code in CODES if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []


def test_the_docstrings_draw_the_trees_as_they_are() -> None:
    for module in (exceptions, llmproviders.exceptions):
        tree = re.search(r"::\n\n((?: {4}.*\n)+)", module.__doc__ or "")
        assert tree
        drawn = dict(re.findall(r"([A-Z]\w+)  +(?:\d+  )?([a-z_]+)", tree[1]))
        codes = {name: getattr(kind, "code", "") for name, kind in own(module).items() if name != "ChatError"}
        assert drawn == codes


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_that_grows_too_long_becomes_a_package(module: str) -> None:
    path: Path = MODULES[module]
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


def test_no_function_grows_too_long() -> None:
    too_long = [
        f"{module}.{node.name}: {lines} lines"
        for module, path in sorted(MODULES.items())
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert too_long == []
