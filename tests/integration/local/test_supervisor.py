"""`import-local up` and `down`: whatever happens in between, a clear message and no stray process."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from import_local.main import main
from import_local.state import ProcessRecord, StateFolder

_UP_SECONDS = 120
_STUBBORN_POD = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"


@dataclass(frozen=True)
class Result:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


class Local:
    """The command line, on one state folder."""

    def __init__(self, path: Path) -> None:
        self.state = StateFolder(path)

    def words(self, *words: str) -> list[str]:
        # The operator is not what is tested here, and takes its time to start.
        options = ["--no-operator"] if words == ("up",) else []
        return [*words, *options, "--state", str(self.state.path)]

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-c", "from import_local.main import main; main()", *self.words(*words)]

    def run(self, *words: str) -> Result:
        """Run a command to its end, in this process."""
        output, errors, code = io.StringIO(), io.StringIO(), 0
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            patch.setattr(sys, "argv", ["import-local", *self.words(*words)])
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return Result(code, output.getvalue(), errors.getvalue())

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def up(self) -> str:
        result = self.run("up")
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def records(self) -> dict[str, ProcessRecord]:
        run = self.state.read_run()
        assert run is not None
        return {record.name: record for record in (run.holder, *run.children)}

    def environment(self) -> dict[str, str]:
        shell = f". '{self.state.env}' && env -0"
        output = subprocess.check_output(["sh", "-c", shell], text=True)
        return dict(entry.split("=", 1) for entry in output.split("\0") if entry)

    def kubectl(self, *words: str, stdin: str = "") -> str:
        return subprocess.check_output(
            ["kubectl", *words], env=self.environment(), input=stdin, text=True, timeout=60
        )

    def strays(self) -> list[str]:
        """Return every process that has anything to do with this folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                facts = [process.cwd(), *process.cmdline(), *process.environ().values()]
                if any(str(self.state.path) in fact for fact in facts):
                    found.append(f"{process.pid} {process.name()} {facts}")
        return found

    def wait_until_nothing_runs(self, records: dict[str, ProcessRecord]) -> None:
        """Wait for the end of known processes and for whoever cleans up after them."""
        alive = [process for record in records.values() if (process := record.process()) is not None]
        _, left = psutil.wait_procs(alive, timeout=60)
        assert left == []
        deadline = time.monotonic() + 60
        while self.state.path.exists() and self.state.read_run() is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.strays() == []


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    local = Local(tmp_path_factory.mktemp("local") / ".local")
    yield local
    local.run("down", "--delete-data")
    assert local.strays() == []


def test_up_twice_is_one_installation(local: Local) -> None:
    first = local.up()
    assert "Ready after" in first
    records = local.records()
    again = local.up()
    assert "running already" in again
    assert local.records() == records
    assert all(record.process() is not None for record in records.values())
    shown = local.run("status")
    assert shown.returncode == 0
    assert all(name in shown.stdout for name in records)


def test_env_leads_to_everything_and_only_its_owner_can_read_it(local: Local) -> None:
    local.up()
    environment = local.environment()
    assert {
        "KUBECONFIG",
        "DATABASE_URL",
        "REDIS_URL",
        "S3_ENDPOINT_URL",
        "S3_BUCKET",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "EMBEDDING_MODEL_PATH",
        "SAMPLE_SHOPIFY_URL",
        "SAMPLE_ROASTIFY_URL",
        "SAMPLE_WHATSAPP_URL",
        "SAMPLE_GRAPH_URL",
    } <= set(environment)
    assert (Path(environment["EMBEDDING_MODEL_PATH"]) / "vision_model.onnx").is_file()
    assert local.state.path.stat().st_mode & 0o777 == 0o700
    assert local.state.env.stat().st_mode & 0o777 == 0o600
    assert local.kubectl("get", "nodes", "-o", "name") == "node/local\n"
    secret = json.loads(local.kubectl("get", "secret", "import-connections", "-n", "imports", "-o", "json"))
    assert {"DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL", "S3_BUCKET"} <= set(secret["data"])


def test_secrets_are_in_no_log_and_on_no_command_line(local: Local) -> None:
    local.up()
    choices = local.state.read_choices()
    assert choices is not None
    secrets = [choices.postgres_password, choices.valkey_password, choices.secret_access_key]
    texts = [path.read_text(errors="replace") for path in local.state.logs.iterdir()]
    texts += [
        " ".join(process.cmdline()) for record in local.records().values() if (process := record.process())
    ]
    assert not [text for text in texts if any(secret in text for secret in secrets)]


def test_two_ups_at_once_start_one_installation(local: Local) -> None:
    local.run("down")
    starts = [local.start("up"), local.start("up")]
    outputs = [start.communicate(timeout=_UP_SECONDS)[0] for start in starts]
    codes = [start.returncode for start in starts]
    assert 0 in codes
    for code, output in zip(codes, outputs, strict=True):
        assert (
            ("Ready after" in output or "running already" in output) if code == 0 else "is in use: " in output
        )
    assert sum("Ready after" in output for output in outputs) == 1
    assert local.run("status").returncode == 0


