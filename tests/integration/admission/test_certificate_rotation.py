"""The webhook's certificate: made once, exchanged under load, without a call that fails."""

import asyncio
import json

from admission_world import SECRET, World, import_job
from eventually import eventually

from import_core.adapters.kube.client import KubeClient
from import_core.adapters.kube.resources import IMPORT_JOB
from import_core.domain.backpressure import HealthLevel
from import_core.domain.errors import ImportOperatorError
from import_gateway.admission.certificates import fingerprints

QUICK = {"CERTIFICATE_SETTLE_SECONDS": "4", "CERTIFICATE_RETIRE_SECONDS": "4"}
"""Within these the API server must have learnt of an authority, and the other replica of a certificate."""
STEPS = "imports_admission_certificate_steps_total"
WEBHOOKS = "validatingwebhookconfigurations.admissionregistration.k8s.io"


async def steps(world: World, step: str) -> float:
    found = [await gateway.metric(STEPS) for gateway in world.gateways]
    return sum(each.get(f'step="{step}"', 0.0) for each in found)


async def test_two_replicas_agree_on_one_certificate(world: World) -> None:
    first, second = await asyncio.gather(world.start(wait=False), world.start(wait=False))
    for gateway in (first, second):
        await eventually(gateway.ready, seconds=60, what="a ready gateway")
    assert await steps(world, "make") == 1
    secret = await world.secret()
    assert set(secret) == {"tls.crt", "tls.key", "ca.crt"}
    assert await world.bundle() == secret["ca.crt"]
    expiries = [
        await gateway.metric("imports_admission_certificate_expiry_timestamp_seconds")
        for gateway in world.gateways
    ]
    assert expiries[0] == expiries[1] != {"": 0.0}
    assert len({await world.served() for _ in range(8)}) == 1


class Callers:
    """Submits without a pause while intake is stopped: whatever is not refused was not asked about."""

    def __init__(self, world: World, kube: KubeClient) -> None:
        self._world = world
        self._kube = kube
        self._stopped = False
        self.refused = 0
        self.others: list[str] = []

    async def run(self, name: str) -> None:
        number = 0
        while not self._stopped:
            number += 1
            body = import_job(f"{name}-{number}")
            try:
                await self._kube.create(IMPORT_JOB, self._world.namespace, body)
                self.others.append(f"{name}-{number} was let through")
            except ImportOperatorError as error:
                if "The import queue is full" in str(error):
                    self.refused += 1
                else:
                    self.others.append(str(error))

    def stop(self) -> None:
        self._stopped = True


async def test_rotation_under_load_fails_no_call(world: World) -> None:
    await world.queue(HealthLevel.OVERLOAD, stopped=True)
    # A call fails by its certificate, at once; not because the machine is slow.
    patient = [{"op": "replace", "path": "/webhooks/0/timeoutSeconds", "value": 30}]
    await world.kubectl("patch", WEBHOOKS, world.configuration, "--type=json", "-p", json.dumps(patient))
    for _ in range(2):
        await world.start(**QUICK)
    await world.until_asked()
    old = await world.secret()
    served_before = await world.served()
    callers = Callers(world, world.kube)
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(callers.run(f"caller-{number}"))
        await world.kubectl("annotate", "secret", SECRET, "imports.avnz.io/rotate=now")
        await eventually(lambda: _both_trusted(world), what="both authorities trusted")
        await eventually(lambda: _exchanged(world, old), what="the exchange")
        before = callers.refused
        await eventually(lambda: _as_at_first(world), what="the old authority forgotten")
        callers.stop()
    assert callers.others == []
    assert callers.refused > before > 0
    new = await world.secret()
    assert new["tls.key"] != old["tls.key"]
    assert new["ca.crt"] != old["ca.crt"]
    assert await world.bundle() == new["ca.crt"]
    assert await world.served() != served_before
    assert [await steps(world, step) for step in ("make", "prepare", "switch", "retire")] == [1, 1, 1, 1]
    assert "rotate" not in await world.kubectl("get", "secret", SECRET, "-o", "yaml")


async def _both_trusted(world: World) -> bool:
    return len(fingerprints(await world.bundle())) == 2


async def _exchanged(world: World, old: dict[str, bytes]) -> bool:
    return (await world.secret())["tls.crt"] != old["tls.crt"]


async def _as_at_first(world: World) -> bool:
    return "previous-ca.crt" not in await world.secret() and not await _both_trusted(world)


async def test_what_people_break_is_mended(world: World) -> None:
    await world.queue(HealthLevel.OVERLOAD, stopped=True)
    await world.start(**QUICK)
    before = await world.secret()

    # The bundle is gone, as after another tool's replace.
    patch = '{"webhooks": [{"name": "importjobs.imports.avnz.io", "clientConfig": {"caBundle": null}}]}'
    await world.kubectl("patch", "validatingwebhookconfiguration", world.configuration, "-p", patch)
    await eventually(world.bundle, what="the bundle")
    assert await world.bundle() == before["ca.crt"]

    # The key is gone: a person wants another one at once.
    await world.kubectl("patch", "secret", SECRET, "--type=json", "-p", '[{"op": "remove", "path": "/data"}]')

    async def served_anew() -> bool:
        secret = await world.secret()
        return bool(secret) and secret != before and await world.bundle() == secret["ca.crt"]

    await eventually(served_anew, what="another certificate")
    await world.served()
