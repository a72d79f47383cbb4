from datetime import datetime, timezone

import time_machine

from myometrics_testing.waiting import avoid_midnight


def test_midnight_is_waited_for_if_it_is_near():
    with time_machine.travel("2026-02-28T23:59:59.500Z"):
        avoid_midnight()
        assert datetime.now(timezone.utc).day == 1


def test_midnight_is_not_waited_for_if_it_is_far():
    noon = datetime(2026, 2, 28, 12, tzinfo=timezone.utc)
    with time_machine.travel(noon, tick=False):
        avoid_midnight()
        assert datetime.now(timezone.utc) == noon
