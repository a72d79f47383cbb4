"""An identity provider in the test process: OpenID Connect, introspection, Google's tokeninfo."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from joserfc.registry import HeaderParameter

CLIENT_ID = "clinic-front-end"
CLIENT_SECRET = "quiet-secret-of-the-client"
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class OidcProvider:
    """Issues tokens and answers the calls of a client; ``calls`` counts them by path.

    ``answers`` replaces the answer of a path: a function that takes the handler and writes it.
    """

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {
            "rsa": RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}),
            "ec": ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"}),
        }
        self.published = ["rsa", "ec"]
        self.calls: Counter[str] = Counter()
        self.answers: dict[str, Any] = {}
        self.tokens: dict[str, Any] = {}  # opaque token → introspection or tokeninfo
        self.codes: dict[
            str, Any
        ] = {}  # code → (claims of the ID token, PKCE challenge, redirect URI)
        self.userinfo: dict[str, Any] = {}  # subject → claims
        self.subjects: dict[str, Any] = {}  # access token → subject
        self.metadata: dict[str, Any] = {}
        self.forms: list[Any] = []
        self.headers: list[Any] = []
        self.gate = threading.Event()  # closed: introspection and tokeninfo wait
        self.gate.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider.answer(self)

            def do_POST(self) -> None:
                provider.answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # --- tokens

    def sign(
        self,
        claims: Any,
        *,
        key: Any = "rsa",
        alg: Any = None,
        typ: Any = "JWT",
        kid: Any = None,
        headers: Any = None,
    ) -> str:
        """A JWS of ``claims``; ``kid`` defaults to the key's."""
        signer = self.keys[key] if isinstance(key, str) else key
        alg = alg or ("ES256" if isinstance(signer, ECKey) else "RS256")
        header = {"alg": alg, "typ": typ, "kid": kid or signer.kid, **(headers or {})}
        header = {name: value for name, value in header.items() if value is not None}
        known = {name: HeaderParameter(name, "bool") for name in header.get("crit", [])}
        registry = jws.JWSRegistry(known, algorithms=[alg], strict_check_header=False)
        return jws.serialize_compact(header, json.dumps(claims), signer, registry=registry)

    def claims(self, subject: Any = "17", **changes: Any) -> Any:
        now = int(time.time())
        given = {
            "iss": self.issuer,
            "sub": subject,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 3600,
            "jti": uuid.uuid4().hex,
            **changes,
        }
        return {name: value for name, value in given.items() if value is not None}

    def id_token(self, subject: Any = "17", *, options: Any = None, **changes: Any) -> str:
        """An ID token of Ada Lovelace, ``ada@clinic.example``, verified; ``None`` omits a claim."""
        given = {
            "email": "ada@clinic.example",
            "email_verified": True,
            "given_name": "Ada",
            "family_name": "Lovelace",
            **changes,
        }
        return self.sign(self.claims(subject, **given), **(options or {}))

    def access_token(self, subject: Any = "17", *, options: Any = None, **changes: Any) -> str:
        """A JWT access token (RFC 9068) with the same address."""
        given = {"email": "ada@clinic.example", "email_verified": True, "scope": "openid"}
        claims = self.claims(subject, client_id=CLIENT_ID, **{**given, **changes})
        token = self.sign(claims, **{"typ": "at+jwt", **(options or {})})
        self.subjects[token] = subject
        return token

    def logout_token(self, *, options: Any = None, **changes: Any) -> str:
        given = {"events": {LOGOUT_EVENT: {}}, "email": None, **changes}
        return self.sign(self.claims(**given), **{"typ": "logout+jwt", **(options or {})})

    def opaque_token(self, subject: Any = "17", **changes: Any) -> str:
        """A token for introspection."""
        token = f"opaque-{uuid.uuid4().hex}"
        given = {"active": True, "client_id": CLIENT_ID, "token_type": "Bearer", "aud": None}
        given |= {"email": "ada@clinic.example", "email_verified": True, **changes}
        self.tokens[token] = self.claims(subject, **given)
        self.subjects[token] = subject
        return token

    def google_token(self, subject: Any = "17", **changes: Any) -> str:
        """A token for tokeninfo; its numbers and booleans are text, as Google's are."""
        token = f"ya29.{uuid.uuid4().hex}"
        given = {
            "azp": CLIENT_ID,
            "aud": CLIENT_ID,
            "sub": subject,
            "scope": "openid https://www.googleapis.com/auth/userinfo.email",
            "exp": str(int(time.time()) + 3599),
            "expires_in": "3599",
            "email": "ada@clinic.example",
            "email_verified": "true",
            "access_type": "online",
            **changes,
        }
        self.tokens[token] = {name: value for name, value in given.items() if value is not None}
        self.subjects[token] = subject
        return token

    def code(self, authorization_url: Any, subject: Any = "17", **changes: Any) -> Any:
        """What a sign-in at ``authorization_url`` sends back: code and state."""
        asked = dict(parse_qsl(urlsplit(authorization_url).query))
        code = uuid.uuid4().hex
        claims = {"nonce": asked.get("nonce"), **changes}
        self.codes[code] = (subject, claims, asked["code_challenge"], asked["redirect_uri"])
        return {"code": code, "state": asked["state"]}

    # --- HTTP

    def answer(self, handler: Any) -> None:
        path = urlsplit(handler.path).path
        self.calls[path] += 1
        length = int(handler.headers.get("Content-Length") or 0)
        form = dict(parse_qsl(handler.rfile.read(length).decode()))
        query = dict(parse_qsl(urlsplit(handler.path).query))
        self.forms.append((path, form or query))
        self.headers.append((path, dict(handler.headers)))
        if path in self.answers:
            self.answers[path](handler)
            return
        routes: dict[str, Any] = {
            "/.well-known/openid-configuration": self._discovery,
            "/jwks": self._jwks,
            "/token": self._token,
            "/userinfo": self._userinfo,
            "/introspect": self._introspect,
            "/tokeninfo": self._tokeninfo,
        }
        status, body = routes.get(path, self._nothing)(form, query, handler)
        respond(handler, status, body)

    def _jwks(self, form: Any, query: Any, handler: Any) -> Any:
        return 200, self.key_set()

    def _nothing(self, form: Any, query: Any, handler: Any) -> Any:
        return 404, {}

    def key_set(self) -> Any:
        return {"keys": [self.keys[name].as_dict(private=False) for name in self.published]}

    def _discovery(self, form: Any, query: Any, handler: Any) -> Any:
        names = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint")
        found = {name: f"{self.issuer}/{name.partition('_')[0]}" for name in names}
        found["authorization_endpoint"] = f"{self.issuer}/authorize"
        return 200, {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "introspection_endpoint": f"{self.issuer}/introspect",
            **found,
            **self.metadata,
        }

    def _token(self, form: Any, query: Any, handler: Any) -> Any:
        subject, claims, challenge, redirect_uri = self.codes.pop(
            form.get("code"), (None, {}, "", "")
        )
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        verified = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge
        if subject is None or not verified or form.get("redirect_uri") != redirect_uri:
            return 400, {"error": "invalid_grant"}
        access = self.access_token(subject)
        return 200, {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": 3600,
            "id_token": self.id_token(subject, **claims),
        }

    def _userinfo(self, form: Any, query: Any, handler: Any) -> Any:
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        subject = self.subjects.get(token)
        if subject is None:
            return 401, {"error": "invalid_token"}
        return 200, {"sub": subject, **self.userinfo.get(subject, {})}

    def _introspect(self, form: Any, query: Any, handler: Any) -> Any:
        self.gate.wait(30)
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if handler.headers.get("Authorization") != f"Basic {basic}":
            return 401, {"error": "invalid_client"}
        return 200, self.tokens.get(form.get("token"), {"active": False})

    def _tokeninfo(self, form: Any, query: Any, handler: Any) -> Any:
        self.gate.wait(30)
        found = self.tokens.get(query.get("access_token"))
        return (200, found) if found else (400, {"error_description": "Invalid Value"})


def respond(handler: Any, status: Any, body: Any, **headers: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)
