from myometrics_testing.settings import package_settings

globals().update(
    package_settings(
        apps=["myometrics_analytics"],
        urls="analytics_test_urls",
        MYOMETRICS={"RATE_LIMITS": {"api": None}},
    )
)
