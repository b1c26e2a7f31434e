"""What becomes of a product's steps when no try of theirs changes them: people, cancellations, archiving."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from import_core.domain.steps import STEPS_IN_ORDER, KnownStep, StepKind, StepState, settle_steps


def judged_steps(kind: StepKind, rows: Sequence[KnownStep], *, halts: bool) -> list[KnownStep]:
    """A product's rows after a person has decided in the place of a step that is done; only those that differ."""
    judged = next((row for row in rows if row.kind is kind and row.state is StepState.DONE), None)
    if judged is None or judged.halts is halts:
        return []
    judged = replace(judged, halts=halts)
    before = {row.kind: row for row in rows}
    # What was done for the other word is done anew.
    anew = [replace(row, state=StepState.HALTED) if row.state is StepState.DONE else row for row in rows]
    later = [
        row
        for row in settle_steps(
            [
                judged,
                *(
                    row
                    for row in anew
                    if STEPS_IN_ORDER.index(row.kind) > STEPS_IN_ORDER.index(kind)
                    and row.content_hash == judged.content_hash
                ),
            ]
        )
        if row.kind is not kind and row != before[row.kind]
    ]
    return [judged, *later]


def without_job(rows: Sequence[KnownStep], job_id: str | None) -> list[KnownStep]:
    """A product's rows once the ImportJob `job_id` is cancelled; only those that differ.

    Only what that job was the last to ask for goes. What others ask for no longer waits for it, as if it had never been
    asked for. None: its rows are cancelled already.
    """

    def is_gone(row: KnownStep) -> bool:
        return job_id is not None and row.job_id == job_id

    left = [
        replace(row, state=StepState.CANCELLED) if row.state.is_open and is_gone(row) else row for row in rows
    ]
    asked = {row.content_hash for row in left if row.state.is_open}
    staying = [
        row
        for row in left
        if row.content_hash in asked
        and row.state is not StepState.CANCELLED
        and not (row.state is StepState.HALTED and is_gone(row))
    ]
    settled = {row.kind: row for row in settle_steps(staying)}
    after = [settled.get(row.kind, row) for row in left]
    return [row for row, before in zip(after, rows, strict=True) if row != before]


def archived_steps(
    kinds: Collection[StepKind], content_hash: str, rows: Sequence[KnownStep], *, job_id: str
) -> list[KnownStep]:
    """Rows to write for a product that an ImportJob has archived, in the state that `content_hash` names.

    `kinds` take it out of what they have put it in, or may just be putting it in. It takes no other step.
    """
    taking_out = [
        KnownStep(
            row.product_id,
            row.kind,
            content_hash,
            StepState.WAITING,
            batch_id=row.batch_id,
            job_id=job_id,
            company_id=row.company_id,
            was_done=row.was_done,
        )
        for row in rows
        if row.kind in kinds and (row.was_done or row.state.is_open)
    ]
    after = {row.kind: row for row in settle_steps(taking_out)}
    for row in rows:
        if row.state.is_open and row.kind not in after:
            after[row.kind] = replace(row, state=StepState.CANCELLED)
    return list(after.values())
