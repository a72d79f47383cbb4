"""The example project, with the one option that analytics gains from: prepared statements."""

from config.settings import *  # noqa: F403
from config.settings import DATABASES

DATABASES["default"].setdefault("OPTIONS", {})["prepare_threshold"] = 5
