"""URLs of the sign-in with identity providers, relative to the API prefix."""

from django.urls import path

from . import views

app_name = "myometrics_auth_federation"
urlpatterns = [
    path("auth/providers/", views.ProviderListView.as_view(), name="providers"),
    path(
        "auth/providers/<slug:slug>/authorize/",
        views.AuthorizeView.as_view(),
        name="provider-authorize",
    ),
    path(
        "auth/providers/<slug:slug>/callback/",
        views.CallbackView.as_view(),
        name="provider-callback",
    ),
    path(
        "auth/providers/<slug:slug>/token/",
        views.ProviderTokenView.as_view(),
        name="provider-token",
    ),
    path(
        "auth/providers/<slug:slug>/logout/",
        views.ProviderLogoutView.as_view(),
        name="provider-logout",
    ),
    path("auth/identities/", views.IdentityListView.as_view(), name="identities"),
    path("auth/identities/link/", views.IdentityLinkPageView.as_view(), name="identity-link"),
    path("auth/identities/<int:identity_id>/", views.IdentityView.as_view(), name="identity"),
]
