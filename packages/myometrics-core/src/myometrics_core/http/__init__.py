"""Django's request: the client's address, the request id, downloads."""

from .addresses import canonical_address, client_address, in_networks, user_agent
from .downloads import download_response
from .request_id import RequestIdFilter
from .requests import content_length, http_request

__all__ = [
    "RequestIdFilter",
    "canonical_address",
    "client_address",
    "content_length",
    "download_response",
    "http_request",
    "in_networks",
    "user_agent",
]
