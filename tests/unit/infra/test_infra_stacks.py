"""The program runs for every example stack, with known outputs and as a preview without them."""

import pytest
from mocks import run_program

STACKS = ("dev", "staging", "production")


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
def test_every_example_stack_runs(stack, preview):
    program = run_program(stack, preview=preview)
    assert program.one("Vpc").name == f"imports-{stack}-network-vpc"
    assert set(program.exports) >= {"region", "vpc_id"}
