"""The composed site's own settings, in an environment for tests."""

import os
import secrets

# Tests never read the environment of a site that is in use.
os.environ.pop("ENVIRONMENT_FILE", None)
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
os.environ.setdefault("EMBEDDED_WORKER", "false")
os.environ.setdefault("EMAIL_BACKEND", "django.core.mail.backends.locmem.EmailBackend")

from patient_settings import *  # noqa: F403

# Opt-in: the composed tests opt in, and let no thread write into what they count.
MYOMETRICS_AUDIT = {**globals().get("MYOMETRICS_AUDIT", {}), "ALLOW_FLUSH": True}
# Looked up when asked for: listing them anew for each client would take a third of the time.
WHITENOISE_AUTOREFRESH = True
