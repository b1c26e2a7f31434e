"""Many jobs of many companies, most of them small, so that faults always find some of them in flight."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx2
from catalogue_comparison import catalogue_of
from e2e.world import NAMESPACE, job, provider, secret

from faults.world import FaultWorld
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER, SECRET, Kind
from import_core.domain.errors import KubernetesUnavailableError, ObjectConflictError
from import_core.domain.steps import STEPS_IN_ORDER, StepKind
from import_local.samples.catalogue.expected import ExpectedProduct, Provider
from import_local.samples.settings import ROASTIFY_KEY, SHOPIFY_TOKEN
from import_worker.providers.roastify import RoastifySettings
from import_worker.providers.shopify.settings import ShopifySettings

JOBS = 350
COMPANIES = 100
"""Half of them have one job, so that no other brings what it lost; those of the others meet at the same products."""
LARGE_PRODUCTS = 45
LARGE_SPEED = 2.0
"""A large catalogue takes a call for each product: they are so many times quicker than a small one's."""
LIMITER_CLOCK_SCALE = 20
"""A provider's window of a minute passes in 3 s: after a loss of Redis all connections wait for one."""
CREATIONS_AT_ONCE = 8
STEP_CHOICES: Sequence[tuple[StepKind, ...]] = (
    STEPS_IN_ORDER,
    (StepKind.EMBEDDING,),
    (StepKind.QUALITY_CONTROL, StepKind.INDEX),
)
ENRICH_FIELDS = {
    StepKind.EMBEDDING: "embedding",
    StepKind.QUALITY_CONTROL: "qualityControl",
    StepKind.INDEX: "index",
}
LABEL = "faults-scenario"
APPLY_SECONDS = 120.0

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Company:
    """One company with its one connection; `shop` is the sample's name, which says what the catalogue holds."""

    id: str
    kind: Provider
    shop: str
    products: int
    images: int
    steps: tuple[StepKind, ...] = ()
    """After its imports; each of them asks for the same."""

    @property
    def pages(self) -> int:
        """How many checkpoints an import has that nobody disturbs."""
        return -(-self.products // PAGE_SIZES[self.kind])


PAGE_SIZES: Mapping[Provider, int] = {
    "shopify": ShopifySettings().shape.products,
    "roastify": RoastifySettings().page_size,
}


@dataclass(frozen=True)
class Load:
    """The companies of one scenario, and whose each job is. `latency_seconds`: what a provider's call takes."""

    scenario: str
    companies: tuple[Company, ...]
    owners: tuple[Company, ...]
    latency_seconds: float
    sample_root: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def jobs(self) -> dict[str, Company]:
        """Names of the jobs, and whose they are."""
        return {f"{self.scenario}-{number:04d}": company for number, company in enumerate(self.owners)}

    @property
    def has_steps(self) -> bool:
        """Whether any import asks for steps."""
        return any(company.steps for company in self.companies)

    @cached_property
    def wanted(self) -> dict[str, dict[str, ExpectedProduct]]:
        """What each company's catalogue holds, by company and external id."""
        return {
            company.id: catalogue_of(company.shop, company.kind, self.sample_root)
            for company in self.companies
        }


def plan_load(
    world: FaultWorld,
    scenario: str,
    *,
    jobs: int = JOBS,
    companies: int = COMPANIES,
    latency_seconds: float = 0.3,
    large: bool = True,
    enriched_every: int = 0,
) -> Load:
    """Choose catalogues of 1–3 products with 0–2 small images each; a third of the companies use Roastify.

    If `large`, a fifth of the companies have catalogues of several pages, of Roastify and without images. Of
    every so many companies (0: of none) one that is not large has imports that ask for steps: STEP_CHOICES in turn.
    `scenario` is lower-case letters and digits: it starts the names of all objects, companies and shops.
    """
    source = world.random_for(f"{scenario}/load")
    chosen = []
    for number in range(companies):
        kind: Provider = "roastify" if number % 3 == 2 else "shopify"
        products, images = source.randint(1, 3), source.randint(0, 2)
        if large and is_large(number):
            products, images = LARGE_PRODUCTS, 0
        shop = f"tiny-{products}-{images}-{scenario}{world.seed % 1_000_000}c{number}"
        steps: tuple[StepKind, ...] = ()
        if enriched_every and number % enriched_every == 0 and products != LARGE_PRODUCTS:
            steps = STEP_CHOICES[number // enriched_every % len(STEP_CHOICES)]
        chosen.append(Company(f"{scenario}-c{number}", kind, shop, products, images, steps))
    owners = choose_owners(chosen, jobs, source)
    return Load(scenario, tuple(chosen), owners, latency_seconds, world.sample_root, {LABEL: scenario})


def is_large(number: int) -> bool:
    """Whether the company of this number has a catalogue of several pages: 20 of 100, 16 of them with one job."""
    return number % 6 == 5 or number % 30 == 2


def choose_owners(companies: Sequence[Company], jobs: int, source: random.Random) -> tuple[Company, ...]:
    """Whose each job is: one of each company, the rest shared by every other one.

    They are mixed, so that jobs of every kind are in flight at any time.
    """
    sharing = companies[::2]
    rest = [sharing[number % len(sharing)] for number in range(jobs - len(companies))]
    owners = [*companies, *rest]
    source.shuffle(owners)
    return tuple(owners)


async def connect_companies(world: FaultWorld, load: Load) -> None:
    """Create the companies' Secrets and ImportProviders."""
    await _create_all(world, SECRET, [_secret(load, company) for company in load.companies])
    await _create_all(world, IMPORT_PROVIDER, [_provider(world, load, company) for company in load.companies])


async def submit(world: FaultWorld, load: Load, *, first: int = 0, last: int | None = None) -> None:
    """Create the jobs `first` to `last` (all): the API server's word for each is waited for."""
    names = list(load.jobs)[first:last]
    await _create_all(world, IMPORT_JOB, [_job(load, name, load.jobs[name]) for name in names])


async def forget(world: FaultWorld, load: Load) -> None:
    """Delete the scenario's objects, so that later ones do not meet them; the rows stay as history."""
    for kind in ("importjobs", "importproviders", "secrets"):
        outcome = await world.kubectl(
            "delete", kind, "-n", NAMESPACE, "-l", f"{LABEL}={load.scenario}", "--wait=false"
        )
        assert outcome.code == 0, outcome.err


def _secret(load: Load, company: Company) -> Json:
    values = {"accessToken": SHOPIFY_TOKEN} if company.kind == "shopify" else {"apiKey": ROASTIFY_KEY}
    return _labelled(secret(company.id, **values), load)


def _provider(world: FaultWorld, load: Load, company: Company) -> Json:
    urls = {
        "shopify": f"{world.shopify_url}/{company.shop}",
        "roastify": f"{world.roastify_url}/{company.shop}/v1",
    }
    body = provider(company.id, company=company.id, kind=company.kind, url=urls[company.kind])
    # A breaker that a broken link opened may be probed as soon as a limiter's window has passed.
    body["spec"]["circuitBreaker"] = {"openSeconds": 60 // LIMITER_CLOCK_SCALE}
    return _labelled(body, load)


def _job(load: Load, name: str, company: Company) -> Json:
    enrich = {"enrich": {ENRICH_FIELDS[kind]: True for kind in company.steps}} if company.steps else {}
    return _labelled(job(name, company=company.id, provider_name=company.id, **enrich), load)


def _labelled(body: Json, load: Load) -> Json:
    return {**body, "metadata": {**body["metadata"], "labels": dict(load.labels)}}


async def _create_all(world: FaultWorld, kind: Kind, bodies: list[Json]) -> None:
    gate = asyncio.Semaphore(CREATIONS_AT_ONCE)

    async def create(body: Json) -> None:
        async with gate:
            await _create(world, kind, body)

    async with asyncio.timeout(APPLY_SECONDS), asyncio.TaskGroup() as group:
        for body in bodies:
            group.create_task(create(body))


async def _create(world: FaultWorld, kind: Kind, body: Json) -> None:
    """Create an object as a careful client does: again after no answer, where "exists" then means done."""
    asked_before = False
    while True:
        try:
            await world.kube.create(kind, NAMESPACE, body)
        except ObjectConflictError:
            assert asked_before, f"{body['metadata']['name']} exists already"
        except KubernetesUnavailableError:
            asked_before = True
            await asyncio.sleep(0.5)
            continue
        return


async def slow_down(load: Load, latency_seconds: float) -> None:
    """Let each call to a shop of the load take so long; calls that are under way take what they took."""
    async with httpx2.AsyncClient(base_url=load.sample_root, trust_env=False, timeout=10) as client:
        for company in load.companies:
            speed = LARGE_SPEED if company.products == LARGE_PRODUCTS else 1.0
            # The shops' own limits go with the workers' clock.
            order = {"api": {"latencySeconds": latency_seconds / speed}, "rateScale": LIMITER_CLOCK_SCALE}
            answer = await client.put(f"/control/{company.kind}/{company.shop}/faults", json=order)
            answer.raise_for_status()
