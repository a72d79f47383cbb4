"""Base classes of the API: views, errors, fields, pagination, throttling, schema, mailed links."""

from .errors import CallerDeleted, Conflict, exception_handler, json_error
from .fields import (
    JSONObjectField,
    StrictBooleanField,
    StrictCharField,
    UserIdField,
    UtcDateTimeField,
)
from .json_format import CompactJSONRenderer, StrictJSONParser
from .pagination import PagePagination, PageQuerySerializer, PageSerializer
from .schema import ErrorSerializer, OneOfSerializer, extend_schema
from .serializers import AttributesSerializer, RequestSerializer
from .signed_links import LinkQuerySerializer, SignedLink, link_not_valid
from .throttling import BucketThrottle, address_key, rate_limit_key, rate_limiter
from .views import (
    MAX_AUTH_BODY_BYTES,
    ApiView,
    IsAdministrator,
    PublicApiView,
    PublicPageView,
    UnknownPathView,
)

__all__ = [
    "MAX_AUTH_BODY_BYTES",
    "ApiView",
    "AttributesSerializer",
    "BucketThrottle",
    "CallerDeleted",
    "CompactJSONRenderer",
    "Conflict",
    "ErrorSerializer",
    "IsAdministrator",
    "JSONObjectField",
    "LinkQuerySerializer",
    "OneOfSerializer",
    "PagePagination",
    "PageQuerySerializer",
    "PageSerializer",
    "PublicApiView",
    "PublicPageView",
    "RequestSerializer",
    "SignedLink",
    "StrictBooleanField",
    "StrictCharField",
    "StrictJSONParser",
    "UnknownPathView",
    "UserIdField",
    "UtcDateTimeField",
    "address_key",
    "exception_handler",
    "extend_schema",
    "json_error",
    "link_not_valid",
    "rate_limit_key",
    "rate_limiter",
]
