"""The composed site's own settings, in an environment for tests."""

import os
import secrets

# Tests never read the environment of a site that is in use.
os.environ.pop("ENVIRONMENT_FILE", None)
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
os.environ.setdefault("JOB_RUNNER", "none")
os.environ.setdefault("EMAIL_BACKEND", "django.core.mail.backends.locmem.EmailBackend")

from long_timeout_settings import *  # noqa: F403

# Django flushes the tables after tests with transactions.
MYOMETRICS_AUDIT = {**globals().get("MYOMETRICS_AUDIT", {}), "ALLOW_FLUSH": True}
# Look up static files on request: listing them for each client takes a third of the time.
WHITENOISE_AUTOREFRESH = True
