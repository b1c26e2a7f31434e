"""What is kept on disk comes back as it was, privately, and damage is named."""

import subprocess
from pathlib import Path

import pytest

from import_local.errors import FolderError
from import_local.installation import Installation
from import_local.state import Choices, ProcessRecord, Run, StateFolder, default_state_folder


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


def test_choices_come_back_as_they_were(state: StateFolder) -> None:
    assert state.read_choices() is None
    choices = Choices(postgres_port=20_001)
    choices.control_plane.api_server = 20_002
    state.write_choices(choices)
    assert state.read_choices() == choices


def test_each_installation_has_secrets_of_its_own() -> None:
    first, second = Choices(), Choices()
    assert first.postgres_password != second.postgres_password
    assert first.secret_access_key != second.secret_access_key
    assert first.installation != second.installation


def test_a_run_comes_back_and_can_be_removed(state: StateFolder) -> None:
    run = Run(ProcessRecord.own("holder"), "running", 12.5, (ProcessRecord("child", 7, 1.0, "child.log"),))
    state.write_run(run)
    assert state.read_run() == run
    state.remove_run()
    assert state.read_run() is None
    state.remove_run()


def test_a_process_is_told_from_a_later_one_with_the_same_number() -> None:
    own = ProcessRecord.own("this")
    assert own.process() is not None
    assert ProcessRecord("before", own.pid, own.started_at - 60).process() is None


@pytest.mark.parametrize("content", ["{", "[]", '{"postgres_port": 1, "unknown": 2, "control_plane": {}}'])
def test_damaged_choices_are_named_with_their_path(state: StateFolder, content: str) -> None:
    (state.path / "choices.json").write_text(content)
    with pytest.raises(FolderError, match=r"choices\.json .*remove"):
        state.read_choices()


def test_env_is_private_and_survives_any_value(state: StateFolder) -> None:
    awkward = 'it\'s $HOME `x` "y" \\ \n end'
    state.write_env({"AWKWARD": awkward}, programs="/opt/some programs")
    assert state.env.stat().st_mode & 0o777 == 0o600
    script = f". '{state.env}' && printf '%s|%s' \"$AWKWARD\" \"${{PATH%%:*}}\""
    assert subprocess.check_output(["sh", "-c", script], text=True) == f"{awkward}|/opt/some programs"


def test_a_failure_is_kept_until_it_is_cleared(state: StateFolder) -> None:
    assert state.read_failure() is None
    state.write_failure("postgres was killed by SIGKILL")
    assert "postgres was killed by SIGKILL" in (state.read_failure() or "")
    state.clear_failure()
    assert state.read_failure() is None


def test_nothing_is_read_from_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = StateFolder(tmp_path / "file")
    assert state.read_run() is None
    assert state.read_failure() is None


def test_state_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORT_LOCAL_STATE", str(tmp_path))
    assert default_state_folder() == tmp_path
    monkeypatch.delenv("IMPORT_LOCAL_STATE")
    assert default_state_folder() == Path(__file__).parents[3] / ".local"


def test_a_folder_that_is_half_removed_is_lost_and_another_installations_is_not(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.state.create()
    assert installation.lost_state_folder()  # logs are left, which the removal has not reached yet
    installation.state.write_choices(Choices())
    assert not installation.owns_state_folder()
    assert not installation.lost_state_folder()
