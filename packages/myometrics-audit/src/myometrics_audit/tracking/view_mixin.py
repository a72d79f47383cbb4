"""A mixin for generic views and view sets of Django REST framework."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, models, router
from django.utils.translation import gettext as _
from rest_framework import exceptions

from myometrics_core.db import atomic_write

from ..audit import ActorDeleted, recording
from ..log.models import AuditLog
from .requests import AuditOptions, RequestRecorder
from .tracker import ModelClass

if TYPE_CHECKING:
    from rest_framework.generics import GenericAPIView
    from rest_framework.request import Request
    from rest_framework.response import Response

    _View = GenericAPIView[Any]
else:
    _View = object

READS = ("GET",)
SHOWING_NOTHING = ("HEAD", "OPTIONS")


class RecordedViewMixin(AuditOptions, _View):
    """Records what a generic view shows and changes; list it before the view's class.

    Shown are the objects that the response serializes: one entry ``<model>_viewed`` for a single
    object, one ``<model>_listed`` for each data subject of a list. Changes are those of the objects
    from ``get_object()`` and of serializers with ``data``, in custom actions as well; the model
    must be declared by ``recorded()``. Each request that changes objects is a transaction. A user
    who is denied access leaves an entry ``<model>_access_denied``, which survives the rollback.
    """

    audit_new_rows = True
    """Whether rows that serializers return, and that were not read before, are new.

    Set it to ``False`` if a serializer's ``create()`` may return an existing row. It then records
    its changes itself, by ``recorded_changes``, and the row is recorded as viewed.
    """
    _recorder: RequestRecorder | None = None
    _serializers: list[Any]
    _checked_object: Any = None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Open a recording, so that entries of denied requests can be durable."""
        with recording():
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Wrap the handler of the request's method."""
        super().initial(request, *args, **kwargs)
        method = str(request.method)
        handler = getattr(self, method.lower(), None)
        if handler is not None and method not in SHOWING_NOTHING:
            self._recorder = recorder = RequestRecorder(self, request, self._model())
            self._serializers = []
            try:
                recorder.refuse_unstorable()
            except ValueError:
                text = _("The purpose or the legal basis of this request can't be stored.")
                raise exceptions.ParseError(text) from None
            setattr(self, method.lower(), partial(self._record_request, recorder, handler))

    def get_object(self) -> Any:
        """Return the object, and remember it."""
        obj = super().get_object()
        if self._recorder is not None:
            self._recorder.fetch(obj)
            if self.request.method == "DELETE":
                self._recorder.tracker.watch_deletion(_models_in(obj))
            elif self.request.method not in READS:
                self._recorder.tracker.watch(_models_in(obj))
        return obj

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Return the serializer, and remember what it shows or saves."""
        instance = args[0] if args else kwargs.get("instance")
        if isinstance(instance, Iterator):
            # The serializer and the recorder both read it.
            instance = list(instance)
            args = (instance, *args[1:])
            kwargs.pop("instance", None)
        serializer = super().get_serializer(*args, **kwargs)
        if self._recorder is None:
            return serializer
        if len(args) > 1 or "data" in kwargs:
            if self.request.method not in READS:
                self._recorder.tracker.watch(_models_in(instance))
                self._serializers.append(serializer)
        elif kwargs.get("many"):
            self._recorder.show("listed", _iterable(instance))
        else:
            self._recorder.show("viewed", [] if instance is None else [instance])
        return serializer

    def check_object_permissions(self, request: Request, obj: Any) -> None:
        """Remember the object, in case that the access is denied."""
        self._checked_object = obj
        super().check_object_permissions(request, obj)

    def handle_exception(self, exc: Exception) -> Response:
        """Record a denied access."""
        if isinstance(exc, exceptions.PermissionDenied | PermissionDenied):
            recorder = RequestRecorder(self, self.request, self._model())
            recorder.fetched = self._checked_object
            key = self.kwargs.get(self.lookup_url_kwarg or self.lookup_field)
            recorder.deny(key)
        return super().handle_exception(exc)

    def _record_request(
        self,
        recorder: RequestRecorder,
        handler: Callable[..., Response],
        request: Request,
        *args: Any,
        **kwargs: Any,
    ) -> Response:
        try:
            if request.method in READS:
                return self._respond(recorder, handler, request, *args, **kwargs)
            with atomic_write(router.db_for_write(self._model() or AuditLog)):
                return self._respond(recorder, handler, request, *args, **kwargs)
        except (ActorDeleted, IntegrityError):
            # The foreign key to the user may be checked only at the commit.
            if not recorder.is_actor_deleted():
                raise
            raise exceptions.AuthenticationFailed() from None
        finally:
            # Rendering may call get_serializer() again, for the forms of the browsable API.
            self._recorder = None

    def _respond(
        self,
        recorder: RequestRecorder,
        handler: Callable[..., Response],
        request: Request,
        *args: Any,
        **kwargs: Any,
    ) -> Response:
        response = handler(request, *args, **kwargs)
        for serializer in self._serializers:
            saved = _models_in(serializer.instance)
            if self.audit_new_rows:
                recorder.tracker.add(saved)
            recorder.show("viewed", saved)
        recorder.finish(is_shown=response.status_code < 400 and response.status_code != 204)
        return response

    def _model(self) -> ModelClass | None:
        queryset = getattr(self, "queryset", None)
        return None if queryset is None else queryset.model


def _models_in(value: Any) -> list[models.Model]:
    """Return the model instances of a serializer: one, many, or none."""
    if isinstance(value, models.Model):
        return [value]
    objects = [] if isinstance(value, dict) else _iterable(value)
    try:
        return [one for one in objects if isinstance(one, models.Model) and one.pk is not None]
    except TypeError:
        return []


def _iterable(value: Any) -> Any:
    if value is None:
        return []
    return value.all() if isinstance(value, models.Manager) else value
