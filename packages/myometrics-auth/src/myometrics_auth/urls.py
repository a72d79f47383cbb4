"""URLs of auth's endpoints, relative to the API prefix."""

from __future__ import annotations

from django.urls import path

from .views.account import (
    ChangePasswordView,
    ExportView,
    OwnAccountView,
    ProfileView,
    SessionListView,
    SessionView,
)
from .views.second_factor import (
    DisableView,
    RecoveryCodesView,
    SecondFactorView,
    TotpConfirmView,
    TotpEnrolView,
)
from .views.sign_in import (
    LoginView,
    LogoutView,
    PasswordResetConfirmView,
    PasswordResetView,
    RefreshView,
    RegisterView,
    SecondFactorLoginView,
)
from .views.users import UserListView, UserView

app_name = "myometrics_auth"
urlpatterns = [
    path("auth/login/", LoginView.as_view(), name="login"),
    path("auth/login/mfa/", SecondFactorLoginView.as_view(), name="login-mfa"),
    path("auth/register/", RegisterView.as_view(), name="register"),
    path("auth/logout/", LogoutView.as_view(), name="logout"),
    path("auth/user/", ProfileView.as_view(), name="profile"),
    path("auth/change-password/", ChangePasswordView.as_view(), name="change-password"),
    path("auth/password-reset/", PasswordResetView.as_view(), name="password-reset"),
    path(
        "auth/password-reset/confirm/",
        PasswordResetConfirmView.as_view(),
        name="password-reset-confirm",
    ),
    path("auth/token/refresh/", RefreshView.as_view(), name="token-refresh"),
    path("auth/sessions/", SessionListView.as_view(), name="sessions"),
    path("auth/sessions/<uuid:session_id>/", SessionView.as_view(), name="session"),
    path("auth/mfa/", SecondFactorView.as_view(), name="mfa"),
    path("auth/mfa/enrol/", TotpEnrolView.as_view(), name="mfa-enrol"),
    path("auth/mfa/confirm/", TotpConfirmView.as_view(), name="mfa-confirm"),
    path("auth/mfa/disable/", DisableView.as_view(), name="mfa-disable"),
    path("auth/mfa/recovery-codes/", RecoveryCodesView.as_view(), name="mfa-recovery-codes"),
    path("users/", UserListView.as_view(), name="users"),
    path("users/me/", OwnAccountView.as_view(), name="own-account"),
    path("users/me/export/", ExportView.as_view(), name="export"),
    path("users/<str:user_id>/", UserView.as_view(), name="user"),
]
