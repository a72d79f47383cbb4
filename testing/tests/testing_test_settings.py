from myometrics_testing.settings import package_settings

APPS = ["django.contrib.contenttypes", "django.contrib.auth", "myometrics_testing.clinic_site"]

globals().update(package_settings(apps=[], urls="testing_test_urls", INSTALLED_APPS=APPS))
