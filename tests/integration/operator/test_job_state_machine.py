"""The real stores on a real PostgreSQL against a model of a job's life, by random steps.

A run has IMPORT_STATE_MACHINE_STEPS steps (`make test-faults` sets 100,000) and prints its seed; the same seed
in IMPORT_STATE_MACHINE_SEED gives the same steps again.
"""

import os
import random
from collections import Counter
from itertools import count

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from job_machine import JobMachine
from job_rows import OneConnection

STEPS_OF_ONE_EXAMPLE = 100
"""At most; some examples end a little earlier."""
STEPS_IN_A_SHORT_RUN = 3_000
LONGEST = 5
"""So many times the steps that were asked for, at most, until everything has happened."""
EXAMPLES_AT_ONCE = 10
"""At least: the first example of a run is always the simplest one, the same whatever the seed."""

EXPECTED = {
    "recorded", "suspended", "cancelled", "cancel refused", "handed over", "handed over again", "claimed",
    "claimed under suspicion", "claim refused", "renewed", "runs alone", "runs alone refused", "page",
    "page refused", "released", "released refused", "finished COMPLETED", "finished FAILED",
    "finished COMPLETED refused", "claims ended", "blamed", "taken back", "retried all", "retried items",
    "retry refused", "confirmed", "confirmation refused",
}  # fmt: skip


@pytest.mark.timeout(1200)
def test_the_stores_do_what_the_model_says(database_url: str) -> None:
    steps = int(os.environ.get("IMPORT_STATE_MACHINE_STEPS", STEPS_IN_A_SHORT_RUN))
    number = int(os.environ.get("IMPORT_STATE_MACHINE_SEED", random.randrange(2**32)))
    print(f"{steps:,} steps with IMPORT_STATE_MACHINE_SEED={number}")  # noqa: T201
    loop = uvloop.new_event_loop()
    database = OneConnection(database_url, application="state-machine")
    database.only = loop.run_until_complete(database.dedicated())
    try:
        JobMachine.database, JobMachine.loop = database, loop
        JobMachine.steps, JobMachine.seen = 0, Counter()
        # Some examples end early, so one round may fall short of the steps that were asked for; and what is rare
        # may not have happened by then in a short run, so it goes on for a while.
        for part in count(number):
            missing = steps - JobMachine.steps
            if missing <= 0 and (set(JobMachine.seen) >= EXPECTED or JobMachine.steps >= LONGEST * steps):
                break
            run_state_machine_as_test(
                seed(part)(JobMachine),
                settings=settings(
                    max_examples=max(EXAMPLES_AT_ONCE, -(-missing // STEPS_OF_ONE_EXAMPLE)),
                    stateful_step_count=STEPS_OF_ONE_EXAMPLE,
                    database=None,
                    phases=(Phase.generate, Phase.shrink),
                    suppress_health_check=list(HealthCheck),
                ),
            )
    finally:
        loop.run_until_complete(database.only.close())
        loop.close()
    print(f"{JobMachine.steps:,} steps: {dict(JobMachine.seen.most_common())}")  # noqa: T201
    assert set(JobMachine.seen) >= EXPECTED, f"never happened: {EXPECTED - set(JobMachine.seen)}"
