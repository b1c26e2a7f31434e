"""`kubectl imports webhooks` against a real database."""

import json

from cli_world import CliWorld

from import_core.adapters.postgres.notifications_outbox import NotificationOutbox
from import_core.adapters.postgres.webhooks import WebhookStore
from import_core.domain.notifications import Attempt, Endpoint
from import_worker.webhook_sender import decide


async def test_a_webhook_is_listed_tested_and_enabled_again(cli: CliWorld) -> None:
    empty = await cli.invoke("webhooks", "list")
    assert empty.stdout == f"No ImportProvider in namespace {cli.namespace} names a webhook\n"
    unknown = await cli.invoke("webhooks", "test", "shop")
    assert unknown.exit_code == 2
    store = WebhookStore(cli.database, namespace=cli.namespace)
    outbox = NotificationOutbox(cli.database, namespace=cli.namespace)
    await store.put(
        Endpoint("shop", "u", "acme", "https://acme.example/hook?key=hush", "hooks", ["import.failed"])
    )
    dry = await cli.invoke("webhooks", "test", "shop", "--dry-run")
    assert dry.stdout == ("Would send a message of the type webhook.test to https://acme.example/hook\n")
    assert await outbox.take(9, each=9) == []
    sent = json.loads((await cli.invoke("webhooks", "test", "shop", "-o", "json")).stdout)
    [message] = await outbox.take(9, each=9)
    assert (message.message_id, message.event) == (sent["id"], "webhook.test")
    gone = Attempt(410)
    await outbox.failed(message, gone, lambda known: decide(gone, known))
    listed = await cli.invoke("webhooks", "list")
    assert "hush" not in listed.stdout
    assert [word in listed.stdout for word in ("shop", "Gone", "answered 410", "never")] == [True] * 4
    told = json.loads((await cli.invoke("webhooks", "deliveries", "shop", "-o", "json")).stdout)
    assert [(each["state"], each["attempts"], each["status"]) for each in told["deliveries"]] == [
        ("Abandoned", 1, 410)
    ]
    refused = await cli.invoke("webhooks", "test", "shop")
    assert (refused.exit_code, "webhooks enable shop" in refused.stderr) == (2, True)
    would = await cli.invoke("webhooks", "enable", "shop", "--dry-run")
    assert would.stdout.endswith("Would tell https://acme.example/hook again, of what happens from now on\n")
    assert (await store.read())[0].state == "Disabled"
    enabled = await cli.invoke("webhooks", "enable", "shop")
    assert enabled.exit_code == 0, enabled.output
    assert (await store.read())[0].state == "Active"
    again = await cli.invoke("webhooks", "enable", "shop")
    assert again.stdout == "The webhook of shop is active: nothing to do\n"
