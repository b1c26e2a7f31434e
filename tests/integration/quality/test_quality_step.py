"""The step end to end: who decides, what is kept and not asked again, and each way that the model can fail."""

import asyncio
from dataclasses import replace

import pytest
from eventually import eventually
from quality_world import IMAGE, QualityWorld, codes, product, verdicts
from redis.asyncio import Redis
from structlog.testing import capture_logs

from import_core.adapters.postgres.breakers import BreakerStore
from import_core.adapters.postgres.quality import QualityStore
from import_core.adapters.s3.store import ObjectStore
from import_core.domain.errors import (
    BreakerOpenError,
    CredentialsError,
    HandBackError,
    ModelNotUsableError,
    ProviderThrottledError,
    ProviderUnavailableError,
    QueueUnavailableError,
    StorageRefusedError,
    StorageUnavailableError,
)
from import_core.domain.images import MAX_BYTES
from import_core.domain.jobs import WaitingReason
from import_core.domain.quality import DecidedBy, Verdict
from import_core.domain.resources.import_provider import BreakerState
from import_core.domain.steps import StepFailed, StepImage
from import_local.samples.faults import FaultAction
from import_worker.steps.quality_control import NAME

MANY = [product(f"p{number}", f"Text {number}.") for number in range(6)]


async def test_rules_decide_first_then_the_model_and_all_is_written_with_the_batch(
    world: QualityWorld,
) -> None:
    batch_of = [
        product("fine"),
        product("copy", "A replica of a known watch."),
        product("odd", "A miracle for your skin."),
        product("poor", price=None),
        product("bare", images=()),
    ]
    for one in batch_of:
        await world.row(one.product_id)
    batch = await world.open().run(batch_of)
    assert verdicts(batch) == {
        "fine": "approved",
        "copy": "rejected",
        "odd": "flagged",
        "poor": "flagged",
        "bare": "rejected",
    }
    assert world.calls == 3
    assert await QualityStore(world.database).find(["fine"]) == []
    await world.commit(batch)
    copy, poor = await world.decided("copy"), await world.decided("poor")
    assert (copy.decided_by, copy.reasons[0].code) == (DecidedBy.MODEL, "Counterfeit")
    assert (poor.decided_by, poor.reasons[0].code) == (DecidedBy.RULES, "PriceMissing")
    assert world.counted("decisions", decision="approved", source="model") == 1
    assert world.counted("decisions", decision="rejected", source="rules") == 1
    assert world.counted("model_calls", outcome="answered") == 3
    assert world.counted("model_tokens", direction="input") > 3 * 258


async def test_without_a_key_a_person_has_the_rest(world: QualityWorld) -> None:
    given = [product("fine"), product("bare", images=())]
    alone = world.open(GEMINI_API_KEY=None)
    batch = await alone.run(given)
    assert verdicts(batch) == {"fine": "flagged", "bare": "rejected"}
    assert codes(batch) == ["NotJudged", "ImageMissing"]
    trusting = world.open(GEMINI_API_KEY="", QUALITY_APPROVE_ALONE=True)
    assert verdicts(await trusting.run(given)) == {"fine": "approved", "bare": "rejected"}
    assert world.calls == 0


async def test_a_decision_is_kept_for_the_same_content_rules_and_model(world: QualityWorld) -> None:
    copy = product("copy", "A replica of a known watch.")
    assert verdicts(await world.open().run([copy])) == {"copy": "rejected"}
    # Another worker, and another company's product that is the same.
    again = await world.open().run([copy, replace(copy, product_id="theirs", company_id="theirs")])
    assert verdicts(again) == {"copy": "rejected", "theirs": "rejected"}
    assert world.calls == 1
    assert world.counted("decisions", decision="rejected", source="cache") == 2
    keys = await world.redis.keys("imports:quality-decision:*")
    assert len(keys) == 1
    assert 86_000 < await world.redis.ttl(keys[0]) <= 86_400
    for changed in (
        world.open(GEMINI_MODEL="gemini-3.6-flash").run([copy]),
        world.open(QUALITY_BANNED_WORDS="bomb").run([copy]),
        world.open().run([product("copy", "Another replica of a known watch.")]),
    ):
        await changed
    assert world.calls == 4
    await world.redis.set(keys[0], b"not ours")
    await world.open().run([copy])
    assert world.calls == 5


