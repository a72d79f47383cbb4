"""Users and groups as SCIM resources in the database, for one request of one provider."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, cast

from django.db import IntegrityError
from django.db.models import Count
from rest_framework.request import Request
from scim2_models import (
    Meta,
    NotFoundException,
    NotImplementedException,
    Resource,
    ResourceType,
    ResponseParameters,
    SearchRequest,
)
from scim2_server.storage import ScimStorage, SearchPage

from myometrics_auth.services.users import administrator_kept
from myometrics_core.db import (
    SerializationFailure,
    atomic_write,
    is_foreign_key_violation,
    is_unique_violation,
)
from myometrics_core.users import lock_users_shared, parse_user_id

from .filters import GROUP_COLUMNS, USER_COLUMNS, address_of, condition
from .models import ProvisionedUser, ProvisioningGroup, ProvisioningMembership
from .schemas import MAX_RESULTS, Group, GroupMember, User
from .services import (
    group_create,
    group_delete,
    group_update,
    user_match,
    user_provision,
    user_remove,
    user_revise,
)
from .user_resources import checked_text, user_data, user_resource

MAX_MEMBERS_RETURNED: Final = 200
"""Members up to which the response to a PATCH holds the group; beyond it is empty (204)."""
MAX_MEMBERS_LISTED: Final = 20_000
"""Members in one page of groups. The page then ends early, as RFC 7644 permits."""


class Storage(ScimStorage):
    """Reads and writes the users and groups that one provider sees.

    ``patched_members``: the members that a PATCH names; only these are read and compared, so that
    it costs the same in a group of any size. ``None``: all.
    """

    def __init__(self, provider: str, request: Request) -> None:
        self.provider = provider
        self.request = request
        self.is_write = request.method not in {"GET", "HEAD"}
        self.locked_user: Any = None
        self.patched_members: Collection[str] | None = None
        self.members_before: set[str] = set()
        self.is_group_large = False
        self.read_user: ProvisionedUser | None = None

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Run a write in one transaction, with the user locked; reads need none."""
        try:
            with atomic_write() if self.is_write else nullcontext():
                is_locked = self.locked_user is not None
                with administrator_kept(self.locked_user) if is_locked else nullcontext():
                    yield
        except IntegrityError as error:
            if is_foreign_key_violation(error):  # a member was erased concurrently
                raise SerializationFailure(*error.args) from error
            if not is_unique_violation(error) or hasattr(self.request, "had_collision"):
                raise
            # If a concurrent request took the name, the next attempt finds it and refuses. Any
            # other collision, as of a column of the site, happens again.
            self.request.had_collision = True  # type: ignore[attr-defined]
            raise SerializationFailure(*error.args) from error

    def get(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        response_parameters: ResponseParameters[Any] | None = None,
    ) -> Resource[Any]:
        if resource_type.name == "User":
            self.read_user = self._user(resource_id)
            return next(self._user_resources([self.read_user]))
        group = self._group(resource_id)
        return self._group_resource(group, with_members=_wants_members(response_parameters))

    def is_active(self) -> bool:
        """Return whether the user that was read is active; a new one is."""
        return self.read_user is None or self.read_user.user.is_active

    def search(
        self,
        resource_types: list[ResourceType],
        search_request: SearchRequest[Any],
        *,
        position: Any = None,
    ) -> SearchPage:
        if len(resource_types) != 1:
            raise NotImplementedException(detail="Search users or groups.")
        start = (search_request.start_index or 1) - 1
        stop = start + (MAX_RESULTS if search_request.count is None else search_request.count)
        if resource_types[0].name == "User":
            return self._user_page(search_request, start, stop)
        return self._group_page(search_request, start, stop)

    def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        if resource_type.name == "User":
            provisioned = user_provision(
                provider=self.provider, data=user_data(cast("User", resource)), request=self.request
            )
            return next(self._user_resources([provisioned]))
        group = group_create(
            provider=self.provider,
            **_group_names(cast("Group", resource)),
            member_ids=_member_keys(_members_of(cast("Group", resource))),
            request=self.request,
        )
        return self._group_resource(group)

    def update(
        self,
        resource_type: ResourceType,
        resource: Resource[Any],
        *,
        expected_version: str | None = None,
    ) -> Resource[Any]:
        # The version is the expected one: ``get`` has read the resource under its lock.
        if resource_type.name == "User":
            provisioned = cast("ProvisionedUser", self.read_user)
            user_revise(
                provisioned=provisioned,
                data=user_data(cast("User", resource), provisioned),
                request=self.request,
            )
            return next(self._user_resources([provisioned]))
        group = self._group(str(resource.id))
        members = _members_of(cast("Group", resource))
        group_update(
            group=group,
            **_group_names(cast("Group", resource)),
            joining=_member_keys(members - self.members_before),
            leaving=_member_keys(self.members_before - members),
            request=self.request,
        )
        # Handler reads a group again after a PATCH.
        return self._group_resource(group, with_members=self.request.method == "PUT")

    def patched_group(self, resource_id: str) -> Resource[Any]:
        """Return a group after a PATCH, without its members if they are too many."""
        self.patched_members = None
        group = self._group(resource_id)
        is_chosen = "attributes" in self.request.query_params
        size = ProvisioningMembership.objects.filter(group=group).count()
        self.is_group_large = not is_chosen and size > MAX_MEMBERS_RETURNED
        return self._group_resource(group, with_members=not self.is_group_large)

    def delete(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        expected_version: str | None = None,
    ) -> None:
        if resource_type.name == "User":
            user_remove(provisioned=cast("ProvisionedUser", self.read_user), request=self.request)
        else:
            group_delete(group=self._group(resource_id), request=self.request)

    # -- users ------------------------------------------------------------------------------------

    def _user(self, resource_id: str) -> ProvisionedUser:
        # Neither ordered nor filtered by ``deleted_at``: without statistics PostgreSQL could choose
        # the index of the order or of that condition, and read every user of the provider.
        rows = ProvisionedUser.objects.select_related("user")
        try:
            found = rows.get(provider=self.provider, user_id=parse_user_id(resource_id))
        except (ValueError, ProvisionedUser.DoesNotExist):
            raise NotFoundException() from None
        if found.deleted_at is not None:
            raise NotFoundException()
        return found

    def _user_page(self, search: SearchRequest[Any], start: int, stop: int) -> SearchPage:
        rows = ProvisionedUser.objects.filter(provider=self.provider, deleted_at=None)
        if search.filter is not None:
            rows = rows.filter(condition(search.filter, USER_COLUMNS))
        total = rows.count()
        address = address_of(search.filter.ast) if search.filter is not None else None
        if total == 0 and address is not None:
            user_match(provider=self.provider, address=address)
            total = rows.count()
        if start >= min(total, stop):
            return SearchPage(total, [])
        # A subquery: the skipped rows are not joined with their users.
        page = ProvisionedUser.objects.filter(pk__in=rows.order_by("pk").values("pk")[start:stop])
        found = list(page.select_related("user").order_by("pk"))
        return SearchPage(total, list(self._user_resources(found)))

    def _user_resources(self, rows: list[ProvisionedUser]) -> Iterator[Resource[Any]]:
        groups: dict[Any, list[ProvisioningGroup]] = {row.user_id: [] for row in rows}
        memberships = ProvisioningMembership.objects.filter(
            user_id__in=list(groups), group__provider=self.provider
        )
        for membership in memberships.select_related("group").order_by("group__created_at"):
            groups[membership.user_id].append(membership.group)
        for row in rows:
            yield user_resource(row, groups[row.user_id])

    # -- groups -----------------------------------------------------------------------------------

    def _group(self, resource_id: str) -> ProvisioningGroup:
        try:
            key = uuid.UUID(resource_id)
        except ValueError:
            raise NotFoundException() from None
        groups = ProvisioningGroup.objects.filter(provider=self.provider, pk=key)
        if self.is_write:
            lock_users_shared(_member_keys(self.patched_members or ()))
            groups = groups.select_for_update(no_key=True)
        group = groups.first()
        if group is None or str(key) != resource_id:
            raise NotFoundException()
        return group

    def _group_page(self, search: SearchRequest[Any], start: int, stop: int) -> SearchPage:
        rows = ProvisioningGroup.objects.filter(provider=self.provider)
        if search.filter is not None:
            found = rows.filter(condition(search.filter, GROUP_COLUMNS)).values("pk")
            rows = rows.filter(pk__in=found)
        total = rows.count()
        rows = rows.order_by("created_at", "pk")
        with_members = _wants_members(search)
        if start >= min(total, stop):
            return SearchPage(total, [])
        if not with_members:
            page = list(rows[start:stop])
        else:
            page = _at_most(list(rows.annotate(size=Count("memberships"))[start:stop]))
        members: dict[Any, list[GroupMember]] = {group.pk: [] for group in page}
        if with_members:
            memberships = ProvisioningMembership.objects.filter(group_id__in=list(members))
            for group_id, user_id in memberships.values_list("group_id", "user_id"):
                members[group_id].append(_member(user_id))
        return SearchPage(total, [_group_model(group, members[group.pk]) for group in page])

    def _group_resource(
        self, group: ProvisioningGroup, *, with_members: bool = True
    ) -> Resource[Any]:
        if not with_members:
            return _group_model(group, None)
        memberships = ProvisioningMembership.objects.filter(group=group).order_by("pk")
        if self.patched_members is not None:
            memberships = memberships.filter(user_id__in=_member_keys(self.patched_members))
        keys = memberships.values_list("user_id", flat=True)
        members = [_member(key) for key in keys]
        self.members_before = {str(member.value) for member in members}
        return _group_model(group, members)


