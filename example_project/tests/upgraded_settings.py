"""A later release of the site: its schema has another version, and its database one column more."""

from long_timeout_settings import *  # noqa: F403

INSTALLED_APPS = [*globals()["INSTALLED_APPS"], "upgraded_app"]
SPECTACULAR_SETTINGS = {**globals()["SPECTACULAR_SETTINGS"], "VERSION": "2.0.0"}
