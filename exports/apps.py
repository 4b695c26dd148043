from django.apps import AppConfig
from django.conf import settings


class ExportsConfig(AppConfig):
    name = "exports"

    def ready(self) -> None:
        from casestore.tasks.kinds import Kind, register
        from exports.services import check_download

        kind = Kind(at_once=lambda: settings.CASESTORE_EXPORTS_PER_USER, check_download=check_download)
        register("exports.export_mhd", kind)
