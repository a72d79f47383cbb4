"""Keeps Celery's worker receiving after acknowledgements that Redis did not confirm.

Kombu counts a message as in progress until Redis has confirmed its acknowledgement. If that times
out, the worker logs "Couldn't ack" and goes on, but the message counts forever; after as many as
the worker may hold (``worker_prefetch_multiplier`` × processes) it receives nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kombu.transport import redis, virtual


class QoS(redis.QoS):
    """Messages in progress, without those whose acknowledgement failed.

    Redis still lists them, and delivers them again after the visibility timeout.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; if that fails, it is no longer in progress either."""
        with self._ended_after_failure(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message; if that fails, it is no longer in progress either."""
        with self._ended_after_failure(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)

    @contextmanager
    def _ended_after_failure(self, delivery_tag: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


def keep_receiving() -> None:
    """Make Redis as a broker use the class above."""
    redis.Channel.QoS = QoS
