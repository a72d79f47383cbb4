import threading

from myometrics_testing.waiting import PATIENCE


def test_results_and_exceptions_are_returned_in_order(run_concurrently):
    def refuse():
        raise ValueError("no")

    first, second, third = run_concurrently([lambda: 1, refuse, lambda: 3])
    assert (first, third) == (1, 3)
    assert isinstance(second, ValueError)


def test_all_calls_run_simultaneously(run_concurrently):
    everyone = threading.Barrier(5)
    assert sorted(run_concurrently(lambda: everyone.wait(timeout=PATIENCE), times=5)) == [
        0,
        1,
        2,
        3,
        4,
    ]
