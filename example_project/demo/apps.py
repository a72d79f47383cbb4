"""App configuration of the demonstration."""

from django.apps import AppConfig


class DemoConfig(AppConfig):
    """Commands that fill and run a demo site. No models, no routes."""

    name = "demo"
    verbose_name = "Demonstration"
