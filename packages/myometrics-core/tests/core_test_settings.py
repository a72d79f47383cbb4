from myometrics_testing.settings import package_settings

globals().update(
    package_settings(apps=["myometrics_core.rate_limits"], urls="core_test_urls")
)
