"""The Celery application. State, progress and results live in our Task rows, never in a result backend."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "casestore.settings")

app = Celery("casestore")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