async def test_a_person_is_not_overruled_for_the_same_content(world: QualityWorld) -> None:
    copy = product("copy", "A replica of a known watch.")
    await world.row("copy")
    await world.commit(await world.open().run([copy]))
    state = ("copy", copy.content_hash)
    await QualityStore(world.database).decide(
        [state], verdict=Verdict.APPROVED, person="ada", note="licensed"
    )
    await world.redis.delete(*await world.redis.keys("imports:quality-decision:*"))
    batch = await world.open().run([copy])
    await world.commit(batch)
    assert verdicts(batch) == {"copy": "approved"}
    assert world.calls == 1
    found = await world.decided("copy")
    assert (found.decided_by, found.person, found.note) == (DecidedBy.PERSON, "ada", "licensed")
    # Changed content is checked anew, and with the old content the word holds again.
    await world.commit(await world.open().run([product("copy", "A replica, once more.")]))
    assert (await world.decided("copy")).verdict is Verdict.REJECTED
    await world.commit(await world.open().run([copy]))
    assert (await world.decided("copy")).person == "ada"


async def test_a_person_who_decides_while_the_batch_runs_is_heeded(world: QualityWorld) -> None:
    copy, fine = product("copy", "A replica of a known watch."), product("fine")
    await world.row("copy")
    await world.commit(await world.open().run([copy]))
    begun = await world.open().run([copy, fine])
    await QualityStore(world.database).decide(
        [("copy", copy.content_hash)], verdict=Verdict.APPROVED, person="ada"
    )
    # Its outcome says that the product halts; nothing of it is written, and its next try knows better.
    with pytest.raises(HandBackError):
        await world.commit(begun)
    assert await QualityStore(world.database).by_people([("fine", fine.content_hash)]) == {}
    again = await world.open().run([copy, fine])
    assert verdicts(again) == {"copy": "approved", "fine": "approved"}
    await world.commit(again)
    assert (await world.decided("copy")).person == "ada"


@pytest.mark.parametrize(
    ("kind", "code", "asked_again"),
    [
        ("truncated", "AnswerTruncated", True),
        ("blocked", "ModelBlocked", False),
        ("malformed", "AnswerUnreadable", True),
    ],
)
async def test_no_answer_flags_the_product_alone(
    world: QualityWorld, kind: str, code: str, asked_again: bool
) -> None:
    world.order(FaultAction.model_validate({"kind": kind}))
    batch = await world.open(GEMINI_CONCURRENCY=1).run(MANY[:2])
    assert verdicts(batch) == {"p0": "flagged", "p1": "approved"}
    assert codes(batch) == [code]
    assert world.counted("model_calls", outcome={"malformed": "unreadable"}.get(kind, kind)) == 1
    await world.open().run(MANY[:2])
    assert world.calls == 3 if asked_again else world.calls == 2


