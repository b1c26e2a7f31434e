"""The pure parts as `bench check` runs them: `python -m bench.pure [NAME …]` prints CPU seconds of each as JSON.

It runs beside the packages of another commit, so each part imports what it needs by itself: one that this commit lacks,
or that is called otherwise there, is null.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
REPEATS = 5
LEAST_SECONDS = 0.01
"""Of one repeat: far more than the clock's own step."""
Work = Callable[[], object]


def document(number: int) -> dict[str, Any]:
    """A product as Shopify gives it, with three variants."""
    return {
        "id": f"gid://shopify/Product/{number}",
        "title": f"Bottle {number}",
        "handle": f"bottle-{number}",
        "descriptionHtml": "<p>A sentence that says what this product is and why one should buy it.</p>" * 8,
        "vendor": "Acme",
        "productType": "Kitchen",
        "status": "ACTIVE",
        "tags": ["new", "glass"],
        "options": [{"name": "Size", "values": ["S", "M", "L"]}],
        "variants": [
            {
                "id": f"gid://shopify/ProductVariant/{number}{size}",
                "title": size,
                "sku": f"B-{number}-{size}",
                "price": "12.50",
                "compareAtPrice": "15.00",
                "barcode": "4006381333931",
                "inventoryQuantity": 3,
                "selectedOptions": [{"name": "Size", "value": size}],
                "inventoryItem": {
                    "tracked": True,
                    "measurement": {"weight": {"unit": "KILOGRAMS", "value": 0.25}},
                },
            }
            for size in "SML"
        ],
    }


def import_job(number: int, **spec: Any) -> dict[str, Any]:
    """An ImportJob's object."""
    wanted = {"companyId": "acme", "providerRef": {"name": "acme-shopify"}, **spec}
    metadata = {"name": f"autumn-{number}", "namespace": "imports", "uid": f"uid-{number}", "generation": 1}
    return {"metadata": metadata, "spec": wanted, "status": {}}


def mapping() -> Work:
    """50 products: mapped by the defaults."""
    from import_core.domain.mapping import compile_mapping

    compiled, page = compile_mapping("shopify"), [document(number) for number in range(50)]
    return lambda: [compiled.apply(each) for each in page]


def mapping_by_expressions() -> Work:
    """The same by a mapping of the job's own."""
    from import_core.domain.mapping import compile_mapping

    own = {"title": "join(' ', [vendor, title])", "sku": "variants[0].sku", "tags": "tags[?@ != 'new']"}
    compiled, page = compile_mapping("shopify", own), [document(number) for number in range(50)]
    return lambda: [compiled.apply(each) for each in page]


def content_hashes() -> Work:
    """50 products: their images without doubles, and the hash by which unchanged ones are passed over."""
    from import_core.domain.mapping import compile_mapping
    from import_core.domain.products import SourceImage, content_hash, distinct_images

    compiled = compile_mapping("shopify")
    page = [compiled.apply(document(number)) for number in range(50)]
    images = [SourceImage(f"https://cdn.example/{number % 5}.jpg", None) for number in range(10)]
    return lambda: [content_hash(each, distinct_images(images, 20)) for each in page]


def validation() -> Work:
    """100 ImportJobs: read, checked and admitted."""
    from import_core.domain.admission import admit

    jobs = [import_job(number, enrich={"embedding": True}) for number in range(100)]
    provider = {
        "metadata": {"name": "acme-shopify", "namespace": "imports", "uid": "uid-p"},
        "spec": {
            "companyId": "acme",
            "type": "shopify",
            "baseUrl": "https://acme.myshopify.com",
            "credentialsSecretRef": {"name": "acme-shopify"},
        },
    }
    return lambda: [admit(job, provider) for job in jobs]


def dispatch_choice() -> Work:
    """A window of 250 among 5,000 companies."""
    from import_core.domain.dispatch import Candidate, choose
    from import_core.domain.jobs import Tier

    tiers = list(Tier)
    rows = [
        Candidate(f"job-{number}", f"company-{number}", tiers[number % 3], NOW - timedelta(seconds=number))
        for number in range(5_000)
    ]
    shares = {f"company-{number}": number % 7 for number in range(0, 5_000, 3)}
    complete = {row.company_id: True for row in rows}
    return lambda: choose(rows, shares=shares, needed=250, now=NOW, complete=complete)


