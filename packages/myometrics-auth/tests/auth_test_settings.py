from importlib.util import find_spec

from myometrics_testing.settings import package_settings

# The extra "scim" needs Python 3.11.
SCIM = ["myometrics_auth.scim"] if find_spec("scim2_server") else []

globals().update(
    package_settings(
        apps=[
            "myometrics_auth",
            "myometrics_auth.federation",
            "myometrics_auth.passkeys",
            *SCIM,
            "myometrics_core.rate_limits",
            "hosts_records",
        ],
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
            "RATE_LIMITS": {"auth": None, "api": None, "export": None, "scim": None},
            "FRONTEND_URL": "https://clinic.example",
            "API_URL": "https://api.clinic.example/api",
        },
        ALLOWED_HOSTS=["*", "admin.clinic.example"],
        CORS_ALLOWED_ORIGINS=["https://clinic.example", "https://elsewhere.example"],
    )
)
