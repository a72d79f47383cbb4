"""The SCIM protocol with the dialects of Entra and Okta, on scim2-server's protocol layer."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any, Final, Union

from scim2_models import (
    ListResponse,
    PatchOp,
    PatchOperation,
    Path,
    Resource,
    ResourceType,
    ResponseParameters,
    SCIMException,
    SearchRequest,
)
from scim2_models.path import CompareOperator, Comparison, ValuePath
from scim2_server.conditions import Conditions
from scim2_server.handler import ScimHandler
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse
from scim2_server.service import ScimService

from .schemas import PROVIDER, Group, User
from .storage import Storage

MAX_OPERATIONS: Final = 1_000
MESSAGES: Final = (
    ListResponse[Union[User, Group]],  # noqa: UP007 (``User | Group`` is another key)
    *(
        message[model]
        for message in (PatchOp, SearchRequest, ResponseParameters)
        for model in (User, Group)
    ),
)
"""Kept, because pydantic would build the classes again after each full garbage collection."""
MULTI_VALUED: Final = ("members", "emails")
MANAGER_OR_TEXT: Final = re.compile(
    r"""("(?:[^"\\]|\\.)*")|(?<![\w.:])(?:urn:[\w:.]+:User:)?manager(?:\.value)?"""
    r'''\s+eq\s+"(?:[^"\\]|\\.)*"''',
    re.IGNORECASE,
)
"""A comparison with a manager, or a quoted text (group 1)."""


class TooMany(SCIMException):
    """400 with ``tooMany``."""

    status = 400
    scim_type = "tooMany"
    _default_detail = "The request asks for too much at once."


class Service(ScimService):
    """The protocol of this server."""

    def __init__(self, storage: Storage | None = None) -> None:
        super().__init__(PROVIDER)
        self.is_active = storage.is_active if storage else lambda: True

    def read_creation(
        self, resource_type: ResourceType, body: bytes, content_type: str | None
    ) -> Resource[Any]:
        body = self._completed(resource_type, body)
        return super().read_creation(resource_type, body, content_type)

    def read_replacement(
        self, resource_type: ResourceType, body: bytes, content_type: str | None
    ) -> Resource[Any]:
        body = self._completed(resource_type, body)
        return super().read_replacement(resource_type, body, content_type)

    def read_patch(
        self, resource_type: ResourceType, body: bytes, content_type: str | None
    ) -> PatchOp[Any]:
        return super().read_patch(resource_type, _standard_patch(body), content_type)

    def read_search(
        self, resource_types: list[ResourceType], payload: Any
    ) -> tuple[SearchRequest[Any], Any]:
        """Find nothing when Entra searches for a user's manager: managers are not stored."""
        filter_ = payload.get("filter") if isinstance(payload, dict) else None
        if isinstance(filter_, str):
            no_user = 'id eq ""'
            filter_ = MANAGER_OR_TEXT.sub(lambda match: match[1] or no_user, filter_)
            payload = {**payload, "filter": filter_}
        return super().read_search(resource_types, payload)

    def patch_response(
        self,
        base_url: str,
        resource: Resource[Any],
        response_parameters: ResponseParameters[Any],
    ) -> ScimResponse:
        """Return the changed resource, as Okta and ``scim-sanity`` expect."""
        return self.replacement_response(base_url, resource, response_parameters)

    def _completed(self, resource_type: ResourceType, body: bytes) -> bytes:
        """Add what a user may leave out: the address that the user name is, and ``active``."""
        data = json.loads(body) if body else None
        if resource_type.name != "User" or not isinstance(data, dict):
            return body
        names = {key.lower(): key for key in data}
        user_name = data.get(names.get("username", ""))
        if isinstance(user_name, str) and not data.get(names.get("emails", "")):
            data[names.get("emails", "emails")] = [{"value": user_name, "primary": True}]
        if data.get(names.get("active", "")) is None:
            data[names.get("active", "active")] = self.is_active()
        return json.dumps(data).encode()


class Handler(ScimHandler):
    """Serves the requests of one provider."""

    storage: Storage

    def patch(self, request: ScimRequest) -> ScimResponse:
        """Change a resource; 204 for a group with too many members to return."""
        response = super().patch(request)
        if self.storage.is_group_large:
            return ScimResponse(HTTPStatus.NO_CONTENT, None, response.headers)
        return response

    def patch_resource(
        self,
        resource_type: ResourceType,
        resource_id: str,
        patch_op: PatchOp[Any],
        conditions: Conditions,
    ) -> Resource[Any]:
        if resource_type.name == "Group":
            self.storage.patched_members = _named_members(patch_op.operations or [])
        patched = super().patch_resource(resource_type, resource_id, patch_op, conditions)
        if resource_type.name == "Group":
            return self.storage.patched_group(resource_id)
        return patched


def _standard_patch(body: bytes) -> bytes:
    """Drop what a ``remove`` says beside its path, and beside the ids of members.

    Entra adds ``"$ref": null`` to members. A text says nothing about an attribute with one value.
    """
    data = json.loads(body) if body else None
    operations = _member_of(data, "operations")
    if not isinstance(operations, list):
        return body
    if len(operations) > MAX_OPERATIONS:
        raise TooMany()
    for operation in operations:
        path, value = _member_of(operation, "path"), _member_of(operation, "value")
        if str(_member_of(operation, "op")).lower() != "remove":
            continue
        is_of_many = any(name in str(path).lower() for name in MULTI_VALUED)
        if isinstance(value, str) and not is_of_many:
            del operation[next(key for key in operation if key.lower() == "value")]
        if str(path).lower().endswith("members") and isinstance(value, list):
            value[:] = [
                {"value": member["value"]} if isinstance(member, dict) and "value" in member else {}
                for member in value
            ]
    return json.dumps(data).encode()


def _member_of(data: Any, name: str) -> Any:
    if not isinstance(data, dict):
        return None
    return next((value for key, value in data.items() if key.lower() == name), None)


def _named_members(operations: list[PatchOperation[Any]]) -> set[str] | None:
    """Return the ids of the members that a PATCH names; ``None`` if it concerns all members."""
    named: set[str] = set()
    for operation in operations:
        members = _operation_members(operation)
        if members is None:
            return None
        named |= members
    return named


def _operation_members(operation: PatchOperation[Any]) -> set[str] | None:
    is_replacement = operation.op == PatchOperation.Op.replace_
    path = str(operation.path or "")
    name = path.lower().removeprefix(f"{Group.__schema__}:".lower())
    value = operation.value
    if not name:
        value = _member_of(value, "members")
        if value is None:
            # A key may also be a path.
            keys = " ".join(operation.value) if isinstance(operation.value, dict) else ""
            return None if "members" in keys.lower() else set()
    elif not name.startswith("members"):
        return set()
    elif name != "members":
        is_removal = operation.op == PatchOperation.Op.remove
        return _filtered_member(operation.path) if is_removal else None
    if is_replacement or value is None:
        return None
    entries = value if isinstance(value, list) else [value]
    return {str(_member_of(entry, "value")) for entry in entries}


def _filtered_member(path: Path[Any] | None) -> set[str] | None:
    node = path.ast if path is not None else None
    comparison = node.val_filter if isinstance(node, ValuePath) and not node.sub_attr else None
    if not isinstance(comparison, Comparison) or comparison.op != CompareOperator.eq:
        return None
    if comparison.attr_path.attr.lower() != "value":
        return None
    return {str(comparison.value)}
