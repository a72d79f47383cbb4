import os

from myometrics_testing.settings import MIDDLEWARE, package_settings

globals().update(
    package_settings(
        apps=[
            "myometrics_core.rate_limits",
            "myometrics_core.health_log",
            "site_notes",
        ],
        urls="core_test_urls",
        MIDDLEWARE=["myometrics_core.middleware.AccessLogMiddleware", *MIDDLEWARE],
    )
)

if "RATE_LIMIT_STORAGE" in os.environ:
    MYOMETRICS = {"RATE_LIMIT_STORAGE": os.environ["RATE_LIMIT_STORAGE"]}