def test_down_keeps_the_data_and_the_addresses(local: Local) -> None:
    local.up()
    before = local.environment()
    with psycopg.connect(before["DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept_over_down AS SELECT 42 AS answer")
    local.kubectl("create", "configmap", "kept-over-down")
    records = local.records()
    stopped = local.run("down")
    assert stopped.returncode == 0
    assert stopped.stdout.endswith("Stopped.\n")
    local.wait_until_nothing_runs(records)
    assert not local.state.env.exists()
    assert local.run("down").stdout == "Nothing was running.\n"
    assert local.run("status").returncode == 1
    local.up()
    assert local.environment() == before
    with psycopg.connect(before["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT answer FROM kept_over_down").fetchone() == (42,)
    assert local.kubectl("get", "configmap", "kept-over-down", "-o", "name") == "configmap/kept-over-down\n"


@pytest.mark.parametrize("part", ["postgres", "kubelet"])
def test_a_killed_child_stops_everything_and_is_named(local: Local, part: str) -> None:
    local.up()
    _run_a_stubborn_pod(local)
    records = local.records()
    os.kill(records[part].pid, signal.SIGKILL)
    local.wait_until_nothing_runs(records)
    shown = local.run("status").stdout
    assert f"{part} was killed by SIGKILL" in shown
    assert f"its log is {records[part].log}" in shown
    again = local.up()
    assert f"{part} was killed by SIGKILL" in again
    assert local.run("status").returncode == 0
    assert "The last run" not in local.run("up").stderr


def _run_a_stubborn_pod(local: Local) -> None:
    labels = {"app": "stubborn"}
    container = {
        "name": "stubborn",
        "image": "import-worker:1",
        "command": [sys.executable, "-c", _STUBBORN_POD],
    }
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "stubborn", "namespace": "imports"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]},
            },
        },
    }
    local.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    local.kubectl("rollout", "status", "deployment/stubborn", "-n", "imports", "--timeout=60s")


def test_a_killed_supervisor_leaves_no_process_and_a_message(local: Local) -> None:
    local.up()
    _run_a_stubborn_pod(local)
    assert any(_STUBBORN_POD in stray for stray in local.strays())
    records = local.records()
    os.kill(records["the supervisor"].pid, signal.SIGKILL)
    local.wait_until_nothing_runs(records)
    assert "the supervisor (pid" in local.run("status").stdout
    assert "was killed; everything that it ran was stopped" in local.run("up").stderr


def test_up_right_after_the_supervisor_was_killed_works(local: Local) -> None:
    local.up()
    records = local.records()
    supervisor = psutil.Process(records["the supervisor"].pid)
    supervisor.kill()
    supervisor.wait(60)  # what it ran is still there; as long as it is there itself, it runs already
    local.up()
    assert not [record for record in records.values() if record.process() is not None]
    assert local.run("status").returncode == 0


def test_a_removed_state_folder_stops_everything(local: Local) -> None:
    local.up()
    _run_a_stubborn_pod(local)
    records = local.records()
    choices = local.state.read_choices()
    while local.state.path.exists():  # its processes still write into it while it is being removed
        shutil.rmtree(local.state.path, ignore_errors=True)
    local.wait_until_nothing_runs(records)
    assert "was removed while the installation ran" in local.run("status").stdout
    if choices is not None:
        shutil.rmtree(local.state.postgres(choices).parent, ignore_errors=True)


@pytest.mark.parametrize(
    ("victim", "number", "code", "message"),
    [
        ("up", signal.SIGINT, 130, "what was started is stopped again"),
        ("up", signal.SIGKILL, -signal.SIGKILL, ""),
        ("the supervisor", signal.SIGKILL, 1, "the supervisor was killed by SIGKILL during the start"),
        ("the supervisor", signal.SIGTERM, 1, "the start was interrupted; everything is stopped again"),
    ],
)
def test_an_interrupted_start_leaves_nothing(
    local: Local, victim: str, number: signal.Signals, code: int, message: str
) -> None:
    local.run("down")
    starting = local.start("up")
    assert starting.stdout is not None
    shown = ""
    while "kube-apiserver: starting" not in shown:
        line = starting.stdout.readline()
        assert line, f"the start ended by itself: {shown}{starting.communicate(timeout=30)[0]}"
        shown += line
    records = local.records()
    assert {"postgres", "warden"} & set(records)
    os.kill(starting.pid if victim == "up" else records[victim].pid, number)
    shown += starting.communicate(timeout=60)[0]
    assert starting.returncode == code
    assert message in shown
    local.wait_until_nothing_runs(records)
    assert local.run("status").returncode == 1


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = Local(tmp_path / "file" / ".local").run("up")
    assert result.returncode == 1
    assert f"{tmp_path / 'file' / '.local'} cannot be used: Not a directory" in result.stderr.replace(
        "\n", ""
    )


def test_a_full_disk_is_named_before_anything_starts(tmp_path: Path) -> None:
    local = Local(tmp_path / "small" / ".local")
    (tmp_path / "small").mkdir()
    mount = f"mount -t tmpfs -o size=64m tmpfs '{tmp_path / 'small'}'"
    probe = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk of his own")
    command = " ".join(f"'{word}'" for word in local.command("up"))
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount} && {command}"],
        capture_output=True,
        text=True,
        timeout=_UP_SECONDS,
        check=False,
    )
    assert result.returncode == 1
    assert "is full: " in result.stderr
    assert local.strays() == []


def test_damaged_state_is_named_with_the_way_out(tmp_path: Path) -> None:
    local = Local(tmp_path / ".local")
    local.state.create()
    (local.state.path / "choices.json").write_text('{"installation": ')
    result = local.run("up")
    assert result.returncode == 1
    assert "choices.json cannot be read" in result.stderr
    assert local.strays() == []


def test_logs_lists_parts_and_names_an_unknown_one(local: Local) -> None:
    local.state.create()
    (local.state.logs / "sample.log").write_text("one\ntwo\nthree\n")
    assert "sample" in local.run("logs").stdout.split()
    shown = subprocess.check_output(local.command("logs", "sample", "--lines", "2"), text=True)
    assert shown == "two\nthree\n"
    unknown = local.run("logs", "nonesuch")
    assert unknown.returncode == 1
    assert "there is no log of 'nonesuch'" in unknown.stderr
