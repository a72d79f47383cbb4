from myometrics_testing.settings import package_settings

globals().update(
    package_settings(
        apps=["myometrics_core.health_log", "myometrics_notifications"],
        urls="notifications_test_urls",
        MYOMETRICS={
            "FRONTEND_URL": "https://clinic.example",
            "API_URL": "https://clinic.example/api",
            "RATE_LIMITS": {"auth": None, "api": None},
        },
        DEFAULT_FROM_EMAIL="Clinic <noreply@clinic.example>",
    )
)
