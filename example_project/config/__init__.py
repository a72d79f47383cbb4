"""The composed site: settings, routes, Celery application."""

from .environment_file import read_environment_file

# Before any module here reads a variable: manage.py, gunicorn and Celery all import this package.
read_environment_file()

from .celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
