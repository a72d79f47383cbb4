"""Run functions concurrently."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from django.db import connections

from myometrics_testing.waiting import PATIENCE


def run_concurrently(
    functions: Callable[[], Any] | Iterable[Callable[[], Any]], times: int = 1
) -> list[Any]:
    """Call each function in its own thread, all released by one barrier.

    ``functions``: one function without arguments, or several; ``times``: how often each is called.
    Returns, in order, each call's result or exception. Closes the threads' database connections.
    The test needs ``@pytest.mark.django_db(transaction=True)``: threads see committed rows only.
    """
    calls = [functions] if callable(functions) else list(functions)
    calls = calls * times
    barrier = Barrier(len(calls))
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: _outcome(call, barrier), calls))


def _outcome(call: Callable[[], Any], barrier: Barrier) -> Any:
    try:
        barrier.wait(timeout=PATIENCE)
        return call()
    except Exception as error:
        return error
    finally:
        connections.close_all()
