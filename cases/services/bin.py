"""The bin: what is deleted lies there for a while, can be restored, and is purged at last."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from cases.models import Case
from cases.services.cases import check_version, lock_case
from casestore import clock
from casestore.accounts.models import User
from casestore.errors import CaseInMyList, NotFound

logger = logging.getLogger(__name__)

# Cases that one transaction purges: few, as each may have thousands of labels.
BATCH = 20


@transaction.atomic
def delete_case(*, user: User, case_id: str, force: bool = False, expected: Collection[int] | None = None) -> Case:
    """Moves the case to the bin. Needs `moderate`.

    CaseInMyList while somebody has it in a list, unless `force` takes it out of all of them. PreconditionFailed where
    its version is none of those `expected`.
    """
    case = lock_case(user=user, case_id=case_id, role="moderate")
    # Cases before lists, lists before items: the order in which lists are edited too.
    items = list(case.list_items.select_for_update(of=("my_list",)).select_related("my_list").order_by("my_list_id"))
    if items and not force:
        raise CaseInMyList("This case is in somebody's my list. With force=1 it leaves every list and is deleted.")
    check_version(case, expected)
    case.list_items.all().delete()
    case.deleted_at, case.deleted_by = clock.now(), user.email
    case.touch()
    case.save(update_fields=["deleted_at", "deleted_by", "version", "updated_at"])
    return case


@transaction.atomic
def restore_case(*, user: User, case_id: str) -> Case:
    """Takes the case out of the bin; the lists that it was in do not get it back. Needs `moderate`.

    NotFound for a case that is not in the bin and one that the user may not restore alike.
    """
    case = Case.objects.in_bin(user).filter(case_id=case_id).select_for_update(of=("self",)).first()
    if case is None:
        raise NotFound("There is no such case in the bin.")
    case.deleted_at, case.deleted_by = None, ""
    case.touch()
    case.save(update_fields=["deleted_at", "deleted_by", "version", "updated_at"])
    return case


def purge_bin() -> int:
    """Deletes for good what has lain in the bin for CASESTORE_BIN_DAYS, a few cases in each transaction; how many.

    Goes with them: revisions, labels, what else refers to the cases. Blobs stay until the sweep finds that no other
    label refers to them.
    """
    if not settings.CASESTORE_BIN_DAYS:
        return 0
    before = clock.now() - timedelta(days=settings.CASESTORE_BIN_DAYS)
    purged = 0
    while batch := _purge_some(before):
        purged += batch
    if purged:
        logger.info("purged %d cases from the bin", purged)
    return purged


@transaction.atomic
def _purge_some(before: datetime) -> int:
    # One that is being restored, or purged by another worker, is not waited for.
    rows = Case.objects.select_for_update(of=("self",), skip_locked=True).filter(deleted_at__lt=before)
    keys = [case.pk for case in rows.only("pk").order_by("deleted_at")[:BATCH]]
    if keys:
        # The triggers that keep revisions as they are let them go with their case (migration `append_only`).
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL casestore.deleting_case = 'on'")
            Case.objects.filter(pk__in=keys).delete()
            cursor.execute("SET LOCAL casestore.deleting_case = 'off'")
    return len(keys)
