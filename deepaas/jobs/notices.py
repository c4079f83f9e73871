"""The changes of records that a server still has to tell: to callbacks, and to its own events.

Both are written in the same transaction as the change itself, so none is lost if a process is
killed. Each belongs to the server that was responsible for the record at that moment. Another
server takes over those of a server that has exited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deepaas.jobs.database import Database, on_full_disk_too

MOST_CHANGES = 1000
"""How many changes one call returns."""


@dataclass(frozen=True)
class Notice:
    """A change of the record `uuid` that must be reported to the address `callback`."""

    number: int
    attempts: int
    uuid: str
    callback: str


@dataclass(frozen=True)
class Change:
    """A new status of the record `uuid`, to be reported as an event.

    `seconds` is the duration of the work, or None if it has not ended or was never begun.
    """

    number: int
    uuid: str
    kind: str
    model: str
    status: str
    seconds: float | None


class Notices(Database):
    """What the servers of a state directory have to tell."""

    # --- callbacks

    def notices(self, owner: str) -> list[Notice]:
        """Return the oldest unsent notice of each record."""
        with self._translated_errors():
            rows = self._db.execute(
                "SELECT min(notices.number), attempts, uuid, callback FROM notices "
                "JOIN records USING (uuid) WHERE notices.owner = ? GROUP BY uuid ORDER BY 1",
                (owner,),
            ).fetchall()
        return [Notice(*row) for row in rows]

    def notice_owners(self) -> list[str]:
        """Return the servers that have notices to send."""
        with self._translated_errors():
            rows = self._db.execute("SELECT DISTINCT owner FROM notices").fetchall()
        return [owner for (owner,) in rows]

    @on_full_disk_too
    def adopt_notices(self, owner: str, by: str) -> None:
        """Take over the notices of a server that has exited."""
        with self._writing():
            self._db.execute("UPDATE notices SET owner = ? WHERE owner = ?", (by, owner))

    @on_full_disk_too
    def count_attempt(self, number: int) -> None:
        """Note that sending a notice has failed."""
        with self._writing():
            self._db.execute(
                "UPDATE notices SET attempts = attempts + 1 WHERE number = ?", (number,)
            )

    @on_full_disk_too
    def drop_notice(self, number: int) -> None:
        """Remove a notice that was sent or given up."""
        with self._writing():
            self._db.execute("DELETE FROM notices WHERE number = ?", (number,))

    # --- events

    def changes(self, owner: str) -> list[Change]:
        """Return the changes that this server has to report, oldest first."""
        with self._translated_errors():
            rows = self._db.execute(
                "SELECT number, uuid, kind, model, status, CASE WHEN seconds IS NOT NULL "
                "THEN max(0, coalesce(duration, seconds - coalesce(load_seconds, 0))) END "
                "FROM changes LEFT JOIN measured USING (uuid) LEFT JOIN details USING (uuid) "
                "WHERE owner = ? ORDER BY number LIMIT ?",
                (owner, MOST_CHANGES),
            ).fetchall()
        return [Change(*row) for row in rows]

    def change_owners(self) -> list[str]:
        """Return the servers that have changes to report."""
        with self._translated_errors():
            rows = self._db.execute("SELECT DISTINCT owner FROM changes").fetchall()
        return [owner for (owner,) in rows]

    def adopt_changes(self, owner: str, by: str) -> None:
        """Take over the changes of a server that has exited."""
        with self._writing():
            self._db.execute("UPDATE changes SET owner = ? WHERE owner = ?", (by, owner))

    def drop_changes(self, numbers: Iterable[int]) -> None:
        """Remove changes that were reported."""
        with self._writing():
            self._db.executemany(
                "DELETE FROM changes WHERE number = ?", [(number,) for number in numbers]
            )
