from myometrics_testing.settings import package_settings

globals().update(package_settings(apps=[], urls="testing_test_urls"))
