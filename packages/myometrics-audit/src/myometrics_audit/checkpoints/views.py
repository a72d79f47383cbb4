"""The published tree over HTTP, read-only and public, as in C2SP tlog-tiles."""

from __future__ import annotations

from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from .models import Checkpoint
from .tile_storage import tile_storage


@require_safe
def checkpoint(request: HttpRequest) -> HttpResponse:
    """The newest checkpoint."""
    published = Checkpoint.objects.filter(published_at__isnull=False).order_by("-size")
    note = published.values_list("note", flat=True).first()
    if note is None:
        raise Http404
    response = HttpResponse(note, content_type="text/plain; charset=utf-8")
    # With "no-cache" alone, the cache middleware of Django before 5.2.15 would keep it.
    patch_cache_control(response, no_cache=True, max_age=0)
    return response


@require_safe
def tile(request: HttpRequest, path: str) -> HttpResponseBase:
    """A tile of hashes or a bundle of entries."""
    try:
        file = tile_storage().open(f"tile/{path}", "rb")
    except FileNotFoundError:
        raise Http404 from None
    response = FileResponse(file, content_type="application/octet-stream")
    response["Cache-Control"] = "public, max-age=31536000, immutable"
    return response
