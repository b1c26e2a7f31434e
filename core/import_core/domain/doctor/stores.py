"""What PostgreSQL, Redis, the object store and the clocks say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from import_core.domain.doctor.findings import Finding, failed, passed, warned

MIGRATE = (
    "restart the operator: its init container migrates (python -m import_operator migrate does it by hand)"
)
NOTICED_SECONDS = 2.0
WRONG_SECONDS = 30.0
"""Certificates and cron times bear a few seconds; a difference above this breaks schedules and what people read."""
FULL_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class SeenDatabase:
    """PostgreSQL as it was found."""

    server_version: int
    """As PostgreSQL says it: 180001."""
    in_recovery: bool
    version: str | None
    """The newest migration that ran; None: none did."""
    head: str
    """The newest that this program knows."""
    known: bool
    """Whether this program knows `version`."""
    differences: Sequence[str] = ()
    """Between the platform's tables and what is needed."""
    missing_indexes: Sequence[str] = ()
    missing_triggers: Sequence[str] = ()


NEEDED_SERVER = 170000


def judge_database(seen: SeenDatabase) -> list[Finding]:
    """Server, migrations, tables, indexes and triggers."""
    major = seen.server_version // 10000
    server = passed("postgresql server", f"PostgreSQL {major} answers, and takes writes")
    if seen.in_recovery:
        server = failed(
            "postgresql server",
            "it is a standby: nothing can be written",
            "let DATABASE_URL lead to the primary (on AWS: the cluster's or instance's own endpoint)",
        )
    elif seen.server_version < NEEDED_SERVER:
        server = failed(
            "postgresql server", f"PostgreSQL {major} lacks transaction_timeout", "upgrade it to 17 or newer"
        )
    return [server, _migrations(seen), _tables(seen), _indexes(seen), _triggers(seen)]


def _migrations(seen: SeenDatabase) -> Finding:
    name = "postgresql migrations"
    if seen.version is None:
        return failed(name, "the database was never migrated, or another one is meant", MIGRATE)
    if seen.version == seen.head:
        return passed(name, f"at {seen.version}, the newest")
    if not seen.known:
        return warned(
            name,
            f"at {seen.version}, which this program (up to {seen.head}) does not know",
            "use the kubectl-imports of the version that is installed",
        )
    return failed(name, f"at {seen.version}; this version needs {seen.head}", MIGRATE)


def _tables(seen: SeenDatabase) -> Finding:
    name = "platform's tables"
    if seen.differences:
        return failed(
            name, "; ".join(seen.differences), "change the platform's schema: docs/reference/database.md"
        )
    return passed(name, "have the columns and unique keys that are needed")


def _indexes(seen: SeenDatabase) -> Finding:
    name = "platform's indexes"
    if seen.missing_indexes:
        return failed(name, f"missing or invalid: {', '.join(seen.missing_indexes)}", MIGRATE)
    return passed(name, "are there and valid")


def _triggers(seen: SeenDatabase) -> Finding:
    name = "platform's triggers"
    if seen.missing_triggers:
        return failed(
            name,
            f"missing or switched off: {', '.join(seen.missing_triggers)}: webhooks are not told of ends",
            MIGRATE,
        )
    return passed(name, "are there")


@dataclass(frozen=True, slots=True)
class SeenRedis:
    """Redis as it was found; sizes in bytes, `maximum` 0: no limit."""

    role: str
    policy: str | None
    """None: the server does not tell."""
    used: int
    maximum: int


def judge_redis(seen: SeenRedis) -> list[Finding]:
    """Role, eviction policy and room."""
    role = passed("redis", "answers, and takes writes")
    if seen.role not in {"master", "primary"}:
        role = failed(
            "redis",
            f"it is a {seen.role}: nothing can be written",
            "let REDIS_URL lead to the primary (on AWS: the replication group's primary endpoint)",
        )
    policy = passed("redis eviction", "maxmemory-policy is noeviction")
    if seen.policy is None:
        policy = warned(
            "redis eviction",
            "the server does not tell its policy",
            "look that maxmemory-policy is noeviction",
        )
    elif seen.policy != "noeviction":
        policy = failed(
            "redis eviction",
            f"maxmemory-policy is {seen.policy}: messages may vanish when memory is short",
            "CONFIG SET maxmemory-policy noeviction, and in its configuration (on AWS: the parameter group)",
        )
    room = passed("redis memory", f"{seen.used / 2**20:,.0f} MiB used" + _of(seen.maximum))
    if seen.maximum and seen.used > FULL_SHARE * seen.maximum:
        room = warned(
            "redis memory",
            f"{seen.used / seen.maximum:.0%} used{_of(seen.maximum)}",
            "look for keys outside the prefix imports: (redis-cli --bigkeys), or give it more",
        )
    return [role, policy, room]


def _of(maximum: int) -> str:
    return f" of {maximum / 2**20:,.0f} MiB" if maximum else ", without a limit"


def judge_clocks(offsets: Mapping[str, float], *, accuracy: Mapping[str, float]) -> Finding:
    """How far other clocks are ahead of this machine's; `accuracy`: how well each is known. All in seconds."""
    if not offsets:
        return failed("clocks", "neither API server nor PostgreSQL told the time", "see the checks above")
    clocks = {"this machine": (0.0, 0.0)}
    clocks |= {name: (offset, accuracy.get(name, 0.0)) for name, offset in offsets.items()}
    # What can't be told apart counts as equal: the latest clock's least time against the earliest's most.
    latest = max(offset - doubt for offset, doubt in clocks.values())
    earliest = min(offset + doubt for offset, doubt in clocks.values())
    apart = max(0.0, latest - earliest)
    shown = ", ".join(f"{name} {offset:+.1f} s" for name, offset in offsets.items())
    fix = "let each machine follow a time server (chrony, systemd-timesyncd; on AWS 169.254.169.123)"
    if apart > WRONG_SECONDS:
        return failed("clocks", f"{apart:,.0f} s apart (to this machine: {shown})", fix)
    if apart > NOTICED_SECONDS:
        return warned("clocks", f"{apart:,.0f} s apart (to this machine: {shown})", fix)
    return passed("clocks", f"agree (to this machine: {shown})")
