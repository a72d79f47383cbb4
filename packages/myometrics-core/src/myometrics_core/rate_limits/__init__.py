"""Opt-in app: rate limits counted in the database.

For sites with several processes and no Redis. Add ``"myometrics_core.rate_limits"`` to
``INSTALLED_APPS`` and migrate; requests are then counted here unless
``MYOMETRICS["RATE_LIMIT_STORAGE"]`` names another storage.
"""
