"""Routes below the API's URL prefix."""

from django.urls import path

from .views import AnalyticsView, MyActivityView, UserActivityView

app_name = "myometrics_analytics"
urlpatterns = [
    path("analytics/", AnalyticsView.as_view(), name="analytics"),
    path("users/me/activity/", MyActivityView.as_view(), name="my-activity"),
    path("users/<str:user_id>/activity/", UserActivityView.as_view(), name="user-activity"),
]
