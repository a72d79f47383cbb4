from django.urls import include, path
from rest_framework.routers import DefaultRouter

from . import views

router = DefaultRouter()
router.register("patients", views.PatientViewSet)
router.register("letters", views.LetterViewSet)
router.register("invoices", views.InvoiceViewSet)

urlpatterns = [
    path("", include(router.urls)),
    path("visits/", views.VisitList.as_view()),
    path("find-or-create/", views.PatientCreate.as_view()),
    path("denied/", views.denied),
]
