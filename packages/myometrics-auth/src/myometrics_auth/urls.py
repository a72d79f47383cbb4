"""URLs of auth's endpoints, relative to the API prefix."""

from django.urls import path

from .views import account, sign_in, users

app_name = "myometrics_auth"
urlpatterns = [
    path("auth/login/", sign_in.LoginView.as_view(), name="login"),
    path("auth/login/mfa/", sign_in.SecondFactorLoginView.as_view(), name="login-mfa"),
    path("auth/register/", sign_in.RegisterView.as_view(), name="register"),
    path("auth/logout/", sign_in.LogoutView.as_view(), name="logout"),
    path("auth/user/", account.ProfileView.as_view(), name="profile"),
    path("auth/change-password/", account.ChangePasswordView.as_view(), name="change-password"),
    path("auth/password-reset/", sign_in.PasswordResetView.as_view(), name="password-reset"),
    path(
        "auth/password-reset/confirm/",
        sign_in.PasswordResetConfirmView.as_view(),
        name="password-reset-confirm",
    ),
    path("auth/token/refresh/", sign_in.RefreshView.as_view(), name="token-refresh"),
    path("auth/sessions/", account.SessionListView.as_view(), name="sessions"),
    path("auth/sessions/<uuid:session_id>/", account.SessionView.as_view(), name="session"),
    path("auth/mfa/", account.SecondFactorView.as_view(), name="mfa"),
    path("auth/mfa/enrol/", account.TotpEnrolView.as_view(), name="mfa-enrol"),
    path("auth/mfa/confirm/", account.TotpConfirmView.as_view(), name="mfa-confirm"),
    path("auth/mfa/disable/", account.DisableView.as_view(), name="mfa-disable"),
    path(
        "auth/mfa/recovery-codes/",
        account.RecoveryCodesView.as_view(),
        name="mfa-recovery-codes",
    ),
    path("users/", users.UserListView.as_view(), name="users"),
    path("users/me/", account.OwnAccountView.as_view(), name="own-account"),
    path("users/me/export/", account.ExportView.as_view(), name="export"),
    path("users/<str:user_id>/", users.UserView.as_view(), name="user"),
]
