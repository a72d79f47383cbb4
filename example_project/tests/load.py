"""Clients that send requests continuously and keep the responses."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field

import httpx

from myometrics_testing.waiting import PATIENCE, wait_for


def upload(number):
    """The body of an audit entry about an upload."""
    return {"action": "upload_completed", "resource_type": "upload", "resource_id": f"u{number}"}


@dataclass
class Load:
    """``clients`` threads, each writing an audit entry and reading its profile in turn.

    ``pause``: seconds that a thread waits between two requests.
    """

    url: str
    access: str
    clients: int = 4
    pause: float = 0.0
    written: list[int] = field(default_factory=list)
    succeeded: int = 0
    refused: list[httpx.Response] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __enter__(self):
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait_for_successes(self, more=20):
        """Return once ``more`` further requests have succeeded."""
        before = self.succeeded
        wait_for(lambda: self.succeeded >= before + more)

    def _run(self):
        headers = {"Authorization": f"Bearer {self.access}"}
        while not self._over.is_set():
            # Long, because responses are slow on a machine under load.
            with httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE) as client:
                self._request(client, "POST", "/api/audit-logs/")
                self._request(client, "GET", "/api/auth/user/")
            self._over.wait(self.pause)

    def _request(self, client, method, path):
        # Unique, so that an entry that was written twice is found.
        number = secrets.token_hex(8)
        entry = {"action": "load", "resource_type": "test", "resource_id": number}
        body = entry if method == "POST" else None
        try:
            answer = client.request(method, path, json=body)
        except httpx.TransportError as error:
            with self._lock:
                self.broken.append(repr(error))
            time.sleep(0.05)
            return
        with self._lock:
            self._note(answer)

    def _note(self, answer):
        if answer.status_code >= 400:
            self.refused.append(answer)
            return
        self.succeeded += 1
        if answer.status_code == 201:
            self.written.append(answer.json()["id"])
