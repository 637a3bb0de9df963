"""What docs/openapi.yaml says of bodies: which may be left out, and which may not."""

from __future__ import annotations

import httpx
import pytest
import yaml

from tests.docs.markdown import ROOT
from tests.upstream import ScriptedUpstream

DOCUMENT = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())
# What these need may be stored.
STORED = ("/api/config/models", "/api/config/test")
BODIES = {
    (method.upper(), path): bool(call["requestBody"].get("required"))
    for path, calls in DOCUMENT["paths"].items()
    for method, call in calls.items()
    if "requestBody" in call and "{" not in path and path not in STORED
}


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_a_body_may_be_left_out_where_the_document_says_so(
    client: httpx.Client, model: ScriptedUpstream, method: str, path: str
) -> None:
    refused = client.request(method, path).status_code in (400, 415, 422)
    assert refused == BODIES[method, path]
