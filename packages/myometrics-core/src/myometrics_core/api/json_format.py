"""JSON in and out, independent of the site's ``REST_FRAMEWORK`` settings."""

from __future__ import annotations

import json
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer

from ..conf.core_settings import core_settings
from ..texts import is_finite
from .errors import BodyTooLarge


class StrictJSONParser(BaseParser):
    """Parses a request body or raises ``ParseError`` (400) or ``BodyTooLarge`` (413).

    Rejects ``NaN``, infinity, and nesting that is too deep. Not a subclass of ``JSONParser``: DRF
    3.17 and later read the whole body into memory for those. This parser reads at most the view's
    ``body_limit``. JSON is UTF-8 (RFC 8259), regardless of the request's charset.
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None
    ) -> Any:
        view = (parser_context or {}).get("view")
        limit = getattr(view, "body_limit", core_settings.MAX_BODY_BYTES)
        try:
            body = stream.read(limit + 1)
            if len(body) > limit:
                raise BodyTooLarge()
            return json.loads(body.decode(), parse_constant=_refuse, parse_float=_finite)
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from error


class CompactJSONRenderer(JSONRenderer):
    """Compact UTF-8 JSON; ignores ``UNICODE_JSON``, ``COMPACT_JSON`` and ``STRICT_JSON``."""

    ensure_ascii = False
    compact = True
    strict = True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not is_finite(number):
        raise ValueError(f"{text[:20]} is out of range")
    return number
