"""Idle connections to the sample providers are their clients' to close."""

import httpx2

from import_local.samples.app import create_app, server_config


def test_the_server_keeps_idle_connections_for_longer_than_its_clients() -> None:
    """Else one is closed now and then just as it is used again, and a call is lost that nobody answered badly."""
    expiry = httpx2.Limits().keepalive_expiry
    assert expiry is not None
    assert server_config(create_app()).timeout_keep_alive >= 2 * expiry
