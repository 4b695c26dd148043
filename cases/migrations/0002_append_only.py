"""Triggers that keep revisions, their series and their labels as they were written.

Rows may only go together with their case: the code that deletes a case says so for its transaction with
`SET LOCAL casestore.deleting_case = 'on'`.
"""

from __future__ import annotations

from django.db import migrations

TABLES = ("cases_revision", "cases_revisionseries", "cases_label")

FUNCTION = """
CREATE FUNCTION casestore_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('casestore.deleting_case', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'revisions are append-only: % of % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$
"""


def trigger(table: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER casestore_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION casestore_append_only()",
        f"DROP TRIGGER casestore_append_only ON {table}",
    )


class Migration(migrations.Migration):
    dependencies = [("cases", "0001_initial")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION casestore_append_only()"),
        *(trigger(table) for table in TABLES),
    ]
