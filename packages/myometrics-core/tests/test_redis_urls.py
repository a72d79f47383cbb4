"""Redis by TLS, Unix socket and Sentinel; secrets of URLs are hidden."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from django.core.cache import caches
from redis import Redis
from redis.exceptions import ConnectionError
from redis.sentinel import MasterNotFoundError

from myometrics_core.api.throttling import storage_for
from myometrics_core.checks import check_pickled_caches
from myometrics_core.conf import check_redis_url, redact, redis_pool
from myometrics_core.db import JSONSerializer
from myometrics_core.db.cache_serializers import is_pickled
from myometrics_core.doctor.examinations import examine_caches
from myometrics_core.health.probes import RedisProbe
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.any_database

REDIS_CACHE = "django.core.cache.backends.redis.RedisCache"
OPTIONS = {
    "pool_class": "myometrics_core.conf.RedisPool",
    "serializer": "myometrics_core.db.JSONSerializer",
}


FORMS = [
    "redis",
    "redis-socket",
    pytest.param("redis-tls", marks=pytest.mark.program("redis-server")),
    pytest.param("redis-sentinel", marks=pytest.mark.program("redis-server")),
    pytest.param("redis-sentinel-tls", marks=pytest.mark.program("redis-server")),
]


@pytest.fixture(scope="module", params=FORMS)
def server(request):
    with OwnedServer(request.param) as running:
        yield running


def test_every_redis_url_works_for_health_limits_and_cache(server, settings):
    timeouts = f"socket_timeout={PATIENCE}&socket_connect_timeout={PATIENCE}"
    url = f"{server.url}{'&' if '?' in server.url else '?'}{timeouts}"
    check_redis_url(url)
    settings.MYOMETRICS = {"REDIS_URL": url}
    RedisProbe().run()
    storage = storage_for(url)
    assert storage.check()
    assert [storage.acquire_entry("key", 2, 3600) for _ in range(3)] == [True, True, False]
    settings.CACHES = {"default": {"BACKEND": REDIS_CACHE, "LOCATION": [url], "OPTIONS": OPTIONS}}
    cache = caches["default"]
    cache.set("value", {"number": 1, "text": "ü"})
    cache.set("count", 1)
    assert cache.incr("count") == 2
    assert cache.get("value") == {"number": 1, "text": "ü"}
    cache.close()


def test_unreachable_sentinels_are_tried_once():
    pool = redis_pool("sentinel://127.0.0.1:1,127.0.0.1:2/service/0")
    attempts = [
        sentinel.connection_pool.connection_kwargs["retry"]._retries
        for sentinel in pool.sentinel_manager.sentinels
    ]
    assert attempts == [0, 0]
    with pytest.raises(MasterNotFoundError):
        Redis(connection_pool=pool).get("key")


@pytest.mark.program("redis-server")
@pytest.mark.usefixtures("long_dependency_timeouts")
def test_certificate_is_verified_by_default(settings):
    with OwnedServer("redis-tls") as server:
        url = server.url.partition("?")[0]
        settings.MYOMETRICS = {"REDIS_URL": url}
        with pytest.raises(ConnectionError):
            RedisProbe().run()
        settings.MYOMETRICS = {"REDIS_URL": f"{url}?ssl_cert_reqs=none"}
        RedisProbe().run()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:6379", "must be a URL such as redis://"),
        ("memcached://host", "must be a URL such as redis://"),
        ("redis://", "must be a URL such as redis://"),
        ("redis://:6379", "must be a URL such as redis://"),
        ("redis://:hunter2/x@host", "percent-encoded"),
        ("redis://host:hunter2", "percent-encoded"),
        ("redis://host/first", "the number of a database"),
        ("redis://host?db=first", "a query parameter whose value can't be used"),
        ("redis://host?colour=hunter2", "a query parameter colour that redis-py does not support"),
        ("redis://host?ssl_ca_certs=/hunter2", "ssl_ca_certs, which needs rediss://"),
        ("rediss://host?ssl_ca_certs=/hunter2", "a file in ssl_ca_certs that can't be read"),
        ("rediss://host?ssl_cert_reqs=hunter2", "none of required, optional, none"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("sentinel://host:26379", "must name the service"),
        ("sentinel://host/service/first", "must name the service"),
        ("sentinel://host:hunter2/service", "a Sentinel whose port is no number"),
        ("sentinel://:hunter2@,host/service", "must name the Sentinels"),
    ],
)
def test_invalid_redis_url_is_rejected_with_reason(url, reason):
    with pytest.raises(ValueError, match=re.escape(reason)) as refused:
        check_redis_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://user:p%2Fw@[::1]:6379/1?socket_timeout=2",
        "rediss://host/0?ssl_cert_reqs=CERT_NONE",
        "rediss://host/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        "unix:///run/redis.sock",
        "unix://:password@/run/redis.sock?db=2",
        "sentinel://host/service",
        "sentinel://:password@[::1]:1,other/service/2?sentinel_password=other&ssl_cert_reqs=none",
    ],
)
def test_valid_redis_url_is_accepted(url):
    check_redis_url(url)


@pytest.mark.parametrize(
    "text",
    [
        "can't connect to redis://:hunter2@host:6379/0",
        "sentinel://:hunter2@one:1;sentinel://:hunter2@two:2/0",
        "unknown scheme: mongodb://me:hunter2@host/db?authSource=hunter2",
        "unix:///run/redis.sock?password=hunter2&db=0",
        "amqp://me:hunter2/with@slashes@host:5672//",
        "host=db user=me password=hunter2 dbname=site",
        "{'host': 'db', 'password': 'hunter2', 'db': 0}",
        'password="hunter2 and more"',
        "{'sentinel_kwargs': {'PASSWORD': 'hunter2'}}",
        "PA\u017f\u017fWORD=hunter2",  # ignoring case, the long s is an s
        "Error handling request /api/exports/1/?token=hunter2&next=https://clinic.example/",
        "<WSGIRequest: GET '/api/exports/1/?token=hunter2'>",
    ],
)
def test_redact_hides_secrets_of_urls(text):
    assert "hunter2" not in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "GET /api/users/",
        "see https://docs.example/page#part",
        "ada@clinic.example",
        "Connection refused: host db:5432",
        "400 on old_password",
    ],
)
def test_redact_keeps_other_text(text):
    assert redact(text) == text


@pytest.mark.parametrize("part", ["a", "://", "/", "passwd", "password=' ", "a://?@", "a=", " \\'"])
def test_redact_takes_linear_time(part):
    """A megabyte with a quadratic pattern would take hours; this fails as a hung test."""
    call = f"redact({part!r} * (2**20 // {len(part)}))"
    script = f"from myometrics_core.conf.redaction import redact; {call}"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=PATIENCE)


def test_redact_keeps_the_server():
    assert redact("redis://:hunter2@host:6379/0?db=1.") == "redis://…@host:6379/0?…"


def test_json_serializer_rejects_other_types():
    serializer = JSONSerializer()
    assert serializer.dumps(5) == b"5"
    with pytest.raises(TypeError):
        serializer.dumps(object())
    with pytest.raises(ValueError, match="decode"):
        serializer.loads(b"\x80\x04K\x05.")


PICKLED = [
    {"BACKEND": REDIS_CACHE},
    {"BACKEND": "django_redis.cache.RedisCache"},
    {
        "BACKEND": "django_redis.cache.RedisCache",
        "OPTIONS": {"SERIALIZER": "django_redis.serializers.pickle.PickleSerializer"},
    },
    {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache"},
]
HARMLESS = [
    {"BACKEND": REDIS_CACHE, "OPTIONS": OPTIONS},
    {
        "BACKEND": "django_redis.cache.RedisCache",
        "OPTIONS": {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"},
    },
    {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
]


@pytest.mark.parametrize("cache", PICKLED)
@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_pickled_sessions_in_shared_cache_are_a_warning(settings, cache, engine):
    assert is_pickled(cache)
    settings.CACHES = {"default": {**cache, "LOCATION": "redis://localhost"}}
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    assert [message.id for message in check_pickled_caches()] == ["myometrics_core.W017"]
    assert any(one.name == "cache default" for one in examine_caches())


@pytest.mark.parametrize("cache", HARMLESS)
def test_caches_without_pickles_are_no_warning(settings, cache):
    settings.CACHES = {"default": cache}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    assert list(check_pickled_caches()) == []


def test_other_pickled_caches_are_reported_by_doctor_only(settings):
    settings.CACHES = {"default": {**PICKLED[0], "LOCATION": "redis://localhost"}}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    assert list(check_pickled_caches()) == []
    assert any(one.name == "cache default" for one in examine_caches())
    settings.MYOMETRICS = {"READ_REPLICAS": ["replica"]}
    assert [message.id for message in check_pickled_caches()] == ["myometrics_core.W017"]


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("redis://elsewhere:6379", True),
        ("rediss://elsewhere", True),
        ("sentinel://elsewhere/service", True),
        ("redis://:x@elsewhere", False),
        ("redis://elsewhere?password=x", False),
        ("redis://localhost", False),
        ("unix:///run/redis.sock", False),
    ],
)
def test_remote_redis_without_password_is_a_warning(settings, url, is_open):
    settings.CACHES = {"default": {"BACKEND": REDIS_CACHE, "LOCATION": [url], "OPTIONS": OPTIONS}}
    found = [one.summary for one in examine_caches() if one.name == "cache default"]
    assert any("password" in summary for summary in found) is is_open


def test_settings_check_reports_invalid_redis_url(settings):
    from myometrics_core.conf import core_settings

    settings.MYOMETRICS = {"REDIS_URL": "redis://:hunter2/x@host"}
    (message,) = core_settings.check()
    assert message.id == "myometrics_core.E003"
    assert "hunter2" not in json.dumps([message.msg, message.hint])
