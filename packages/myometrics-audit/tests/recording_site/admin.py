from io import BytesIO

from django.contrib import admin
from django.http import FileResponse, HttpResponse, StreamingHttpResponse

from myometrics_audit.tracking import RecordedAdminMixin

from .models import Patient, Visit


class VisitInline(admin.TabularInline):
    model = Visit
    extra = 0


@admin.register(Patient)
class PatientAdmin(RecordedAdminMixin, admin.ModelAdmin):
    list_display = ["number", "name"]
    list_editable = ["name"]
    filter_horizontal = ["wards"]
    inlines = [VisitInline]
    actions = ["rename", "export", "export_file", "export_stream"]
    audit_purpose = "HOPERAT"

    def rename(self, request, queryset):
        queryset.update(name="renamed")

    def export(self, request, queryset):
        return HttpResponse("\n".join(queryset.values_list("name", flat=True)))

    def export_file(self, request, queryset):
        names = "\n".join(queryset.values_list("name", flat=True))
        return FileResponse(BytesIO(names.encode()), as_attachment=True, filename="names.txt")

    def export_stream(self, request, queryset):
        return StreamingHttpResponse(f"{patient.name}\n" for patient in queryset)
