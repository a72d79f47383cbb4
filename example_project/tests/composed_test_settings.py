"""The composed site's own settings, in an environment for tests."""

import os
import secrets

os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
os.environ.setdefault("EMBEDDED_WORKER", "false")
os.environ.setdefault("EMAIL_BACKEND", "django.core.mail.backends.locmem.EmailBackend")

from config.settings import *  # noqa: F403

MYOMETRICS_AUDIT = {**globals().get("MYOMETRICS_AUDIT", {}), "ALLOW_FLUSH": True}
