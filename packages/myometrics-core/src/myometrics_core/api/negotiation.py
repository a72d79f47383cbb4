"""Content negotiation that never responds with 406. Private: ``ApiView`` uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class FirstRendererNegotiation(DefaultContentNegotiation):
    """Always selects the first renderer, regardless of ``Accept`` and ``?format=``."""

    def select_renderer(
        self,
        request: Request,
        renderers: Sequence[BaseRenderer],  # type: ignore[override]
        format_suffix: str | None = None,
    ) -> tuple[Any, str]:
        return renderers[0], str(renderers[0].media_type)
