from __future__ import annotations

import uuid

from django.core.exceptions import PermissionDenied
from django.db import transaction
from rest_framework import generics, mixins, permissions, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response

from myometrics_audit.tracking import RecordedViewMixin, recorded_save
from myometrics_core.times import utc_now

from .models import Invoice, Letter, Patient, Visit


class VisitSerializer(serializers.ModelSerializer):
    class Meta:
        model = Visit
        fields = ["id", "reason", "patient"]


class FirstVisitSerializer(serializers.ModelSerializer):
    class Meta:
        model = Visit
        fields = ["reason"]


class PatientListSerializer(serializers.ListSerializer):
    """Updates many patients by number."""

    def update(self, patients, rows):
        by_number = {patient.number: patient for patient in patients}
        return [self.child.update(by_number[row["number"]], row) for row in rows]


class PatientSerializer(serializers.ModelSerializer):
    first_visit = FirstVisitSerializer(required=False, write_only=True)

    class Meta:
        model = Patient
        fields = ["id", "number", "name", "phone", "wards", "first_visit"]
        list_serializer_class = PatientListSerializer
        extra_kwargs = {"number": {"validators": []}}

    def create(self, values):
        visit = values.pop("first_visit", None)
        patient = super().create(values)
        if visit is not None:
            actor = self.context["request"].user
            recorded_save(Visit(patient=patient, **visit), actor=actor)
        return patient


class Pages(PageNumberPagination):
    page_size = 100


class IsOwner(permissions.BasePermission):
    def has_object_permission(self, request, view, patient):
        return patient.owner in ("", str(request.user.pk))


class PatientViewSet(RecordedViewMixin, viewsets.ModelViewSet):
    queryset = Patient.objects.prefetch_related("wards").order_by("pk")
    serializer_class = PatientSerializer
    pagination_class = Pages
    permission_classes = [permissions.IsAuthenticated, IsOwner]
    audit_legal_basis = "GDPR 9(2)(h)"

    def get_audit_purpose(self, request):
        return request.headers.get("X-Purpose", "TREAT")

    def perform_create(self, serializer):
        """Without super(), as sites often do."""
        serializer.save(owner=str(self.request.user.pk))

    @action(detail=True, methods=["post"])
    def archive(self, request, pk=None):
        patient = self.get_object()
        patient.deleted_at = utc_now()
        patient.save()
        return Response(status=204)

    @action(detail=True, methods=["get"])
    def letter(self, request, pk=None):
        return Response({"text": f"Dear {self.get_object().name}"})

    @action(detail=False, methods=["put"])
    def bulk(self, request):
        numbers = [row["number"] for row in request.data]
        patients = Patient.objects.filter(number__in=numbers)
        serializer = self.get_serializer(patients, data=request.data, many=True, partial=True)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data)

    @action(detail=True, methods=["post"])
    def fail(self, request, pk=None):
        patient = self.get_object()
        patient.name = "changed"
        patient.save()
        if request.data.get("how") == "response":
            return Response(status=409)
        if request.data.get("how") == "permission":
            raise PermissionDenied
        raise serializers.ValidationError("no")


class VisitList(RecordedViewMixin, generics.ListCreateAPIView):
    queryset = Visit.objects.order_by("pk")
    serializer_class = VisitSerializer
    permission_classes = [permissions.IsAuthenticated]
    pagination_class = None

    def trace(self, request):
        """A handler of an unusual method."""
        return self.list(request)


class LetterSerializer(serializers.ModelSerializer):
    class Meta:
        model = Letter
        fields = ["id", "patient", "text"]
        read_only_fields = ["id"]


class TextSerializer(serializers.Serializer):
    text = serializers.CharField()


class ExistingPatientSerializer(serializers.ModelSerializer):
    """Returns the existing patient if there is one."""

    class Meta:
        model = Patient
        fields = ["id", "number", "name"]
        extra_kwargs = {"number": {"validators": []}}

    def create(self, values):
        patient = Patient.objects.filter(number=values["number"]).first()
        if patient is None:
            patient = Patient(**values)
            recorded_save(patient, actor=self.context["request"].user)
        return patient


class PatientCreate(RecordedViewMixin, generics.CreateAPIView):
    queryset = Patient.objects.all()
    serializer_class = ExistingPatientSerializer
    permission_classes = [permissions.IsAuthenticated]
    audit_new_rows = False


class LetterViewSet(RecordedViewMixin, viewsets.ModelViewSet):
    queryset = Letter.objects.order_by("text")
    serializer_class = LetterSerializer
    permission_classes = [permissions.IsAuthenticated]

    def get_serializer_class(self):
        return TextSerializer if self.action in ("rows", "first") else LetterSerializer

    def perform_create(self, serializer):
        serializer.save(id=str(uuid.uuid4()))

    @action(detail=False, methods=["get"])
    def rows(self, request):
        """The letters, as any kind of rows that serializers accept."""
        letters = self.get_queryset()
        kinds = {
            "iterator": letters.iterator,
            "generator": lambda: (letter for letter in letters),
            "values": lambda: letters.values("pk", "id", "patient", "text"),
            "named": lambda: letters.values_list("id", "patient", "text", named=True),
            "no key": lambda: letters.values("text"),
            "other": lambda: [{"pk": uuid.uuid4(), "text": "a"}, {"pk": "x", "text": "b"}],
            "nothing": lambda: None,
        }
        rows = kinds[request.query_params["kind"]]()
        if "by_name" in request.query_params:
            return Response(self.get_serializer(instance=rows, many=True).data)
        serializer = self.get_serializer(rows, many=True)
        return Response(serializer.data)

    @action(detail=False, methods=["get"])
    def first(self, request):
        row = self.get_queryset().values("pk", "text").first()
        return Response(self.get_serializer(row).data)


class InvoiceSerializer(serializers.ModelSerializer):
    class Meta:
        model = Invoice
        fields = ["id", "number"]


class InvoiceViewSet(
    RecordedViewMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.CreateModelMixin,
    viewsets.GenericViewSet,
):
    """Of a model that is not recorded: reads only."""

    queryset = Invoice.objects.order_by("pk")
    serializer_class = InvoiceSerializer
    permission_classes = [permissions.AllowAny]

    def get_audit_subject(self, invoice):
        return f"case-{invoice.subject}" if invoice.subject else None


def denied(request):
    """A plain view whose transaction is rolled back."""
    from myometrics_audit import audit

    with transaction.atomic():
        audit.record(
            actor=None, action="door_opened", resource=("door", 1), request=request, durable=True
        )
        raise PermissionDenied
