"""Request id in the log lines of Celery's worker about a task."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

from ..http.request_id import TASK_HEADER, request_id_as, set_request_id


class TaskRequest(Request):
    """A task in the worker's main process, logged with the id of the request that sent it.

    Set ``app.Task.Request = "myometrics_core.jobs.celery_requests:TaskRequest"`` to use it. Log
    lines of the task itself have the id without it.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        # The worker logs "received" next; then the signal `task_received` resets the id.
        set_request_id(self._request_id)

    def revoked(self) -> bool:
        """Return whether the task was revoked, which ends its log lines."""
        is_revoked = bool(super().revoked())
        if is_revoked:
            set_request_id(None)
        return is_revoked

    def on_failure(self, *arguments: Any, **options: Any) -> Any:
        """Log and acknowledge a failure."""
        with request_id_as(self._request_id):
            return super().on_failure(*arguments, **options)

    def on_timeout(self, *arguments: Any, **options: Any) -> Any:
        """Log and acknowledge a timeout."""
        with request_id_as(self._request_id):
            return super().on_timeout(*arguments, **options)

    @property
    def _request_id(self) -> str | None:
        return self.request_dict.get(TASK_HEADER)
