"""URLs of the endpoints for passkeys, relative to the API prefix."""

from django.urls import path

from . import views

app_name = "myometrics_auth_passkeys"
urlpatterns = [
    path("auth/passkeys/", views.PasskeyListView.as_view(), name="passkeys"),
    path("auth/passkeys/<uuid:passkey_id>/", views.PasskeyView.as_view(), name="passkey"),
    path(
        "auth/passkeys/register/options/",
        views.PasskeyRegistrationOptionsView.as_view(),
        name="register-options",
    ),
    path(
        "auth/passkeys/register/verify/",
        views.PasskeyRegistrationView.as_view(),
        name="register-verify",
    ),
    path(
        "auth/login/passkey/options/",
        views.PasskeySignInOptionsView.as_view(),
        name="login-options",
    ),
    path("auth/login/passkey/verify/", views.PasskeySignInView.as_view(), name="login-verify"),
]
