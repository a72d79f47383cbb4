"""Limits of a request body, and the order in which a request is checked."""

import gzip
import io
import tracemalloc

import pytest
from core_test_urls import SignInView
from django.test import RequestFactory
from rest_framework.exceptions import ParseError

from myometrics_core.api import MAX_AUTH_BODY_BYTES, StrictJSONParser

MIB = 1024 * 1024
JSON = "application/json"


class InvalidChunkSize(Exception):
    """As gunicorn's exception, which is no OSError."""


class CountedStream(io.RawIOBase):
    """A body of ``size`` bytes that counts the bytes read."""

    def __init__(self, size):
        self.left, self.taken = size, 0

    def readable(self):
        return True

    def read(self, size=-1):
        size = self.left if size is None or size < 0 else min(size, self.left)
        self.left -= size
        self.taken += size
        return b" " * size


def send(client, path, stream, *, method="POST", length=None, media_type=JSON, **extra):
    length = stream.left if length is None else length
    return client.generic(
        method,
        path,
        content_type=media_type,
        **{"CONTENT_LENGTH": str(length), "wsgi.input": stream, **extra},
    )


def assert_error(answer, status, code):
    assert answer.status_code == status, answer.content
    assert set(answer.json()) == {"detail", "code", "field_errors"}
    assert answer.json()["code"] == code


@pytest.mark.parametrize(
    ("path", "limit"), [("/api/echo/", 2 * MIB), ("/api/sign-in/", MAX_AUTH_BODY_BYTES)]
)
def test_body_over_the_limit_is_413_and_not_read(client, db, path, limit):
    stream = CountedStream(limit + 1)
    assert_error(send(client, path, stream), 413, "body_too_large")
    assert stream.taken == 0
    stream = CountedStream(limit)
    assert_error(send(client, path, stream), 400, "parse_error")
    assert stream.taken == limit


def test_lower_site_limit_applies_under_auth_too(client, db, settings):
    settings.MYOMETRICS = {"MAX_BODY_BYTES": 100}
    for path in ("/api/echo/", "/api/sign-in/"):
        assert_error(client.post(path, {"name": "x" * 200}, format="json"), 413, "body_too_large")


def test_body_over_the_limit_counts_per_address_and_then_is_429(client, db):
    for _ in range(5):
        assert_error(send(client, "/api/sign-in/", CountedStream(15 * MIB)), 413, "body_too_large")
    stream = CountedStream(15 * MIB)
    answer = send(client, "/api/sign-in/", stream)
    assert_error(answer, 429, "throttled")
    assert answer["Retry-After"]
    assert stream.taken == 0
    assert client.post("/api/sign-in/", {}, format="json").status_code == 429
    elsewhere = client.post("/api/sign-in/", {}, format="json", REMOTE_ADDR="203.0.113.5")
    assert elsewhere.status_code == 200


def test_body_over_the_limit_of_a_user_counts_per_address(client, user, settings):
    settings.MYOMETRICS = {"RATE_LIMITS": {"auth": "1/hour"}}
    client.force_authenticate(user)
    assert send(client, "/api/account/", CountedStream(MIB)).status_code == 413
    assert send(client, "/api/account/", CountedStream(MIB)).status_code == 429
    assert client.post("/api/account/", {}, format="json").status_code == 200


def test_body_is_checked_after_authentication_and_method(client, user):
    huge = {"length": 15 * MIB}
    for method, path, status in (
        ("POST", "/api/administrators/", 403),  # no authentication scheme: 403 instead of 401
        ("PUT", "/api/echo/", 405),
        ("DELETE", "/api/sign-in/", 405),
        ("POST", "/api/nowhere/", 404),
    ):
        stream = CountedStream(15 * MIB)
        answer = send(client, path, stream, method=method, **huge)
        assert answer.status_code == status, path
        assert stream.taken == 0


@pytest.mark.parametrize(
    "media_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "x", ""],
)
def test_another_media_type_is_415_before_size_and_rate(client, db, media_type):
    for _ in range(7):
        stream = CountedStream(15 * MIB)
        answer = send(client, "/api/sign-in/", stream, media_type=media_type)
        assert_error(answer, 415, "unsupported_media_type")
        assert stream.taken == 0
    assert client.post("/api/sign-in/", {}, format="json").status_code == 200


def test_ignored_body_may_have_any_type_but_not_any_size(client, db):
    answer = client.generic("GET", "/api/users/", b"a=b", content_type="text/plain")
    assert answer.status_code == 200
    large = send(client, "/api/users/", CountedStream(3 * MIB), method="GET")
    assert_error(large, 413, "body_too_large")


def test_body_without_a_length_is_read_up_to_the_limit(client, db):
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    stream = CountedStream(15 * MIB)
    answer = send(client, "/api/sign-in/", stream, length="", **chunked)
    assert_error(answer, 413, "body_too_large")
    assert stream.taken == MAX_AUTH_BODY_BYTES + 1
    answer = send(client, "/api/echo/", io.BytesIO(b'{"name": "Ada"}'), length="", **chunked)
    assert answer.json() == {"name": "Ada"}


