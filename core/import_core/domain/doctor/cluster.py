"""What the API server's answers say: definitions, rights, the webhook's certificate, the operator's Lease."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from import_core.domain.certificates import RENEW_SHARE
from import_core.domain.doctor.findings import Finding, failed, passed, skipped, warned
from import_core.domain.resources.common import VERSION, ResourceDefinition
from import_core.domain.resources.conditions import get_condition
from import_core.domain.resources.crd import custom_resource_definition

NAMED = 5
"""Fields or rights that a message names."""
APPLY_DEFINITIONS = "kubectl apply --server-side -f crds/ (of this version), then restart the operator"
APPLY_OVERLAY = "kubectl apply -k your overlay (deploy/base has it)"
MEASURED_SECONDS = 30.0
"""The operator measures each queue every second; one that was measured longer ago is not looked after."""


def judge_definition(definition: ResourceDefinition, found: Mapping[str, Any] | None) -> Finding:
    """Whether the API server knows a kind, serves our version of it, and has the fields of this program."""
    wanted = custom_resource_definition(definition)
    name = f"definition {definition.plural}"
    if found is None:
        return failed(name, f"{wanted['metadata']['name']} is not installed", APPLY_DEFINITIONS)
    established = get_condition((found.get("status") or {}).get("conditions") or [], "Established") or {}
    if established.get("status") != "True":
        detail = established.get("message") or "it was never accepted"
        return failed(name, f"the API server does not serve it: {detail}", APPLY_DEFINITIONS)
    versions = {version["name"]: version for version in found["spec"]["versions"]}
    ours = versions.get(VERSION)
    if ours is None or not ours.get("served"):
        return failed(name, f"{VERSION} is not served, only {', '.join(sorted(versions))}", APPLY_DEFINITIONS)
    known = set(_paths(ours["schema"]["openAPIV3Schema"]))
    needed = set(_paths(wanted["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    if missing := sorted(needed - known):
        return failed(name, f"it is of an older version, without {_some(missing)}", APPLY_DEFINITIONS)
    if unknown := sorted(known - needed):
        return warned(
            name,
            f"it is of a newer version than this program, with {_some(unknown)}",
            "use the kubectl-imports of the version that is installed",
        )
    return passed(name, f"{VERSION} is served, with all fields of this version")


def _paths(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, child in (node.get("properties") or {}).items():
        yield f"{prefix}{name}"
        yield from _paths(child, f"{prefix}{name}.")
    for inner in ("items", "additionalProperties"):
        if isinstance(node.get(inner), Mapping):
            yield from _paths(node[inner], f"{prefix}[].")


@dataclass(frozen=True, slots=True)
class Right:
    """Something that an account must be allowed; `name` empty: any object; `everywhere`: not in a namespace."""

    account: str
    verb: str
    group: str
    resource: str
    name: str = ""
    everywhere: bool = False

    def __str__(self) -> str:
        where = f"{self.resource}{f'.{self.group}' if self.group else ''}"
        return f"{self.verb} {where}{f' {self.name}' if self.name else ''}"


def judge_rights(account: str, answers: Mapping[Right, bool]) -> Finding:
    """Whether a ServiceAccount may do all that its process does."""
    missing = [str(right) for right, allowed in answers.items() if not allowed]
    name = f"rights {account}"
    if missing:
        return failed(name, f"may not {_some(missing)}", f"{APPLY_OVERLAY}: Role and RoleBinding {account}")
    return passed(name, f"may do all of the {len(answers)} things that it does")


def judge_own_rights(account: str, answers: Mapping[Right, bool]) -> Finding:
    """The same where only one's own rights may be asked for: they say nothing of the account's."""
    missing = [str(right) for right, allowed in answers.items() if not allowed]
    yours = f"you may not {_some(missing)}" if missing else f"you may do all {len(answers)} things yourself"
    return skipped(
        f"rights {account}",
        f"you may not ask what others may do; {yours}",
        "ask as somebody who may create subjectaccessreviews (authorization.k8s.io)",
    )


@dataclass(frozen=True, slots=True)
class SeenCertificate:
    """A certificate's identity and life."""

    fingerprint: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class SeenWebhook:
    """What is known of the admission webhook; `served` None: its Secret may not be read, or is empty."""

    configured: bool
    trusted: Sequence[SeenCertificate] = ()
    """Authorities in the webhook configuration."""
    secret_read: bool = False
    served: SeenCertificate | None = None
    authority: SeenCertificate | None = None
    """Which signed the served one."""


