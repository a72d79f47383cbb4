"""Messages whose acknowledgement Redis did not confirm do not keep a worker from receiving."""

from __future__ import annotations

import pytest
from kombu import Connection
from kombu.transport import redis

from config.optional.redis_acknowledgement import QoS
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE

HELD = 2
"""Messages that the consumer may hold at a time."""
TRANSPORT_OPTIONS = {"socket_timeout": 2, "socket_connect_timeout": 2}


@pytest.fixture
def server():
    with OwnedServer("redis") as server:
        yield server


@pytest.mark.parametrize("end", ["ack", "reject", "requeue"])
def test_messages_arrive_after_failed_acknowledgements(monkeypatch, server, end):
    monkeypatch.setattr(redis.Channel, "QoS", QoS)
    with Connection(server.url, transport_options=TRANSPORT_OPTIONS) as connection:
        queue = connection.SimpleQueue("jobs")
        queue.consumer.qos(prefetch_count=HELD)
        for number in range(HELD + 1):
            queue.put(number)
        held = [queue.get(timeout=PATIENCE) for _ in range(HELD)]
        server.freeze()
        try:
            for message in held:
                with pytest.raises(connection.connection_errors):
                    getattr(message, end)()
        finally:
            server.thaw()
        assert queue.get(timeout=PATIENCE).payload == HELD
