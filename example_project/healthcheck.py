"""Ends with 0 if the web server here answers ``/livez``: the container's health check."""

import http.client
import os
import sys

EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""What ``HOST`` is where the server listens on every interface, and where it is reached then."""

listens_on = os.environ.get("HOST", "").strip("[]")
address = EVERYWHERE.get(listens_on, listens_on)
allowed = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".")
host = "localhost" if allowed in {"", "*"} else allowed
connection = http.client.HTTPConnection(address, int(os.environ.get("PORT") or 8001), timeout=2)
try:
    connection.request("GET", "/livez", headers={"Host": host})
    sys.exit(connection.getresponse().status != 200)
except OSError as error:
    sys.exit(f"no answer: {error}")
