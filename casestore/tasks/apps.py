from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "casestore.tasks"
    label = "tasks"
    verbose_name = "Tasks"
