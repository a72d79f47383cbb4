"""JSON renderer that is independent of the site's ``REST_FRAMEWORK`` settings."""

from __future__ import annotations

from rest_framework.renderers import JSONRenderer


class CompactJSONRenderer(JSONRenderer):
    """Compact UTF-8 JSON; ignores ``UNICODE_JSON``, ``COMPACT_JSON`` and ``STRICT_JSON``."""

    ensure_ascii = False
    compact = True
    strict = True
