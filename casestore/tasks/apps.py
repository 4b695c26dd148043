from django.apps import AppConfig


class TasksConfig(AppConfig):
    name = "casestore.tasks"

    def ready(self) -> None:
        # Whoever queues a task must know our broker: shared tasks take the app that was made last.
        import casestore.celery  # noqa: F401
