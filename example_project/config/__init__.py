"""The composed site: settings, routes, Celery application."""

from .celery import app as celery_app
from .environment_file import read_environment_file

__all__ = ["celery_app"]

# Before any module here reads a variable: manage.py, gunicorn and Celery all import this package.
read_environment_file()
