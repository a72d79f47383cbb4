"""Serializers of auth's requests and responses; they convert the specification's camelCase."""

from __future__ import annotations

from .detail import DetailSerializer
from .exports import ExportQuerySerializer
from .fields import EmailAddressField, PasswordField, TokenField
from .passwords import (
    ChangePasswordSerializer,
    PasswordResetConfirmSerializer,
    PasswordResetSerializer,
)
from .second_factor import (
    CodeSerializer,
    PasswordAndCodeSerializer,
    PasswordSerializer,
    RecoveryCodesSerializer,
    SecondFactorRequiredSerializer,
    SecondFactorSerializer,
    SecondFactorStateSerializer,
    TotpSecretSerializer,
)
from .sessions import (
    AccessTokenSerializer,
    LoginSerializer,
    RefreshTokenSerializer,
    SessionPageSerializer,
    SessionSerializer,
    SignedInSerializer,
)
from .users import (
    AdminUserChangesSerializer,
    AdminUserSerializer,
    ProfileChangesSerializer,
    ProfileSerializer,
    RegisterSerializer,
    UserListQuerySerializer,
    UserPageSerializer,
)

__all__ = [
    "AccessTokenSerializer",
    "AdminUserChangesSerializer",
    "AdminUserSerializer",
    "ChangePasswordSerializer",
    "CodeSerializer",
    "DetailSerializer",
    "EmailAddressField",
    "ExportQuerySerializer",
    "LoginSerializer",
    "PasswordAndCodeSerializer",
    "PasswordField",
    "PasswordResetConfirmSerializer",
    "PasswordResetSerializer",
    "PasswordSerializer",
    "ProfileChangesSerializer",
    "ProfileSerializer",
    "RecoveryCodesSerializer",
    "RefreshTokenSerializer",
    "RegisterSerializer",
    "SecondFactorRequiredSerializer",
    "SecondFactorSerializer",
    "SecondFactorStateSerializer",
    "SessionPageSerializer",
    "SessionSerializer",
    "SignedInSerializer",
    "TokenField",
    "TotpSecretSerializer",
    "UserListQuerySerializer",
    "UserPageSerializer",
]