@pytest.mark.parametrize("error", [OSError("connection reset"), InvalidChunkSize(b"zz")])
def test_malformed_chunked_body_is_400_and_counts(client, db, error):
    class BrokenOff(io.BytesIO):
        def read(self, *args):
            raise error

    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    answers = [send(client, "/api/sign-in/", BrokenOff(), length="", **chunked) for _ in range(6)]
    for answer in answers[:5]:
        assert_error(answer, 400, "parse_error")
    assert_error(answers[5], 429, "throttled")


@pytest.mark.parametrize("length", ["x", "-1", "1.5", "9" * 5000])
def test_invalid_content_length_is_no_server_error(client, db, length):
    answer = send(client, "/api/echo/", io.BytesIO(b'{"name": "Ada"}'), length=length)
    assert answer.status_code in (400, 413)


def test_body_shorter_than_its_length_is_400(client, db):
    answer = send(client, "/api/echo/", io.BytesIO(b'{"name"'), length=1000)
    assert_error(answer, 400, "parse_error")


def test_compressed_body_is_not_expanded(client, db):
    body = gzip.compress(b'{"name": "Ada"}')
    answer = send(client, "/api/echo/", io.BytesIO(body), length=len(body),
                  HTTP_CONTENT_ENCODING="gzip")  # fmt: skip
    assert_error(answer, 400, "parse_error")


def test_huge_body_is_rejected_without_using_memory(client, db):
    body = b'{"refresh": "' + b"x" * (15 * MIB) + b'"}'
    client.post("/api/sign-in/", {}, format="json")  # imports and caches
    stream = io.BytesIO(body)
    tracemalloc.start()
    try:
        answer = send(client, "/api/sign-in/", stream, length=len(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < MIB


def key_of_the_body(request, view, bucket):
    return request.data["email"]


def test_unusable_body_counts_per_address_if_the_key_reads_it(client, db, settings):
    settings.MYOMETRICS = {"RATE_LIMIT_KEY": f"{__name__}.key_of_the_body"}
    for address in ("192.0.2.1", "192.0.2.2"):
        for _ in range(5):
            answer = client.generic(
                "POST", "/api/sign-in/", b"{", content_type=JSON, REMOTE_ADDR=address
            )
            assert_error(answer, 400, "parse_error")
        for body in (b"{", b" " * MIB):
            answer = client.generic(
                "POST", "/api/sign-in/", body, content_type=JSON, REMOTE_ADDR=address
            )
            assert answer.status_code == 429
    for email in ("ada@clinic.example", "bob@clinic.example"):
        answers = [client.post("/api/sign-in/", {"email": email}, format="json") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]


def test_aborted_body_counts_per_address_if_the_key_reads_it(client, db, settings):
    class BrokenOff(io.BytesIO):
        def read(self, *args):
            raise OSError("connection reset")

    settings.MYOMETRICS = {"RATE_LIMIT_KEY": f"{__name__}.key_of_the_body"}
    answers = [send(client, "/api/sign-in/", BrokenOff(), length=10) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [400] * 5 + [429]


@pytest.mark.parametrize("parser", ["JSONParser", "FormParser", "MultiPartParser"])
def test_limit_applies_to_parsers_of_the_site(client, db, settings, parser):
    settings.MYOMETRICS = {"PARSER_CLASSES": [f"rest_framework.parsers.{parser}"]}
    media_type = {"JSONParser": JSON, "FormParser": "application/x-www-form-urlencoded",
                  "MultiPartParser": "multipart/form-data; boundary=x"}[parser]  # fmt: skip
    stream = CountedStream(3 * MIB)
    answer = send(client, "/api/echo/", stream, media_type=media_type)
    assert_error(answer, 413, "body_too_large")
    assert stream.taken == 0


def test_data_upload_limit_of_django_is_a_413(client, db, settings):
    settings.MYOMETRICS = {"PARSER_CLASSES": ["rest_framework.parsers.JSONParser"]}
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    answer = client.post("/api/reads-raw-body/", {"name": "x" * 100}, format="json")
    assert_error(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    "charset", ["base64", "bz2_codec", "undefined", "utf-16", "latin-1", "utf-8", "nonsense"]
)
def test_json_and_query_are_utf8_regardless_of_charset(client, db, charset):
    answer = client.generic(
        "POST", "/api/echo/", '{"name": "Jürgen"}'.encode(), f"{JSON}; charset={charset}"
    )
    assert answer.json() == {"name": "Jürgen"}
    answer = client.get("/api/users/?page=1", CONTENT_TYPE=f"{JSON}; charset={charset}")
    assert answer.status_code == 200


def test_default_charset_of_the_site_is_ignored(client, db, settings):
    settings.DEFAULT_CHARSET = "latin-1"
    body = '{"name": "Jürgen"}'.encode()
    answer = send(client, "/api/echo/", io.BytesIO(body), length=len(body))
    assert answer.content.decode() == '{"name":"Jürgen"}'


def test_parser_reads_no_more_than_the_limit_of_its_view():
    view = SignInView()
    stream = CountedStream(15 * MIB)
    with pytest.raises(Exception, match="too large"):
        StrictJSONParser().parse(stream, JSON, {"view": view})
    assert stream.taken == MAX_AUTH_BODY_BYTES + 1
    with pytest.raises(ParseError):
        StrictJSONParser().parse(io.BytesIO(b""), JSON, {"request": RequestFactory().get("/")})
