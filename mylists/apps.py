from django.apps import AppConfig


class MylistsConfig(AppConfig):
    name = "mylists"
    verbose_name = "My lists"
