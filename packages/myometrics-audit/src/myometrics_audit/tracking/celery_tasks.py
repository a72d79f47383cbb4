"""A base class for Celery tasks; needs Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from celery import Task
from django.contrib.auth import get_user_model

from ..log.recordings import Recording, current_recording

__all__ = ["RecordedTask"]

HEADER: Final = "myometrics_audit"
FOLLOWERS: Final = ("callbacks", "errbacks", "chain")
TEXTS: Final = ("purpose", "legal_basis", "client_address", "user_agent")


if TYPE_CHECKING:
    _Task = Task[Any, Any]
else:
    _Task = Task


class RecordedTask(_Task):
    """A task that runs in the recording of the code that sends it.

    ``@shared_task(base=RecordedTask)``: actor, purpose, legal basis and client of the current
    ``audit.recording`` are sent as a header of the message. The task runs in a recording with them,
    and so do the tasks that it sends, and those that follow it in a chain, chord or link. A task
    that is sent outside of a recording has none.
    """

    abstract = True

    def apply_async(self, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        """Send the task with the values of the current recording."""
        current = current_recording()
        if current is not None and current.facts:
            own = {HEADER: _as_json(current.facts)}
            options["headers"] = {**own, **(options.get("headers") or {})}
        return super().apply_async(args, kwargs, *more, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task in a recording with the received values."""
        request = self.request
        is_outermost = not (request.is_eager or request.called_directly)
        if is_outermost:
            _add_header_to_followers(request)
        # `run`: Task.__call__ would replace `self.request`.
        with Recording(_facts_of(request), is_outermost=is_outermost):
            return self.run(*args, **kwargs)


def _as_json(facts: dict[str, Any]) -> dict[str, Any]:
    texts: dict[str, Any] = {name: facts[name] for name in TEXTS if name in facts}
    if "actor_id" in facts:
        key = facts["actor_id"]
        texts["actor_id"] = None if key is None else str(key)
    return texts


def _add_header_to_followers(request: Any) -> None:
    """Add the received header to the signatures that Celery sends after this task."""
    sent = _received_header(request)
    for name in FOLLOWERS if sent else ():
        if following := getattr(request, name):
            setattr(request, name, [_with_header(one, sent) for one in following])
    if sent and request.chord:
        request.chord = _with_header(request.chord, sent)


def _with_header(signature: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    options = signature.get("options") or {}
    headers = {HEADER: sent, **(options.get("headers") or {})}
    return {**signature, "options": {**options, "headers": headers}}


def _received_header(request: Any) -> dict[str, Any]:
    # A worker merges headers into the request; eager tasks keep them apart.
    return request.get(HEADER) or (request.headers or {}).get(HEADER) or {}


def _facts_of(request: Any) -> dict[str, Any]:
    sent = _received_header(request)
    facts: dict[str, Any] = {name: sent[name] for name in TEXTS if name in sent}
    if "actor_id" in sent:
        key = sent["actor_id"]
        to_key = get_user_model()._meta.pk.to_python
        facts["actor_id"] = None if key is None else to_key(key)
    return facts
