"""What a load test and a soak find out from their samples."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from import_local.load.judging import (
    MEMORY_BOUND,
    EndedImport,
    growth,
    growth_findings,
    judge_load,
    median_slope,
    rolling_percentiles,
    scaling_response,
)
from import_local.load.mix import plan_imports
from import_local.load.sampling import with_leader
from import_local.load.timeline import (
    MEBIBYTE,
    ProcessSample,
    Sample,
    Series,
    peaks_by_role,
    read_timeline,
)

SECONDS = 900
EVERY = 3


def process(key: str, memory: float, *, role: str = "worker", postgres: int = 4) -> ProcessSample:
    return ProcessSample(key, role, int(memory * MEBIBYTE), 40, postgres, 3)


def soak(memory, *, postgres=lambda at: 4, redis=lambda at: 1_000_000, key=lambda at: "worker-a 7"):
    noise = random.Random(1)
    return [
        Sample(
            at=float(at),
            postgres_connections=10,
            redis_connections=8,
            redis_bytes=redis(at),
            redis_keys=20,
            processes=(process(key(at), memory(at) + noise.uniform(-2, 2), postgres=postgres(at)),),
        )
        for at in range(0, SECONDS, EVERY)
    ]


def test_flat_memory_with_a_warm_up_and_peaks_is_no_finding() -> None:
    def memory(at: int) -> float:
        return 60 + min(60.0, at / 2) + (80 if at % 200 == 0 else 0)

    assert growth_findings(soak(memory)) == ()


def test_memory_that_grows_all_the_time_is_named() -> None:
    (found,) = growth_findings(soak(lambda at: 100 + at / 10))
    assert found.startswith("worker-a 7: memory grew by 5")


def test_connections_that_are_never_given_back_are_named() -> None:
    (found,) = growth_findings(soak(lambda at: 100, postgres=lambda at: 4 + at // 60))
    assert "PostgreSQL connections grew by" in found


def test_a_pool_that_fills_again_after_each_restart_of_its_server_is_no_finding() -> None:
    def connections(at: int) -> int:
        return min(11, 3 + (at % 300) // 20)

    assert growth_findings(soak(lambda at: 100, postgres=connections)) == ()


def test_redis_that_grows_is_named() -> None:
    (found,) = growth_findings(soak(lambda at: 100, redis=lambda at: 1_000_000 + at * 10_000))
    assert found.startswith("Redis: memory grew by")


def test_a_successor_is_another_process() -> None:
    def memory(at: int) -> float:
        return 100 if at < 450 else 160

    assert growth_findings(soak(memory, key=lambda at: "a 1" if at < 450 else "a 2")) == ()


def test_an_operator_that_takes_over_is_another_process() -> None:
    samples = [
        replace(
            sample,
            processes=tuple(
                with_leader(
                    replace(each, key="import-operator-b 9", role="operator"),
                    "import-operator-a" if sample.at < 450 else "import-operator-b",
                )
                for each in sample.processes
            ),
        )
        for sample in soak(lambda at: 104 if at < 450 else 150)
    ]
    assert growth_findings(samples) == ()
    keys = {each.key for sample in samples for each in sample.processes}
    assert keys == {"import-operator-b 9 standing by", "import-operator-b 9 leading"}


def test_a_store_may_grow() -> None:
    samples = [
        replace(sample, processes=tuple(replace(each, role="postgres") for each in sample.processes))
        for sample in soak(lambda at: 100 + at / 5)
    ]
    assert growth_findings(samples) == ()


def test_too_little_is_not_judged() -> None:
    short = Series("a", "worker", tuple((float(at), at * 1e9) for at in range(0, 60, 3)))
    assert growth(short, "memory") is None
    assert growth(Series("a", "worker", ()), "memory") is None


def test_values_that_were_not_read_are_left_out() -> None:
    samples = [
        replace(each, redis_bytes=None) if number % 2 else each
        for number, each in enumerate(soak(lambda at: 100))
    ]
    assert growth_findings(samples) == ()


def test_the_median_slope_does_not_turn_by_single_peaks() -> None:
    points = [(float(at), 1e6 if at == 90 else 2.0 * at) for at in range(100)]
    assert median_slope(points) == pytest.approx(2.0)


def test_both_parts_of_a_bound_must_be_exceeded() -> None:
    large = growth(Series("a", "w", tuple((float(at), 1e9 + at * 5e4) for at in range(0, 900, 3))), "memory")
    assert large is not None
    assert large.grown > MEMORY_BOUND.growth
    assert not large.exceeds(MEMORY_BOUND)


def test_a_load_is_judged_by_its_small_imports_and_its_success() -> None:
    planned = plan_imports(100)
    ended = [EndedImport(each, "COMPLETED", 1.0, 299.0 if each.is_small else 3_000.0) for each in planned]
    assert judge_load(ended, seconds=3_000).findings() == ()
    late = [replace(each, ended_after=301.0) for each in ended[:10]] + ended[10:]
    (found,) = judge_load(late, seconds=3_000).findings()
    assert "were done within 300 s" in found
    failed = [replace(each, state="FAILED") for each in ended[:2]] + ended[2:]
    assert "98.0% of the imports succeeded" in judge_load(failed, seconds=3_000).findings()[0]
    open_still = [EndedImport(ended[0].plan, None, None, None), *ended[1:]]
    assert "1 imports have not ended" in judge_load(open_still, seconds=3_000).findings()


def test_the_scaling_response_is_read_from_the_depth_on() -> None:
    courses = [(0, 0, 2, 2), (2, 15, 2, 2), (4, 30, 2, 2), (6, 60, 6, 2), (8, 90, 6, 2), (12, 80, 6, 6)]
    samples = [
        Sample(at=float(at), due=due, claimed=0, desired=desired, ready=ready)
        for at, due, desired, ready in courses
    ]
    found = scaling_response(samples, jobs_per_worker=10)
    assert found is not None
    assert (found.before, found.most, found.decided, found.all_ready) == (2, 6, 2.0, 8.0)
    assert scaling_response(samples[:2], jobs_per_worker=10) is None
    assert scaling_response([], jobs_per_worker=10) is None


def test_rolling_percentiles_leave_quiet_times_out() -> None:
    found = rolling_percentiles([(0.0, 1.0), (1.0, 3.0), (100.0, 9.0)], window=10, step=10)
    assert found[50][0] == (0.0, 1.0)
    assert (50.0, 9.0) not in found[95]
    assert found[95][-1][1] == 9.0
    assert rolling_percentiles([], window=10, step=10) == {50: (), 95: ()}


def test_samples_are_read_as_they_were_written(tmp_path) -> None:
    samples = soak(lambda at: 100)[:3]
    file = tmp_path / "timeline.jsonl"
    file.write_text("\n".join(each.to_json() for each in samples) + '\n{"at": 9', encoding="utf-8")
    assert read_timeline(file) == samples


def test_peaks_are_of_one_process_and_of_all_together() -> None:
    samples = [
        Sample(0.0, processes=(process("a 1", 100), process("b 2", 50))),
        Sample(1.0, processes=(process("a 1", 120),)),
    ]
    assert list(peaks_by_role(samples)) == [("worker", 2, 120 * MEBIBYTE, 150 * MEBIBYTE)]
