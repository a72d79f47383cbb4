"""Answers that several endpoints give."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

__all__ = ["DetailSerializer"]


class DetailSerializer(serializers.Serializer[Any]):
    """One sentence for people."""

    detail = serializers.CharField()
