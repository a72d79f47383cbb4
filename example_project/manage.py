#!/usr/bin/env python
"""Django's command line for the composed site."""

import os
import sys


def main() -> None:
    """Run a management command."""
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        # Reads ENVIRONMENT_FILE, which may name the settings module.
        import config  # noqa: F401

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        # Django would try again for most commands, and complain of the second time only.
        settings.DEBUG  # noqa: B018  (reads the settings)
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
