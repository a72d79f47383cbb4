"""Responses shared by several endpoints."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

__all__ = ["DetailSerializer"]


class DetailSerializer(serializers.Serializer[Any]):
    """A message to the user."""

    detail = serializers.CharField()
