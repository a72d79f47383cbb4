from myometrics_testing.settings import package_settings

globals().update(
    package_settings(
        apps=["myometrics_audit"],
        urls="audit_test_urls",
        MYOMETRICS_AUDIT={"ALLOW_FLUSH": True},
    )
)