WEBHOOK = "webhook certificate"
LATE_SHARE = 0.9
"""Of the time left when it is due; later than this something hinders the exchange."""
ASK_FOR_ROTATION = (
    "kubectl -n {namespace} annotate secret import-gateway-certificate imports.avnz.io/rotate=now; if it stays so,"
    " kubectl -n {namespace} logs deployment/import-gateway"
)


def judge_webhook(seen: SeenWebhook, now: datetime, *, namespace: str) -> Finding:
    """Whether the API server can trust the gateway where it asks about new ImportJobs, and for how long."""
    if not seen.configured:
        message = (
            "ValidatingWebhookConfiguration import-gateway is missing: nobody asks whether there is room"
        )
        return failed(WEBHOOK, message, APPLY_OVERLAY)
    if not seen.trusted:
        message = "the webhook configuration trusts no authority: the gateway has not written one"
        return failed(WEBHOOK, message, f"kubectl -n {namespace} logs deployment/import-gateway")
    rotate = ASK_FOR_ROTATION.format(namespace=namespace)
    if seen.secret_read and seen.served is None:
        return failed(WEBHOOK, "Secret import-gateway-certificate holds no certificate", rotate)
    trusted = {each.fingerprint for each in seen.trusted}
    if seen.authority is not None and seen.authority.fingerprint not in trusted:
        return failed(
            WEBHOOK, "the API server does not trust the authority of the served certificate", rotate
        )
    # Without the Secret: each authority signs one certificate, of the same life; the newest is served or soon will.
    judged = seen.served or max(seen.trusted, key=lambda each: each.not_after)
    what = "the certificate" if seen.served else "the newest authority (the Secret may not be read)"
    return _judge_life(judged, now, what=what, rotate=rotate)


def _judge_life(judged: SeenCertificate, now: datetime, *, what: str, rotate: str) -> Finding:
    if now >= judged.not_after:
        return failed(WEBHOOK, f"{what} expired at {judged.not_after:%Y-%m-%dT%H:%M:%SZ}", rotate)
    if now < judged.not_before:
        return failed(WEBHOOK, f"{what} is not good before {judged.not_before:%Y-%m-%dT%H:%M:%SZ}", rotate)
    left = judged.not_after - now
    lasting = f"{what} is good until {judged.not_after:%Y-%m-%d} ({left.days} days)"
    life = judged.not_after - judged.not_before
    if left < life * (1 - RENEW_SHARE) * LATE_SHARE:
        return warned(WEBHOOK, f"{lasting}, and should have been exchanged", rotate)
    return passed(WEBHOOK, lasting)


LEASE = "operator lease"


def judge_lease(holder: str | None, *, age_seconds: float | None, renewed: bool, namespace: str) -> Finding:
    """Whether an operator leads. `renewed`: the Lease changed while it was looked at; clocks say no more then."""
    look = f"kubectl -n {namespace} get pods -l app.kubernetes.io/name=import-operator; kubectl -n {namespace} logs"
    look += " deployment/import-operator"
    if holder is None:
        return failed(LEASE, "there is no Lease: no operator has ever led here", look)
    if not holder:
        return failed(LEASE, "nobody holds the Lease: it was given back, and no operator took it", look)
    if not renewed:
        since = f" for {age_seconds:,.0f} s" if age_seconds is not None else ""
        return failed(LEASE, f"{holder} holds the Lease, and has not renewed it{since}", look)
    return passed(LEASE, f"{holder} leads, and renews the Lease")


def judge_loops(ages: Mapping[str, float | None], *, namespace: str) -> Finding:
    """Whether the operator looks after each queue: seconds since it was last measured; None: never."""
    look = f"kubectl -n {namespace} logs deployment/import-operator, and imports_loop_errors_total of its metrics"
    stale = [
        f"{queue} was {'never' if age is None else f'last {age:,.0f} s ago'} measured"
        for queue, age in ages.items()
        if age is None or age > MEASURED_SECONDS
    ]
    if stale:
        return failed("operator loops", "; ".join(stale), look)
    if not ages:
        return warned("operator loops", "there is no WorkerPool: nothing runs jobs", APPLY_OVERLAY)
    oldest = max(age for age in ages.values() if age is not None)
    return passed("operator loops", f"{', '.join(ages)}: measured {max(0.0, oldest):.0f} s ago")


def _some(values: Sequence[str]) -> str:
    more = f" and {len(values) - NAMED} more" if len(values) > NAMED else ""
    return f"{', '.join(values[:NAMED])}{more}"
