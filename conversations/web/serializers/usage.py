"""What was used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from ...models import BILLION
from ..fields import DayField


class CountsSerializer(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    cost = serializers.FloatField(help_text="Of models that have a price.")


class SumsSerializer(CountsSerializer):
    """What models' servers counted of whole answers; and apart from it what was estimated of all others."""

    reasoning_tokens = serializers.IntegerField()
    estimated = CountsSerializer()


class UsageRowSerializer(SumsSerializer):
    day = DayField(required=False)
    model_type = serializers.CharField(required=False)


class UsageReportSerializer(serializers.Serializer[Any]):
    usage = UsageRowSerializer(many=True)
    total = SumsSerializer()


def usage_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return sums of the database as the API shows them."""
    groups = {name: str(row[name]) for name in ("day", "model_type") if name in row}
    exact = {name: row[name] for name in ("requests", "prompt_tokens", "completion_tokens", "reasoning_tokens")}
    estimated = {name: row[f"estimated_{name}"] for name in ("requests", "prompt_tokens", "completion_tokens")}
    return {
        **groups,
        **exact,
        "cost": row["cost"] / BILLION,
        "estimated": {**estimated, "cost": row["estimated_cost"] / BILLION},
    }
