"""Models of core, where Django looks for them."""

from .jobs.models import Job

__all__ = ["Job"]
