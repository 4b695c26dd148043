"""Labels may come without their voxels, from another server's dump; the trigger lets these be added once.

Of a row that is otherwise the same, and only the blob that its data name. Nothing that anybody reads changes.
"""

from __future__ import annotations

from django.db import migrations

FUNCTION = """
CREATE OR REPLACE FUNCTION casestore_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('casestore.deleting_case', true) = 'on' THEN
        RETURN OLD;
    END IF;{more}
    RAISE EXCEPTION 'revisions are append-only: % of % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$
"""
LATE_VOXELS = """
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'cases_label' THEN
        IF OLD.blob_id IS NULL AND NEW.blob_id = OLD.data ->> 'voxels'
           AND to_jsonb(NEW) - 'blob_id' = to_jsonb(OLD) - 'blob_id' THEN
            RETURN NEW;
        END IF;
    END IF;"""


class Migration(migrations.Migration):
    dependencies = [("cases", "0003_bin_and_version")]

    operations = [
        migrations.RunSQL(FUNCTION.format(more=LATE_VOXELS), FUNCTION.format(more="")),
    ]
