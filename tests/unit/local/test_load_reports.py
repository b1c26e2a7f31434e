"""Pages and pictures of a load test and of a soak, from made-up runs."""

from __future__ import annotations

from xml.etree import ElementTree

from import_local.load.judging import EndedImport
from import_local.load.mix import plan_imports
from import_local.load.report import PAGE, write_load_report
from import_local.load.running import LoadOptions, LoadRun, ProviderAnswers
from import_local.load.soak_report import PAGE as SOAK_PAGE
from import_local.load.soak_report import SoakRun, write_soak_report
from import_local.load.timeline import MEBIBYTE, ProcessSample, Sample


def course(count: int = 60) -> list[Sample]:
    return [
        Sample(
            at=float(number * 5),
            due=max(0, 40 - number),
            claimed=min(10, 60 - number),
            later=0,
            completed=number,
            desired=4 if 5 < number < 50 else 2,
            ready=4 if 8 < number < 50 else 2,
            postgres_connections=12,
            redis_connections=6,
            redis_bytes=2_000_000,
            redis_keys=20,
            processes=(
                ProcessSample("product-imports-workers-a 1", "worker", 120 * MEBIBYTE, 40, 5, 3),
                ProcessSample("postgres 2", "postgres", 300 * MEBIBYTE),
            ),
        )
        for number in range(count)
    ]


def assert_pictures(folder) -> None:
    pictures = sorted(folder.glob("*.svg"))
    page = next(folder.glob("*.md")).read_text(encoding="utf-8")
    assert pictures
    for picture in pictures:
        assert picture.name in page
        root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314 - our own
        assert root.tag.endswith("svg")
        # A background of its own: on a dark page, ink on nothing could not be read.
        assert "#ffffff" in picture.read_text(encoding="utf-8")


def test_a_load_test_is_written_down(tmp_path) -> None:
    planned = plan_imports(60)
    run = LoadRun(
        LoadOptions(jobs=60), planned, "today, 2 cores, load average before the start 1.0", course()
    )
    run.ended = tuple(
        EndedImport(each, "COMPLETED", 2.0 + number, 4.0 + number, 0, 0)
        for number, each in enumerate(planned)
    )
    run.accepted, run.seconds = {each.name: 3.0 for each in planned}, 260.0
    run.answers = ProviderAnswers({200: 990, 503: 10}, {200: 100})
    verdict = write_load_report(tmp_path, run)
    assert (verdict.success_share, verdict.in_time_share) == (1.0, 1.0)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "10 of 1,000 (1.00%)" in page
    assert "100.00% (60 of 60)" in page
    assert "| workers | 2 → 4 |" in page
    assert "simulated, not measured" in page
    assert_pictures(tmp_path)


def test_the_same_run_gives_the_same_pictures(tmp_path) -> None:
    run = SoakRun(minutes=5, taken="today", seed=1, samples=course(), jobs=[(10.0, 2.0, "COMPLETED")])
    contents = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write_soak_report(tmp_path / name, run)
        contents.append([file.read_bytes() for file in sorted((tmp_path / name).iterdir())])
    assert contents[0] == contents[1]


def test_a_soak_is_written_down_with_what_it_found(tmp_path) -> None:
    run = SoakRun(
        minutes=5,
        taken="today",
        seed=1,
        samples=course(),
        faults=[(20.0, "worker killed"), (40.0, "Redis emptied")],
        jobs=[(10.0, 2.0, "COMPLETED"), (90.0, 4.0, "COMPLETED")],
        left_over=("job 7 is still claimed",),
    )
    write_soak_report(tmp_path, run)
    page = (tmp_path / SOAK_PAGE).read_text(encoding="utf-8")
    assert "- job 7 is still claimed" in page
    assert "2 COMPLETED" in page
    assert "1 × worker killed" in page
    assert_pictures(tmp_path)
    run.left_over = ()
    write_soak_report(tmp_path, run)
    assert "Nothing grew beyond its bound" in (tmp_path / SOAK_PAGE).read_text(encoding="utf-8")
