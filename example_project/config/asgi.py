"""``uvicorn --no-proxy-headers config.asgi:application``: see `TRUSTED_PROXIES`."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from config.optional.tracing import start_tracing

start_tracing()
application = get_asgi_application()

from django.urls import get_resolver  # noqa: E402

from config.checks import log_warnings  # noqa: E402
from config.requests import Utf8ASGIRequest  # noqa: E402

application.request_class = Utf8ASGIRequest

get_resolver().url_patterns  # noqa: B018 (imports all views: the first request would wait)
log_warnings()
