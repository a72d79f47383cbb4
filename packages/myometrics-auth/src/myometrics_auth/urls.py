"""URLs of auth's endpoints, relative to the API prefix."""

from django.urls import path

from .views import account, addresses, invitations, secure_account, sign_in, users

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
    path("auth/verify-email/", addresses.VerifyEmailView.as_view(), name="verify-email"),
    path(
        "auth/verify-email/confirm/",
        addresses.VerifyEmailPage.as_view(),
        name="verify-email-confirm",
    ),
    path("auth/email/", addresses.EmailChangeView.as_view(), name="email"),
    path("auth/email/confirm/", addresses.EmailChangePage.as_view(), name="email-confirm"),
    path("auth/email/undo/", addresses.EmailUndoPage.as_view(), name="email-undo"),
    path(
        "auth/secure-account/",
        secure_account.SecureAccountView.as_view(),
        name="secure-account",
    ),
    path("auth/token/refresh/", sign_in.RefreshView.as_view(), name="token-refresh"),
    path("auth/reauthenticate/", account.ReauthenticateView.as_view(), name="reauthenticate"),
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
    path("users/invitations/", invitations.InvitationListView.as_view(), name="invitations"),
    path(
        "users/invitations/<uuid:invitation_id>/",
        invitations.InvitationView.as_view(),
        name="invitation",
    ),
    path(
        "users/invitations/<uuid:invitation_id>/resend/",
        invitations.InvitationResendView.as_view(),
        name="invitation-resend",
    ),
    path("users/<str:user_id>/", users.UserView.as_view(), name="user"),
]
