"""`kubectl imports try JOBFILE`: the first page of a catalogue as it would be imported, without writing anything."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from import_cli.acting import count
from import_cli.printing import print_json, print_table, printable, say
from import_cli.running import EXIT_UNAVAILABLE, EXIT_USAGE
from import_cli.sources import NoDatabaseError, Sources, UsageError, find_redis_url
from import_core.adapters.kube.resources import IMPORT_JOB, IMPORT_PROVIDER
from import_core.domain.connection_status import describe_breaker
from import_core.domain.errors import (
    InvalidInputError,
    KubernetesUnavailableError,
    ObjectForbiddenError,
)
from import_core.domain.resources.import_job import parse_import_job_spec

EXIT_FAILED = 1
TRIAL = "import_worker.trial"
TRIAL_SECONDS = 180.0
MOST_BYTES = 1_000_000
SHOWN = 20

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """What to try: a file ("-": standard input), credentials as KEY=VARIABLE, and whether the limit is not asked."""

    job_file: str
    credentials: Sequence[str] = ()
    uncounted: bool = False


async def run(sources: Sources, console: Console, *, trial: Trial, as_json: bool) -> int:
    """Fetch a page and show what it became; 0 when all of it can be imported, 1 when something can't.

    Raises UsageError for a file, a provider or credentials that can't be used, and what the API server answers.
    """
    job, provider = read_job_file(trial.job_file)
    try:
        spec = parse_import_job_spec(job.get("spec") or {})
    except InvalidInputError as error:
        raise UsageError(f"{trial.job_file}: {error}") from error
    namespace = str((job.get("metadata") or {}).get("namespace") or sources.namespace)
    provider = provider or await _provider(sources, namespace, spec.provider_ref.name)
    redis_url = None if trial.uncounted else find_redis_url()
    if redis_url is None and not trial.uncounted:
        raise UsageError(
            "The connection's call limit is shared through Redis: set REDIS_URL; or --uncounted, where no worker calls"
            " this provider now"
        )
    await _check_breaker(sources, namespace, spec.provider_ref.name)
    order = {
        "namespace": namespace,
        "spec": job["spec"],
        "provider": {**provider, "metadata": {"namespace": namespace, "uid": "", **provider["metadata"]}},
        "credentials": await _credentials(sources, namespace, provider, trial.credentials),
        "redisUrl": redis_url,
    }
    return _show(await _tried(order), console, as_json=as_json)


def read_job_file(name: str) -> tuple[Json, Json | None]:
    """The one ImportJob of a YAML or JSON file, and the ImportProvider that it names if that is there too."""
    try:
        text = sys.stdin.read(MOST_BYTES) if name == "-" else Path(name).read_text(encoding="utf-8")
        documents = [each for each in yaml.safe_load_all(text) if isinstance(each, dict)]
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} is no YAML: {printable(str(error).splitlines()[0])}") from error
    jobs = [each for each in documents if each.get("kind") == IMPORT_JOB.kind]
    if len(jobs) != 1:
        raise UsageError(f"{name} holds {count(len(jobs), 'ImportJob')}; give a file with one")
    wanted = ((jobs[0].get("spec") or {}).get("providerRef") or {}).get("name")
    for each in documents:
        if each.get("kind") == IMPORT_PROVIDER.kind and (each.get("metadata") or {}).get("name") == wanted:
            return jobs[0], each
    return jobs[0], None


async def _provider(sources: Sources, namespace: str, name: str) -> Json:
    found = await sources.kube.get(IMPORT_PROVIDER, namespace, name)
    if found is None:
        raise UsageError(f"There is no ImportProvider {name} in namespace {namespace}, nor in the file")
    return found


async def _check_breaker(sources: Sources, namespace: str, name: str) -> None:
    """Leave a provider alone that a person wants left alone; without the database nobody is known to."""
    try:
        async with sources.stores() as stores:
            breaker = (await stores.breakers.not_closed(namespace)).get(name)
    except NoDatabaseError:
        return
    if breaker is not None and breaker.is_forced:
        raise UsageError(f"{name}: {describe_breaker(breaker)}")


async def _credentials(
    sources: Sources, namespace: str, provider: Json, given: Sequence[str]
) -> Mapping[str, str]:
    """From the environment where given, and else from the provider's Secret."""
    if given:
        return dict(map(_from_environment, given))
    spec = provider.get("spec") or {}
    reference = (spec.get("credentialsSecretRef") or {}).get("name")
    if reference is None and (spec.get("whatsapp") or {}).get("mode") == "Scrape":
        return {}
    try:
        secret = await sources.kube.get_secret(namespace, str(reference))
    except ObjectForbiddenError as error:
        raise UsageError(f"{error}; --credential KEY=VARIABLE takes them from the environment") from error
    if secret is None:
        raise UsageError(
            f"There is no Secret {reference} in namespace {namespace};"
            " --credential KEY=VARIABLE takes them from the environment"
        )
    return secret