def scaling_decision() -> Work:
    """50 pools by depth, 50 by drain time."""
    from import_core.domain.drain_time import LimitedBacklog, SizeClass, Work
    from import_core.domain.pool_scaling import PoolFacts, PoolWishes, ScalingInputs, decide_pool
    from import_core.domain.resources.worker_pool import ScalingPolicy
    from import_core.domain.scaling import Observation, ScalingHistory, ScalingSpec

    spec = ScalingSpec(
        minimum=2, maximum=50, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
    )
    by_depth = PoolWishes(spec)
    by_work = replace(by_depth, policy=ScalingPolicy.DRAIN_TIME)
    sizes = tuple(SizeClass(jobs=number, units=number * 40.0) for number in range(1, 40))
    work = Work(sizes, limited=(LimitedBacklog(sizes[:5], 3.0),), rate=10.0)
    asked = [
        ScalingInputs(wishes, PoolFacts(Observation(2, 40 * number, 3), work), ScalingHistory(), 1000.0)
        for number in range(50)
        for wishes in (by_depth, by_work)
    ]
    return lambda: [decide_pool(each) for each in asked]


def projection() -> Work:
    """100 objects: what their status is to say."""
    from import_core.domain.admission import Verdict
    from import_core.domain.jobs import JobRow, JobState, Progress
    from import_core.domain.projection import project

    states = list(JobState)
    pairs = [
        (
            import_job(number),
            JobRow(
                id=f"uid-{number}",
                company_id="acme",
                provider="acme-shopify",
                state=states[number % len(states)],
                namespace="imports",
                queued_at=NOW,
                generation=1,
                progress=Progress(products_total=100, products_imported=number, images_total=300),
            ),
        )
        for number in range(100)
    ]
    verdict = Verdict(1, None)
    return lambda: [project(body, row, verdict, NOW) for body, row in pairs]


def patch_turns() -> Work:
    """1,000 objects that wait for their patches: whose turn it is, for a second."""
    from import_core.domain.projection import PatchSchedule

    def work() -> None:
        schedule = PatchSchedule()
        for number in range(1_000):
            schedule.want(f"uid-{number}", urgent=number % 3 == 0)
        for tick in range(10):
            schedule.take(tick / 10)

    return work


def prices() -> Work:
    """Prices as people write them."""
    from import_core.domain.prices import parse_price

    texts = [
        "1.299,00 €",
        "$12.50",
        "R$ 1.299,90",
        "CHF 12'000.-",
        "from 5 EUR",
        "₹ 1,23,456.78",
        "free",
    ] * 10
    return lambda: [parse_price(text) for text in texts]


def steps() -> Work:
    """100 products: planned steps, the end of a batch, and what follows."""
    from import_core.domain.steps import STEPS_IN_ORDER, StepDone, end_batch, following_steps, plan_steps

    names = [f"product-{number}" for number in range(100)]

    def work() -> None:
        planned = {name: plan_steps(STEPS_IN_ORDER, "a", (), product_id=name, job_id="job") for name in names}
        firsts = [rows[0] for rows in planned.values()]
        ended = end_batch(firsts, [StepDone(name) for name in names], spread=0.5)
        for end in ended.ends:
            following_steps(end.row, planned[end.row.product_id][1:])

    return work


def quality() -> Work:
    """50 products: the rules of quality control."""
    from import_core.domain.quality import QualityRules, decide_by_rules
    from import_core.domain.steps import StepImage, StepProduct
    from import_core.domain.words import WordList

    rules = QualityRules(banned=WordList([f"word{number}" for number in range(200)]))
    products = [
        StepProduct(
            product_id=f"p{number}",
            company_id="acme",
            content_hash="h",
            title="Stonewäre mug, 350 ml",
            description="Glazed by hand, and made to last for many years of daily use. " * 10,
            price=Decimal("19.90"),
            currency="EUR",
            images=(StepImage("images/acme/a.jpg", "image/jpeg", 800, 600),),
        )
        for number in range(50)
    ]
    return lambda: [decide_by_rules(product, rules, has_model=False) for product in products]


