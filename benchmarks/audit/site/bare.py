"""The baseline: plain Django views that do only what the response needs.

A list returns a precomputed count, and reads its page from a precomputed position (``before``:
timestamp and id of the row above the page).
"""

import json
from datetime import timezone
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

COLUMNS = (
    "id",
    "user_id",
    "action",
    "resource_type",
    "resource_id",
    "timestamp",
    "ip_address",
    "user_agent",
    "details",
)
TABLE = "myometrics_audit_auditlog"
REPORT = f"""
SELECT a.id, a.timestamp, a.user_id, a.pseudonym, a.action, a.resource_type, a.resource_id,
    a.purpose, a.legal_basis, a.origin, u.first_name, u.last_name, u.username,
    (SELECT count(*) FROM {TABLE} WHERE data_subject = %s AND data_subject > '') AS count
FROM {TABLE} a LEFT JOIN auth_user u ON u.id = a.user_id
WHERE a.data_subject = %s AND a.data_subject > ''
ORDER BY a.timestamp DESC, a.id DESC LIMIT 20
"""


@csrf_exempt
def audit_logs(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, is_staff, is_active FROM auth_user WHERE id = %s",
            [request.headers["X-User"]],
        )
        user_id, is_staff, is_active = cursor.fetchone()
        if not is_active or (request.method == "GET" and not is_staff):
            return HttpResponse(status=403)
        body = (
            _create(request, cursor, user_id)
            if request.method == "POST"
            else _list(request, cursor)
        )
    status = 201 if request.method == "POST" else 200
    return HttpResponse(json.dumps(body), content_type="application/json", status=status)


def access_report(request: HttpRequest) -> HttpResponse:
    subject = request.GET["data_subject"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT is_superuser, is_active FROM auth_user WHERE id = %s",
            [request.headers["X-User"]],
        )
        if cursor.fetchone() != (True, True):
            return HttpResponse(status=403)
        cursor.execute(REPORT, [subject, subject])
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        row["timestamp"] = row["timestamp"].isoformat()
    count = rows[0].pop("count") if rows else 0
    body = {"count": count, "next": None, "previous": None, "results": rows}
    return HttpResponse(json.dumps(body), content_type="application/json")


def _list(request: HttpRequest, cursor: Any) -> dict[str, Any]:
    where, values = [], []
    for name, sql in (
        ("action", "action = %s"),
        ("user_id", "user_id = %s"),
        ("resource_type", "resource_type = %s"),
        ("start_date", "timestamp >= %s::timestamptz"),
        ("before", "(timestamp, id) < (%s, %s)"),
    ):
        if value := request.GET.get(name):
            where.append(sql)
            values += value.split(",") if name == "before" else [value]
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    cursor.execute(
        f"SELECT {', '.join(COLUMNS)} FROM {TABLE} {condition} "
        "ORDER BY timestamp DESC, id DESC LIMIT 20",
        values,
    )
    results = [_shown(row) for row in cursor.fetchall()]
    return {"count": int(request.GET["count"]), "next": None, "previous": None, "results": results}


def _create(request: HttpRequest, cursor: Any, user_id: int) -> dict[str, Any]:
    body = json.loads(request.body)
    for name, longest in (("action", 50), ("resource_type", 50), ("resource_id", 100)):
        if not isinstance(body[name], str) or not 1 <= len(body[name]) <= longest:
            raise ValueError(name)
    cursor.execute(
        "INSERT INTO site_plainlog (user_id, action, resource_type, resource_id, timestamp, "
        "ip_address, user_agent, details) VALUES (%s, %s, %s, %s, now(), %s, %s, %s) "
        "RETURNING id, user_id, action, resource_type, resource_id, timestamp, ip_address, "
        "user_agent, details",
        [
            user_id,
            body["action"],
            body["resource_type"],
            body["resource_id"],
            request.META["REMOTE_ADDR"] or "127.0.0.1",
            request.META.get("HTTP_USER_AGENT", ""),
            json.dumps(body.get("details", {})),
        ],
    )
    return _shown(cursor.fetchone())


def _shown(row: tuple[Any, ...]) -> dict[str, Any]:
    shown = dict(zip(COLUMNS, row, strict=True))
    moment = shown["timestamp"].astimezone(timezone.utc)
    shown["timestamp"] = moment.isoformat().replace("+00:00", "Z")
    shown["details"] = json.loads(shown["details"])
    return shown
