from django.apps import AppConfig


class CasesConfig(AppConfig):
    name = "cases"

    def ready(self) -> None:
        from casestore.tasks.kinds import Kind, register

        register("cases.import_uploaded_series", Kind())
