"""casestore: a store for annotated medical-imaging cases."""

from casestore.celery import app as celery_app

__all__ = ["celery_app"]
