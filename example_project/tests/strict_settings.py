"""The site's settings with every switch on that makes accounts stricter.

What is a variable of the site is in ``test_strict_site.py``.
"""

import os

from long_timeout_settings import *  # noqa: F403

VALIDATORS = "myometrics_auth.password_validation"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"{VALIDATORS}.SecondFactorLengthValidator"},
    {
        "NAME": f"{VALIDATORS}.KnownBreachedPasswordValidator",
        "OPTIONS": {"file": os.environ["BREACHED_PASSWORDS"]},
    },
]
PASSKEY_RULES = {"synced": False}
MYOMETRICS_AUTH = {
    **globals()["MYOMETRICS_AUTH"],
    "PASSKEY_POLICY": dict.fromkeys(("admin", "doctor", "technician"), PASSKEY_RULES),
    "CLINIC_NAME_SET_BY": "administrators",
}
