"""A mixin for ``ModelAdmin``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import BadRequest, PermissionDenied
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase

from myometrics_core.db import atomic_write

from ..audit import recording
from .declarations import is_recorded
from .requests import AuditOptions, RequestRecorder

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

    _Admin = ModelAdmin[Any]
else:
    _Admin = object

METHODS: Final = ("GET", "HEAD", "POST")
RECORDER: Final = "_myometrics_audit_recorder"
"""Attribute of the request: instances of ``ModelAdmin`` are shared by all threads."""


class RecordedAdminMixin(AuditOptions, _Admin):
    """Records what the admin pages of a model show and change; list it before ``ModelAdmin``.

    The change list leaves one entry ``<model>_listed`` for each data subject on the page, the other
    pages of an object ``<model>_viewed``. Changes include many-to-many relations, deletions with
    all that they delete, actions, editable lists, the password page of ``UserAdmin``, and inlines
    whose models are declared by ``recorded()``, as the model itself must be. A user who is denied
    access leaves an entry ``<model>_access_denied``, which survives the rollback of the request.
    Other methods than ``GET``, ``HEAD`` and ``POST`` are not allowed: the admin would show its
    pages for any method.
    """

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Record the page and what is changed from it."""
        view = partial(super().changelist_view, request, *args, **kwargs)
        return self._record(view, request, None)

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Record the object and its changes."""
        view = partial(super().changeform_view, request, object_id, *args, **kwargs)
        return self._record(view, request, object_id)

    def delete_view(self, request: HttpRequest, object_id: Any, *args: Any, **kwargs: Any) -> Any:
        """Record the confirmation page and the deletion."""
        view = partial(super().delete_view, request, object_id, *args, **kwargs)
        return self._record(view, request, object_id)

    def history_view(self, request: HttpRequest, object_id: Any, *args: Any, **kwargs: Any) -> Any:
        """Record the object."""
        view = partial(super().history_view, request, object_id, *args, **kwargs)
        return self._record(view, request, object_id)

    def user_change_password(self, request: HttpRequest, id: str, *args: Any, **kwargs: Any) -> Any:
        """Record the page of Django's ``UserAdmin`` that changes a password."""
        view = partial(super().user_change_password, request, id, *args, **kwargs)  # type: ignore[misc]
        return self._record(view, request, id)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the change list, and remember its page."""
        changelist = super().get_changelist_instance(request)
        if recorder := _recorder_of(request):
            recorder.show("listed", _Rows(changelist))
        return changelist

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Return the object, and remember it."""
        obj = super().get_object(request, *args, **kwargs)
        recorder = _recorder_of(request)
        if obj is not None and recorder is not None:
            recorder.fetch(obj)
            if request.method == "POST":
                recorder.tracker.watch([obj])
        return obj

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        """Return the actions, which record the changes of the selected objects.

        ``action_location`` is new in Django 6.1.
        """
        location = {} if action_location is None else {"action_location": action_location}
        actions: Any = super().get_actions(request, **location)
        return {name: _recorded_action(name, action) for name, action in actions.items()}

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save the object, which an editable list has not read by ``get_object``."""
        recorder = _recorder_of(request)
        if change and recorder is not None:
            recorder.tracker.watch([obj])
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: Any) -> None:
        """Save the inlines, and remember a new object."""
        super().save_related(request, form, formsets, change)
        if recorder := _recorder_of(request):
            recorder.tracker.add([form.instance])

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: Any) -> None:
        """Save an inline, and remember its objects."""
        recorder = _recorder_of(request)
        if recorder is None or not is_recorded(formset.model):
            super().save_formset(request, form, formset, change)
            return
        recorder.tracker.watch_deletion(form.instance for form in formset.deleted_forms)
        recorder.tracker.watch(form.instance for form in formset.initial_forms)
        super().save_formset(request, form, formset, change)
        recorder.tracker.add(formset.new_objects)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete the object, and remember what is deleted with it."""
        if recorder := _recorder_of(request):
            recorder.tracker.watch_deletion([obj])
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete the selected objects, and remember what is deleted with them."""
        if recorder := _recorder_of(request):
            recorder.tracker.watch_deletion(queryset)
        super().delete_queryset(request, queryset)

    def _record(self, view: Callable[[], Any], request: HttpRequest, key: Any) -> Any:
        # One of these views may call another, as those of a single object do.
        if _recorder_of(request) is not None:
            return view()
        if request.method not in METHODS:
            return HttpResponseNotAllowed(METHODS)
        with recording():
            recorder = RequestRecorder(self, request, self.model)
            try:
                recorder.refuse_unstorable()
            except ValueError as error:
                raise BadRequest(str(error)) from None
            setattr(request, RECORDER, recorder)
            try:
                if request.method != "POST":
                    return _respond(recorder, view, request)
                with atomic_write(router.db_for_write(self.model)):
                    return _respond(recorder, view, request)
            except PermissionDenied:
                recorder.deny(key)
                raise
            finally:
                delattr(request, RECORDER)


class _Rows:
    """The rows of a change list, read at the end: the page's template uses the same query."""

    def __init__(self, changelist: Any) -> None:
        self.changelist = changelist

    def __iter__(self) -> Any:
        return iter(self.changelist.result_list)


def _respond(recorder: RequestRecorder, view: Callable[[], Any], request: HttpRequest) -> Any:
    response = view()
    recorder.finish(is_shown=response.status_code == 200 and request.method != "HEAD")
    return response


def _recorded_action(name: str, action: Any) -> Any:
    if isinstance(action, tuple):  # before Django 6.1
        return (_recorded_function(name, action[0]), *action[1:])
    return replace(action, func=_recorded_function(name, action.func))


def _recorded_function(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        recorder = _recorder_of(request)
        if recorder is None:
            return function(admin, request, queryset)
        rows = list(queryset.all())  # the query set of the action stays unevaluated
        recorder.tracker.watch(rows)
        response = function(admin, request, queryset)
        if isinstance(response, HttpResponseBase):
            recorder.show_only("listed", rows, admin_action=name)
        return response

    return run


def _recorder_of(request: HttpRequest) -> RequestRecorder | None:
    return getattr(request, RECORDER, None)
