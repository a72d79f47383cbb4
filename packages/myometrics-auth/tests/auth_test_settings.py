from myometrics_testing.settings import package_settings

globals().update(
    package_settings(
        apps=["myometrics_auth", "myometrics_core.rate_limits", "hosts_records"],
        urls="auth_test_urls",
        AUTH_USER_MODEL="myometrics_auth.User",
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [
                "myometrics_auth.authentication.SessionTokenAuthentication"
            ]
        },
        AUTH_PASSWORD_VALIDATORS=[
            {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
            {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
        ],
        MYOMETRICS={
            "RATE_LIMITS": {"auth": None, "api": None, "export": None},
            "FRONTEND_URL": "https://clinic.example",
        },
    )
)
