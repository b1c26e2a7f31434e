"""Our triggers on the platform's tables: a table that was dropped and made anew gets them again with each migrate."""

from __future__ import annotations

from sqlalchemy import Connection, text

# For the three final states alone: nothing else of a row's life costs anything.
TRIGGERS: dict[str, str] = {
    "imports_note_job_end": """AFTER UPDATE OF status ON "ProductImportJob" FOR EACH ROW
        WHEN (NEW.status IN ('COMPLETED', 'FAILED', 'CANCELLED') AND OLD.status IS DISTINCT FROM NEW.status)
        EXECUTE FUNCTION imports.note_job_end()""",
}
# Switched off (tgenabled D) is as good as absent.
PRESENT = """
SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname = ANY(:names) AND NOT t.tgisinternal AND t.tgenabled <> 'D'
  AND c.relnamespace = current_schema()::regnamespace
"""


def missing_triggers(connection: Connection) -> list[str]:
    """The triggers that are absent or switched off."""
    present = set(connection.execute(text(PRESENT), {"names": list(TRIGGERS)}).scalars())
    return sorted(set(TRIGGERS) - present)


def create_triggers(connection: Connection) -> None:
    """Create those that are missing; the table is locked for writers only where there are any."""
    for name in missing_triggers(connection):
        connection.execute(text(f"CREATE OR REPLACE TRIGGER {name} {TRIGGERS[name]}"))
