"""When containers restart, what probes mean, which address a pod gets: decisions of the kubelet without I/O."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from import_local.kubelet.addresses import POD_NETWORK, AddressPool, get_node_network
from import_local.kubelet.backoff import BackOffSettings, get_init_policy, next_delay, should_restart
from import_local.kubelet.errors import KubeletError
from import_local.kubelet.probe_state import ProbeSettings, ProbeState, record_outcome
from import_local.kubelet.processes import ProcessFacts, get_resident_sums
from import_local.kubelet.settings import ImageTable, parse_image, read_images
from import_local.kubelet.tokens import get_refresh_delay


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 137, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policy(policy, code, expected):
    assert should_restart(policy, code) is expected


def test_init_containers_must_succeed_once():
    assert not should_restart(get_init_policy("Always"), 0)
    assert should_restart(get_init_policy("Always"), 1)
    assert not should_restart(get_init_policy("Never"), 1)


def test_back_off_doubles_to_its_limit():
    settings = BackOffSettings(first=10, limit=300)
    delays = []
    delay = None
    for _ in range(8):
        delay = next_delay(delay, 1.0, settings)
        delays.append(delay)
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]


def test_back_off_begins_anew_after_a_long_run():
    settings = BackOffSettings(first=10, limit=300)
    assert next_delay(160, 599.9, settings) == 300
    assert next_delay(160, 600, settings) == 0


def test_back_off_of_zero_never_waits():
    settings = BackOffSettings(first=0, limit=300)
    delay = None
    for _ in range(5):
        delay = next_delay(delay, 0.1, settings)
        assert delay == 0


def feed(outcomes, settings, state=None):
    state = state or ProbeState()
    verdicts = []
    for outcome in outcomes:
        state = record_outcome(state, outcome, settings)
        verdicts.append(state.verdict)
    return verdicts


def test_probe_verdict_changes_only_at_its_thresholds():
    settings = ProbeSettings(success_threshold=2, failure_threshold=3)
    outcomes = [True, True, False, False, True, False, False, False, True, True]
    expected = [None, True, True, True, True, True, True, False, False, True]
    assert feed(outcomes, settings) == expected


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_probe_verdict_needs_a_full_run_of_equal_outcomes(outcomes, success, failure):
    settings = ProbeSettings(success_threshold=success, failure_threshold=failure)
    before = None
    for position, verdict in enumerate(feed(outcomes, settings)):
        if verdict != before:
            length = success if verdict else failure
            assert outcomes[position - length + 1 : position + 1] == [verdict] * length
        before = verdict


def test_probe_settings_have_the_defaults_of_the_api():
    assert ProbeSettings.from_probe({}) == ProbeSettings(0, 10, 1, 1, 3)
    given_values = {"initialDelaySeconds": 2, "periodSeconds": 3, "timeoutSeconds": 4, "failureThreshold": 5}
    assert ProbeSettings.from_probe(given_values) == ProbeSettings(2, 3, 4, 1, 5)


def test_addresses_are_unique_and_not_reused_at_once():
    pool = AddressPool(ipaddress.IPv4Network("127.64.0.0/29"), taken=["127.64.0.2"])
    first = pool.take()
    pool.release(first)
    others = [pool.take() for _ in range(4)]
    assert first not in others
    assert "127.64.0.2" not in others
    assert len(set(others)) == 4
    assert pool.take() == first
    with pytest.raises(LookupError):
        pool.take()


def test_node_networks_lie_in_the_pod_network_and_follow_the_folder(tmp_path):
    networks = {get_node_network(tmp_path / str(number)) for number in range(20)}
    assert all(network.subnet_of(POD_NETWORK) and network.prefixlen == 20 for network in networks)
    assert len(networks) > 10
    assert get_node_network(tmp_path) == get_node_network(Path(tmp_path / "x" / ".."))


def test_resident_sums_count_descendants_only():
    def facts(parent, resident):
        return ProcessFacts(parent=parent, state="S", started="1", resident=resident)

    processes = {
        1: facts(0, 1000),
        10: facts(1, 10),
        11: facts(10, 20),
        12: facts(11, 30),
        20: facts(1, 5),
        30: facts(99, 7),
    }
    assert get_resident_sums(processes, {10, 20, 77}) == {10: 60, 20: 5, 77: 0}


def test_tokens_are_replaced_at_four_fifths_of_their_life():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert get_refresh_delay(now, now + timedelta(seconds=3600)) == 2880
    assert get_refresh_delay(now, now) == 1


def test_the_first_matching_image_counts():
    table = ImageTable((parse_image("import-worker:*=python -m 'import worker'"), parse_image("*:1=other")))
    assert table.find("import-worker:1") == ("python", "-m", "import worker")
    assert table.find("x:1") == ("other",)
    assert table.find("x:2") is None


@pytest.mark.parametrize("text", ["", "image", "image=", "=command"])
def test_a_wrong_image_option_is_named(text):
    with pytest.raises(KubeletError, match="PATTERN=COMMAND"):
        parse_image(text)


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a": [1]}', '{"a": ""}', "no json"])
def test_a_wrong_image_table_is_named(tmp_path, text):
    path = tmp_path / "images.json"
    path.write_text(text)
    with pytest.raises(KubeletError, match=r"images\.json"):
        read_images(path)


def test_an_image_table_takes_text_and_lists(tmp_path):
    path = tmp_path / "images.json"
    path.write_text('{"a:*": "sleep 1", "b": ["sleep", "2 3"]}')
    assert read_images(path) == (("a:*", ("sleep", "1")), ("b", ("sleep", "2 3")))
