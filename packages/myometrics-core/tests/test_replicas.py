"""Which database is read when the cache, which knows who has written, can't be asked.

What comes from a real replica over HTTP is held by ``testing/tests/test_replicas.py``.
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
    settings.MYOMETRICS = {"READ_REPLICAS": ["replica"]}
    return redis_server


def test_a_cache_that_is_down_sends_everybody_to_the_primary_and_stops_no_write(replica, caplog):
    replica.stop()
    remember_write(ADA)
    with read_from_replica(user=ADA):
        assert ReplicaRouter().db_for_read(Group) is None
    assert [record.name for record in caplog.records] == ["myometrics.core.replicas"] * 2


def test_who_has_just_written_reads_from_the_primary(replica):
    remember_write(ADA)
    with read_from_replica(user=ADA):
        assert ReplicaRouter().db_for_read(Group) is None


def test_a_replica_that_is_named_is_never_migrated(replica):
    router = ReplicaRouter()
    assert router.allow_migrate("replica", "auth") is False
    assert router.allow_migrate("default", "auth") is None


def test_write_is_remembered_for_as_long_as_replicas_may_be_behind(replica, settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "REPLICA_LAG": 0.5}
    remember_write(ADA)
    with read_from_replica(user=ADA):
        assert ReplicaRouter().db_for_read(Group) is None
