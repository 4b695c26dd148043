"""Celery tasks of accounts."""

from __future__ import annotations

import celery

from casestore.accounts.services import purge_answers


@celery.shared_task(name="accounts.purge_answers")
def purge_idempotent_answers() -> None:
    purge_answers()