async def test_a_product_that_the_model_refuses_fails_alone_and_for_good(world: QualityWorld) -> None:
    world.order(FaultAction(status=400))
    batch = await world.open(GEMINI_CONCURRENCY=1).run(MANY[:2])
    failed, _ = batch.outcomes
    assert isinstance(failed, StepFailed)
    assert (failed.reason, failed.retryable) == ("ProviderRejected", False)
    assert verdicts(batch)["p1"] == "approved"
    await world.commit(batch)
    assert world.counted("model_calls", outcome="refused") == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"GEMINI_API_KEY": "nobody-gave-it-out"}, CredentialsError),
        ({"GEMINI_MODEL": "gemini-1.0-pro"}, ModelNotUsableError),
    ],
)
async def test_what_is_set_up_wrongly_fails_the_batch_with_one_call(
    world: QualityWorld, settings: dict[str, str], expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        await world.open(GEMINI_CONCURRENCY=1, **settings).run(MANY)
    assert world.calls == 1


async def test_an_image_that_is_gone_or_broken_flags_the_product_without_a_call(world: QualityWorld) -> None:
    await world.store.put("images/acme/broken.jpg", b"\xff\xd8\xff\xe0 no more", "image/jpeg")
    good = StepImage(IMAGE, "image/jpeg", 900, 900)
    gone, broken = (replace(good, key=f"images/acme/{name}.jpg") for name in ("gone", "broken"))
    batch = await world.open().run([product("a", images=(good, gone)), product("b", images=(broken,))])
    assert verdicts(batch) == {"a": "flagged", "b": "flagged"}
    assert set(codes(batch)) == {"ImageUnreadable"}
    assert world.calls == 0
    # What the model is not shown is not read.
    shown = await world.open(GEMINI_IMAGES=1).run([product("a", images=(good, gone))])
    assert verdicts(shown) == {"a": "approved"}


async def test_an_image_of_too_many_bytes_is_not_read(world: QualityWorld) -> None:
    key = "images/acme/huge.jpg"
    await world.store.put(key, b"\xff\xd8\xff".ljust(MAX_BYTES + 1), "image/jpeg")
    huge = product("huge", images=(StepImage(key, "image/jpeg", 900, 900),))
    batch = await world.open().run([huge])
    assert (verdicts(batch), codes(batch)) == ({"huge": "flagged"}, ["ImageUnreadable"])
    assert world.calls == 0


class Refusing:
    """An object store that refuses these keys, or all, as one does that has put an object away or withdrawn a right."""

    def __init__(self, store: ObjectStore) -> None:
        self._get, self.keys, self.all = store.get, set[str](), False

    async def get(self, key: str, *, at_most: int | None = None) -> bytes | None:
        if self.all or key in self.keys:
            raise StorageRefusedError("the object store refused it")
        return await self._get(key, at_most=at_most)


@pytest.fixture
def refusing(world: QualityWorld, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    made = Refusing(world.store)
    monkeypatch.setattr(world.store, "get", made.get)
    return made


ALONE = replace(product("alone").images[0], key="images/acme/alone.jpg")
UNREADABLE = "quality.image_unreadable"


async def test_an_image_that_the_store_refuses_flags_its_product_alone(
    world: QualityWorld, refusing: Refusing
) -> None:
    refusing.keys = {ALONE.key}
    refused, later = (product(name, f"Text of {name}.", images=(ALONE,)) for name in ("refused", "later"))
    # Its own batch alone can't tell; the batch waits.
    with pytest.raises(StorageRefusedError):
        await world.open().run([refused])
    step = world.open()
    with capture_logs() as logs:
        batch = await step.run([refused, *MANY])
    assert [(each["productId"], each["key"]) for each in logs if each["event"] == UNREADABLE] == [
        ("refused", ALONE.key)
    ]
    assert batch.rest is None
    assert verdicts(batch) == {
        "refused": "flagged",
        **dict.fromkeys((one.product_id for one in MANY), "approved"),
    }
    assert codes(batch) == ["ImageUnreadable"]
    assert world.calls == len(MANY)
    # This worker knows an image that the store still gives.
    batch = await step.run([later])
    assert (verdicts(batch), codes(batch)) == ({"later": "flagged"}, ["ImageUnreadable"])


async def test_a_store_that_refuses_everything_is_wrong_and_no_products_fault(
    world: QualityWorld, refusing: Refusing
) -> None:
    step = world.open()
    await step.run(MANY[:1])
    refusing.all = True
    with capture_logs() as logs, pytest.raises(StorageRefusedError):
        await step.run(MANY[1:])
    # That the store refuses is told once, by the batch; no image is to blame.
    assert [each for each in logs if each["event"] == UNREADABLE] == []
    bare = product("bare", images=())
    batch = await step.run([*MANY[1:], bare])
    assert isinstance(batch.rest, StorageRefusedError)
    assert verdicts(batch) == {"bare": "rejected"}
    assert world.calls == 1


async def test_throttling_stops_all_workers_for_as_long_as_asked_and_costs_no_try(
    world: QualityWorld,
) -> None:
    world.order(FaultAction(kind="throttled"))
    with pytest.raises(ProviderThrottledError) as raised:
        await world.open(GEMINI_CONCURRENCY=1).run(MANY)
    assert raised.value.retry_after == 7.0
    assert world.calls == 1
    with pytest.raises(HandBackError) as held:
        await world.open().run(MANY)
    assert 0 < held.value.retry_after <= 7.0
    assert world.calls == 1
    assert world.counted("model_calls", outcome="throttled") == 1


async def test_a_used_up_minute_lets_go_on_what_is_decided_and_keeps_the_rest(world: QualityWorld) -> None:
    batch = await world.open(GEMINI_CALLS_PER_MINUTE=4, GEMINI_CONCURRENCY=2).run(MANY)
    assert isinstance(batch.rest, HandBackError)
    assert 0 < batch.rest.retry_after <= 61
    assert batch.rest.waiting_reason == WaitingReason.PROVIDER_LIMIT
    assert list(verdicts(batch).values()) == ["approved"] * 4
    assert world.calls == 4
    # Two calls are under way at once, so the fourth of the minute may be any later product's.
    for product_id in verdicts(batch):
        await world.row(product_id)
    await world.commit(batch)
    for product_id in verdicts(batch):
        assert (await world.decided(product_id)).verdict is Verdict.APPROVED
    # A minute later: only the two that are left are asked about, also where their batch was lost.
    await world.redis.delete(f"imports:limit:{NAME}")
    again = await world.open(GEMINI_CALLS_PER_MINUTE=4).run(MANY)
    assert (again.rest, set(verdicts(again).values())) == (None, {"approved"})
    assert world.calls == 6
    assert world.counted("decisions", decision="approved", source="cache") == 4


async def test_a_used_up_day_hands_back_until_it_ends_what_only_the_model_can_decide(
    world: QualityWorld,
) -> None:
    bare = product("bare", images=())
    step = world.open(GEMINI_CALLS_PER_DAY=2, GEMINI_CONCURRENCY=1)
    batch = await step.run([*MANY, bare])
    assert isinstance(batch.rest, HandBackError)
    assert 0 < batch.rest.retry_after <= 86_400
    assert verdicts(batch) == {"p0": "approved", "p1": "approved", "bare": "rejected"}
    assert world.calls == 2
    # A minute's grant that no call was sent with is given back.
    assert await world.redis.zcard(f"imports:limit:{NAME}") == 2
    # Redis forgets; the day's calls are not forgotten with it. Where nothing is decided, all of the batch waits.
    with pytest.raises(HandBackError):
        await world.open(GEMINI_CALLS_PER_DAY=2).run([product("new", "Something new.")])
    assert verdicts(await step.run([product("new", "Something new."), bare])) == {"bare": "rejected"}
    assert world.calls == 2


async def test_failures_open_the_breaker_that_dispatch_sees_and_a_probe_closes_it(
    world: QualityWorld,
) -> None:
    world.order(outage=True)
    step = world.open(GEMINI_CONCURRENCY=1)
    for _ in range(4):
        with pytest.raises(ProviderUnavailableError):
            await step.run(MANY)
    with pytest.raises(BreakerOpenError):
        await step.run(MANY)
    assert world.calls == 5
    assert (await BreakerStore(world.database).not_closed("imports")).keys() == {NAME}
    with pytest.raises(BreakerOpenError):
        await world.open().run(MANY)
    assert world.calls == 5
    # What needs no model goes on meanwhile.
    assert verdicts(await world.open().run([product("bare", images=())])) == {"bare": "rejected"}
    world.order()
    async with world.database.connection() as connection:
        await connection.execute("UPDATE imports.breaker SET probe_at = now()")
    assert set(verdicts(await world.open(GEMINI_CONCURRENCY=1).run(MANY)).values()) == {"approved"}
    assert (await BreakerStore(world.database).read("imports", NAME)).breaker.state is BreakerState.CLOSED
    assert world.counted("model_calls", outcome="unavailable") == 5


@pytest.mark.parametrize("action", [FaultAction(kind="slow", seconds=60), FaultAction(kind="drop")])
async def test_silence_and_cut_connections_are_failures_of_the_model(
    world: QualityWorld, action: FaultAction
) -> None:
    world.order(action)
    with pytest.raises(ProviderUnavailableError):
        await world.open(GEMINI_TIMEOUT_SECONDS=0.3, GEMINI_CONCURRENCY=1).run(MANY[:1])
    assert (await BreakerStore(world.database).read("imports", NAME)).breaker.failures == 1


async def test_a_stopped_batch_leaves_nothing_running_and_no_decision(world: QualityWorld) -> None:
    world.order(FaultAction(kind="slow", seconds=60, times=9))
    running = asyncio.create_task(world.open().run(MANY))

    async def all_are_sent() -> bool:
        return await world.redis.zcard(f"imports:limit:{NAME}") == len(MANY)

    await eventually(all_are_sent)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not [task for task in asyncio.all_tasks() if task.get_name() == NAME]
    assert (await BreakerStore(world.database).read("imports", NAME)).breaker.failures == 0
    assert await world.redis.keys("imports:quality-decision:*") == []


async def test_without_redis_or_the_object_store_the_batch_waits(
    world: QualityWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_key: str, **_: object) -> bytes | None:
        raise StorageUnavailableError

    monkeypatch.setattr(world.store, "get", refuse)
    with pytest.raises(StorageUnavailableError):
        await world.open().run(MANY)
    nobody = Redis.from_url("redis://127.0.0.1:9")
    with pytest.raises(QueueUnavailableError):
        await replace(world, redis=nobody).open().run(MANY)
    batch = await replace(world, redis=nobody).open().run([*MANY, product("bare", images=())])
    assert isinstance(batch.rest, QueueUnavailableError)
    assert verdicts(batch) == {"bare": "rejected"}
    await nobody.aclose()
    assert world.calls == 0
