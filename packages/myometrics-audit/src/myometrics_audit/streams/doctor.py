"""Examination of streams for ``manage.py myometrics_doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from myometrics_core.doctor import Diagnosis, describe_age, register_examination
from myometrics_core.times import seconds_since

from .models import DeadLetter, Stream
from .pending import pending_since, position_of
from .services import configured_streams

MAX_FAILING: Final = 3600.0
MAX_LAG: Final = 600.0


def register_examinations() -> None:
    """Register the examination with core's doctor."""
    register_examination("audit streams", examine_streams, needs_database=True)


def examine_streams() -> Iterator[Diagnosis]:
    """Check that each stream can send, is not behind, and that nothing was refused."""
    for stream in configured_streams():
        yield _examine(stream)


def _examine(stream: Stream) -> Diagnosis:
    name = f"audit stream {stream.name}"
    failing, lag = (
        seconds_since(stream.failing_since),
        seconds_since(pending_since(position_of(stream))),
    )
    resume = f"manage.py audit_stream resume {stream.name}"
    if stream.state == Stream.State.DEAD:
        summary = f"It stopped, because its receiver refused its entries: {stream.last_error}."
        return Diagnosis(name, "problem", summary, f"Fix its options, then run '{resume}'.")
    if stream.state == Stream.State.PAUSED:
        return Diagnosis(name, "warning", "It is paused.", f"Run '{resume}'.")
    if failing > 0:
        summary = f"It has been failing for {describe_age(failing)}: {stream.last_error}."
        state = "problem" if failing > MAX_FAILING else "warning"
        advice = f"Fix that, then run 'manage.py audit_stream send {stream.name}'."
        return Diagnosis(name, state, summary, advice)  # type: ignore[arg-type]
    if lag > MAX_LAG:
        summary = f"The oldest entry to send was sealed {describe_age(lag)} ago."
        return Diagnosis(name, "warning", summary, "Run jobs (JOB_RUNNER of MYOMETRICS).")
    if refused := DeadLetter.objects.filter(stream=stream).count():
        summary = f"Its receiver refused {refused} entries."
        advice = f"See them in the admin, then run 'manage.py audit_stream retry {stream.name}'."
        return Diagnosis(name, "warning", summary, advice)
    return Diagnosis(name, "ok", "It sends, or has nothing to send.")
