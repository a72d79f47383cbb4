"""Database that is read, depending on the cache of recent writes.

``testing/tests/test_replicas.py`` tests a real replica over HTTP.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group

from myometrics_core.db import ReplicaRouter, read_from_replica
from myometrics_core.db.replicas import remember_write

ADA = SimpleNamespace(pk=1)


@pytest.fixture
def replica(settings, redis_server):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": redis_server.url,
        }
    }
    settings.DATABASE_ROUTERS = ["myometrics_core.db.ReplicaRouter"]
    settings.MYOMETRICS = {"READ_REPLICAS": ["replica"], "REPLICA_LAG": 3600}
    return redis_server


def test_unreachable_cache_means_reads_from_the_primary(replica, caplog):
    replica.stop()
    remember_write(ADA)
    with read_from_replica(user=ADA):
        assert ReplicaRouter().db_for_read(Group) is None
    assert [record.name for record in caplog.records] == ["myometrics.core.replicas"] * 2


def test_user_reads_from_primary_after_a_write(replica):
    remember_write(ADA)
    with read_from_replica(user=ADA):
        assert ReplicaRouter().db_for_read(Group) is None


def test_replica_is_never_migrated(replica):
    router = ReplicaRouter()
    assert router.allow_migrate("replica", "auth") is False
    assert router.allow_migrate("default", "auth") is None


def test_write_is_remembered_for_replica_lag(replica, settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "REPLICA_LAG": 0.5}
    remember_write(ADA)
    with read_from_replica(user=ADA):
        assert ReplicaRouter().db_for_read(Group) is None
