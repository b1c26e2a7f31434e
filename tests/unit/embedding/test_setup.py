"""Products embedded with another model or into another index."""

from import_core.domain.embedding import EmbeddingSetup, forget_outdated
from import_core.domain.steps import KnownStep, StepKind, StepState, plan_steps


def test_a_result_names_what_it_was_made_with() -> None:
    setup = EmbeddingSetup("0123456789abcdef", "milvus/products")
    assert setup.to_result() == {"model": "0123456789ab", "index": "milvus/products"}


def test_an_outdated_embedding_is_due_again_and_nothing_else() -> None:
    rows = [KnownStep("p", kind, "h", StepState.DONE, was_done=True) for kind in StepKind]
    assert plan_steps(tuple(StepKind), "h", rows, product_id="p", job_id="j") == []
    (planned,) = plan_steps(tuple(StepKind), "h", forget_outdated(rows), product_id="p", job_id="j")
    assert (planned.kind, planned.state, planned.content_hash) == (StepKind.EMBEDDING, StepState.DUE, "h")
