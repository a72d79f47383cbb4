"""``uvicorn config.asgi:application``."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_asgi_application()

from config.embedded_worker import start_if_embedded  # noqa: E402
from config.production import log_warnings  # noqa: E402

log_warnings()
start_if_embedded()