def _from_environment(text: str) -> tuple[str, str]:
    key, _, variable = text.partition("=")
    value = os.environ.get(variable)
    # Not the text: somebody may have given the credential itself.
    if not key or not variable:
        raise UsageError("--credential must be KEY=VARIABLE, the name of an environment variable")
    if not value:
        raise UsageError(f"--credential {key}: the environment variable that it names is not set")
    return key, value


async def _tried(order: Mapping[str, Any]) -> Json:
    """The worker's answer, from a process of its own. Raises KubernetesUnavailableError never, UsageError."""
    if find_spec(TRIAL.partition(".")[0]) is None:
        raise UsageError("The worker's program is not installed beside this one (package import-operator)")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", TRIAL),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            out, problems = await process.communicate(json.dumps(order).encode())
    except TimeoutError as error:
        raise UsageError(f"No page came within {TRIAL_SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        last = (problems.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
        raise KubernetesUnavailableError(f"The worker's program failed: {printable(last)}")
    answer: Json = json.loads(out)
    return answer


def _show(answer: Json, console: Console, *, as_json: bool) -> int:
    """Print the answer; returns the exit code."""
    error = answer.get("error")
    if as_json:
        print_json(console, answer)
    elif error is not None:
        say(console, f"{error['reason']}: {error['message']}", style="red")
    else:
        show_page(answer, console)
    if error is not None:
        return {"input": EXIT_USAGE, "unavailable": EXIT_UNAVAILABLE}.get(error["kind"], EXIT_FAILED)
    return EXIT_FAILED if answer["failures"] else 0


def show_page(answer: Json, console: Console) -> None:
    """Print a page's products for people, the first one in full."""
    products, failures = answer["products"], answer["failures"]
    total = "unknown" if answer["total"] is None else f"{answer['total']:,}"
    say(
        console,
        f"{answer['provider']} ({answer['type']}): {count(len(products), 'product')} of the first page, {total} in all,"
        f" {count(answer['calls'], 'call')}. Nothing was written",
        style="bold",
    )
    if products:
        console.print()
        print_table(
            console,
            ("PRODUCT", "TITLE", "SKU", "PRICE", "STATUS", "VARIANTS", "IMAGES"),
            [
                (
                    p["externalId"],
                    p["title"],
                    p["sku"],
                    _price(p),
                    p["status"],
                    len(p["variants"]),
                    len(p["images"]),
                )
                for p in products[:SHOWN]
            ],
        )
        if len(products) > SHOWN:
            say(console, f"… and {len(products) - SHOWN} more: -o json has all", style="dim")
        console.print()
        say(console, "The first one, field by field:", style="bold")
        for name, value in products[0].items():
            if value not in (None, "", [], {}):
                say(console, f"  {name}: {_short(value)}")
    if failures:
        console.print()
        print_table(
            console,
            ("FAILED", "STAGE", "REASON", "MESSAGE"),
            [(f["externalId"], f["stage"], f["reason"], f["message"]) for f in failures[:SHOWN]],
        )
        if len(failures) > SHOWN:
            say(console, f"… and {len(failures) - SHOWN} more", style="dim")


def _price(product: Json) -> str | None:
    price, currency = product["price"], product["currency"]
    return None if price is None else f"{price} {currency or ''}".rstrip()


def _short(value: object, longest: int = 160) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else f"{text[:longest]}…"