def merged_search() -> Work:
    """Two rankings of 200, merged; and the query that they answer."""
    from import_core.domain.search import Backend, Ranking, fuse, parse_query

    rankings = [
        Ranking(Backend.TEXT, tuple((f"p{number}", 1.0 / (number + 1)) for number in range(200))),
        Ranking(Backend.VECTORS, tuple((f"p{number * 2}", 1.0 / (number + 1)) for number in range(200))),
    ]
    return lambda: (parse_query("Röasted  coffee beans 250g “dark”"), fuse(rankings))


def robots() -> Work:
    """A robots.txt of 200 rules, and 20 questions."""
    from import_core.domain.robots import parse_robots

    text = "User-agent: *\n" + "\n".join(f"Disallow: /*/private{number}$" for number in range(200))

    def work() -> None:
        rules = parse_robots(text, "import-operator (+https://example)")
        for number in range(20):
            rules.allows(f"/c/{number}/private{number}")

    return work


def redaction() -> Work:
    """100 lines of a log, one in ten with something in it that looks like a secret."""
    from import_core.observability.redaction import redact

    lines = [
        {
            "event": "job.completed",
            "jobId": f"uid-{number}",
            "companyId": "acme",
            "duration": number,
            "message": "calls https://user:secret-word@shop.example" if number % 10 == 0 else "all went well",
        }
        for number in range(100)
    ]
    return lambda: [redact(None, "info", dict(line)) for line in lines]


def simulation() -> Work:
    """100 jobs that come at once, run by the simulator with the queue-depth policy."""
    from import_core.domain.scaling import ScalingSpec
    from import_core.domain.simulation.assumptions import Assumptions
    from import_core.domain.simulation.engine import Engine
    from import_core.domain.simulation.ordering import OldestFirst
    from import_core.domain.simulation.policies import QueueDepth
    from import_core.domain.simulation.trace import Arrival, Trace

    spec = ScalingSpec(
        minimum=1, maximum=10, target_jobs_per_worker=10, scale_out_cooldown=60.0, scale_in_cooldown=300.0
    )
    jobs = [Arrival(number / 10, f"company-{number % 9}", "shop", "none", 20, 40) for number in range(100)]
    trace = Trace("burst", 120.0, tuple(jobs))
    return lambda: Engine(trace, QueueDepth("ours", spec), Assumptions(), OldestFirst()).run()


PARTS: dict[str, Callable[[], Work]] = {
    "mapping": mapping,
    "mapping by expressions": mapping_by_expressions,
    "content hashes": content_hashes,
    "validation": validation,
    "dispatch choice": dispatch_choice,
    "scaling decision": scaling_decision,
    "projection": projection,
    "turns of patches": patch_turns,
    "prices": prices,
    "steps": steps,
    "quality": quality,
    "merged search": merged_search,
    "robots": robots,
    "redaction": redaction,
    "simulation": simulation,
}


def seconds_of(work: Work) -> float:
    """CPU seconds of one call: the least of some repeats, each of as many calls as the clock can tell apart."""
    calls = 1
    while (took := _repeat(work, calls)) < LEAST_SECONDS:
        calls = max(calls + 1, int(calls * 1.2 * LEAST_SECONDS / max(took, 1e-6)))
    return min(took, *(_repeat(work, calls) for _ in range(REPEATS - 1))) / calls


def _repeat(work: Work, calls: int) -> float:
    started = time.process_time()
    for _ in range(calls):
        work()
    return time.process_time() - started


def main() -> None:
    """Measure what is named, or all."""
    found: dict[str, float | None] = {}
    for name in sys.argv[1:] or PARTS:
        try:
            work = PARTS[name]()
            work()
        except (ImportError, AttributeError, TypeError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            found[name] = None
            continue
        gc.collect()
        gc.disable()
        found[name] = seconds_of(work)
        gc.enable()
    import import_core

    print(json.dumps({"from": import_core.__file__, "seconds": found}))


if __name__ == "__main__":
    main()
