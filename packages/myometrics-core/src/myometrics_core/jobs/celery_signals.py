"""The request id in Celery's tasks: sent as a header of the message, set while the task runs."""

from __future__ import annotations

from typing import Any

from celery import signals

from ..http.request_id import TASK_HEADER, current_request_id, set_request_id


def connect_celery() -> None:
    """Pass the request id to Celery tasks."""
    signals.before_task_publish.connect(_attach, dispatch_uid="myometrics_request_id")
    signals.task_received.connect(_clear, dispatch_uid="myometrics_request_id")
    signals.task_prerun.connect(_adopt, dispatch_uid="myometrics_request_id")
    signals.task_postrun.connect(_drop, dispatch_uid="myometrics_request_id")


def _attach(headers: dict[str, Any] | None = None, **kwargs: Any) -> None:
    if headers is not None and current_request_id():
        headers.setdefault(TASK_HEADER, current_request_id())


def _adopt(task: Any = None, **kwargs: Any) -> None:
    if task.request.is_eager:
        return
    headers = getattr(task.request, "headers", None) or {}
    brought = getattr(task.request, TASK_HEADER, None)
    set_request_id(brought or headers.get(TASK_HEADER))


def _clear(**kwargs: Any) -> None:
    """Reset the id after the worker logged "received": its next lines are about other tasks."""
    set_request_id(None)


def _drop(task: Any = None, **kwargs: Any) -> None:
    if not task.request.is_eager:
        set_request_id(None)
