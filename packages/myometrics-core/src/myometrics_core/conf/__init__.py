"""Settings of the packages, checks of a site's configuration, keys and Redis URLs."""

from .core_settings import core_settings
from .definitions import DOTTED_PATH, Setting, SettingsGroup, http_url, positive, register_settings
from .redaction import redact
from .redis_urls import RedisPool, check_redis_url, check_tls_parameters, is_redis_url, redis_pool
from .secret_keys import MIN_KEY_BYTES, django_secret_keys, has_short_key, key_list
from .site_checks import register_check, register_site_checks

__all__ = [
    "DOTTED_PATH",
    "MIN_KEY_BYTES",
    "RedisPool",
    "Setting",
    "SettingsGroup",
    "check_redis_url",
    "check_tls_parameters",
    "core_settings",
    "django_secret_keys",
    "has_short_key",
    "http_url",
    "is_redis_url",
    "key_list",
    "positive",
    "redact",
    "redis_pool",
    "register_check",
    "register_settings",
    "register_site_checks",
]
