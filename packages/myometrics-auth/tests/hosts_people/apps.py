from django.apps import AppConfig


class HostsPeopleConfig(AppConfig):
    name = "hosts_people"