def _wants_members(parameters: ResponseParameters[Any] | None) -> bool:
    if parameters is None:
        return True
    if parameters.attributes:
        return any(_is_members(path) for path in parameters.attributes)
    return not any(_is_members(path) for path in parameters.excluded_attributes or ())


def _is_members(path: Any) -> bool:
    return str(path).lower().removeprefix(f"{Group.__schema__}:".lower()).startswith("members")


def _members_of(resource: Group) -> set[str]:
    return {str(member.value) for member in resource.members or () if member.value}


def _group_names(resource: Group) -> dict[str, str]:
    return {
        "display_name": checked_text(resource.display_name, "displayName"),
        "external_id": checked_text(resource.external_id or "", "externalId", blank=True),
    }


def _member_keys(members: Collection[str]) -> list[Any]:
    keys = []
    for member in sorted(members):
        try:
            keys.append(parse_user_id(member))
        except ValueError:  # not a user, as an unknown one
            continue
    return keys


def _at_most(groups: list[Any]) -> list[Any]:
    listed = 0
    for position, group in enumerate(groups):
        listed += group.size
        if position and listed > MAX_MEMBERS_LISTED:
            return groups[:position]
    return groups


def _member(user_id: Any) -> GroupMember:
    return GroupMember.model_construct(value=str(user_id), ref=f"Users/{user_id}", type="User")


def _group_model(group: ProvisioningGroup, members: list[GroupMember] | None) -> Resource[Any]:
    return Group(
        id=str(group.pk),
        external_id=group.external_id or None,
        display_name=group.display_name,
        members=members or None,
        meta=Meta(
            resource_type="Group",
            created=group.created_at,
            last_modified=group.modified_at,
            version=f'W/"{group.version}"',
        ),
    )
