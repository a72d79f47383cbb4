"""Kinds of jobs for the tests of the queue."""

from contextlib import contextmanager
from datetime import timedelta

from myometrics_core.jobs import JobKind, RetryPolicy, every

HOUR = timedelta(hours=1)


class Note(JobKind):
    """Notes what is called, and calls ``effect`` with each job that is run."""

    lease = HOUR
    retry = RetryPolicy(max_attempts=3, base=HOUR, cap=4 * HOUR)
    pause = HOUR

    def __init__(self, name="tests.note"):
        self.name, self.effect = name, lambda job: None
        self.runs, self.dead, self.retried, self.sessions = [], [], [], 0

    @property
    def keys(self):
        return [key for key, _ in self.runs]

    def run(self, job):
        self.runs.append((job.key, job.payload))
        self.effect(job)

    def on_dead(self, job):
        self.dead.append(job.key)

    def on_retry(self, job):
        self.retried.append(job.key)

    @contextmanager
    def session(self):
        self.sessions += 1
        yield


class Recurring(Note):
    schedule = every(HOUR)

    def __init__(self, name="tests.recurring"):
        super().__init__(name)


def fail(failure):
    """Return a function that raises ``failure``."""

    def effect(*args):
        raise failure

    return effect
