from myometrics_testing.settings import package_settings

globals().update(
    package_settings(
        apps=[
            "myometrics_audit",
            "myometrics_audit.checkpoints",
            "myometrics_audit.importing",
            "myometrics_audit.legal_hold",
            "myometrics_audit.partitions",
            "myometrics_audit.streams",
            "myometrics_audit.review",
            "myometrics_audit.access_report",
            "recording_site",
        ],
        urls="audit_test_urls",
        MYOMETRICS_AUDIT={
            "ALLOW_FLUSH": True,
            "CHECKPOINT_KEY": "PRIVATE+KEY+tests.example/audit-log+14bee144+AQ" + 42 * "A",
        },
        STORAGES={
            "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
            "audit_checkpoints": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        },
    )
)
