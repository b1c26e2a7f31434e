"""`kubectl imports review`: what waits for a person, and what a person's word does."""

import json

from cli_world import CliWorld

from import_core.adapters.postgres.quality import QualityStore
from import_core.domain.quality import DecidedBy, Verdict


async def test_flagged_products_are_listed_and_decided(cli: CliWorld) -> None:
    assert (await cli.invoke("review", "list")).stdout == "No product waits for a person\n"
    await cli.flagged("mug", "PriceMissing", "TitleTooShort")
    await cli.flagged("lamp", company="other")
    await cli.flagged("fine", verdict=Verdict.APPROVED)
    await cli.sql("""UPDATE imports.quality_decision SET flagged_at = flagged_at - interval '50 hours'
        WHERE product_id = 'lamp'""")
    listed = (await cli.invoke("review", "list")).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["PRODUCT", "lamp", "mug"]
    assert "The mug" in listed[2]
    assert "PriceMissing, TitleTooShort" in listed[2]
    assert listed[1].endswith("2 d")
    some = json.loads((await cli.invoke("review", "list", "--company", "acme", "-o", "json")).stdout)
    assert [each["productId"] for each in some["products"]] == ["mug"]
    assert some["more"] is False
    by_reason = await cli.invoke("review", "list", "--reason", "TitleTooShort", "-o", "json")
    assert [each["productId"] for each in json.loads(by_reason.stdout)["products"]] == ["mug"]
    first = await cli.invoke("review", "list", "--limit", "1")
    assert first.stdout.splitlines()[-1] == "… and more: --limit 10"

    approved = await cli.invoke("review", "approve", "mug", "--note", "free of charge")
    assert approved.exit_code == 0
    assert approved.stdout.splitlines()[-1] == "Approved 1 product"
    shown = (await cli.invoke("review", "show", "mug")).stdout
    assert "approved by" in shown
    assert "note: free of charge" in shown
    document = json.loads((await cli.invoke("review", "show", "mug", "-o", "json")).stdout)
    assert (document["decision"], document["decidedBy"], document["flaggedAt"]) == (
        "approved",
        "person",
        None,
    )
    again = await cli.invoke("review", "approve", "mug", "-o", "json")
    assert json.loads(again.stdout) == {
        "dryRun": False,
        "decision": "approved",
        "chosen": 1,
        "changed": [],
        "unchanged": 1,
    }
    # A person may change their mind, also on what nobody flagged.
    for name in ("mug", "fine"):
        rejected = await cli.invoke("review", "reject", name, "-o", "json")
        assert json.loads(rejected.stdout)["changed"] == [name]


async def test_a_filter_decides_on_many_once_it_is_confirmed(cli: CliWorld) -> None:
    for number in range(3):
        await cli.flagged(f"acme-{number}", "PoorImage")
    await cli.flagged("acme-other", "Spam")
    await cli.flagged("theirs", "PoorImage", company="theirs")
    chosen = ("review", "reject", "--company", "acme", "--reason", "PoorImage")
    dry = await cli.invoke(*chosen, "--dry-run")
    assert dry.stdout.splitlines()[0] == "Would reject 3 products of company acme"
    unconfirmed = await cli.invoke(*chosen)
    assert (unconfirmed.exit_code, unconfirmed.stderr) == (
        2,
        "--dry-run shows them, --yes decides on them all\n",
    )
    store = QualityStore(cli.database)
    assert all(item.verdict is Verdict.FLAGGED for item in await store.find([f"acme-{n}" for n in range(3)]))
    done = json.loads((await cli.invoke(*chosen, "--yes", "-o", "json")).stdout)
    assert sorted(done["changed"]) == ["acme-0", "acme-1", "acme-2"]
    rest = json.loads((await cli.invoke("review", "approve", "--all", "--yes", "-o", "json")).stdout)
    assert sorted(rest["changed"]) == ["acme-other", "theirs"]
    found = {item.product_id: item for item in await store.find(["acme-1", "theirs"])}
    assert found["acme-1"].verdict is Verdict.REJECTED
    assert found["theirs"].decided_by is DecidedBy.PERSON


async def test_what_cannot_be_meant_is_refused(cli: CliWorld) -> None:
    await cli.flagged("mug")
    nobody = await cli.invoke("review", "approve")
    both = await cli.invoke("review", "approve", "mug", "--all")
    unknown = await cli.invoke("review", "reject", "mug", "nothing")
    shown = await cli.invoke("review", "show", "nothing")
    for result in (nobody, both, unknown, shown):
        assert result.exit_code == 2, result.output
    assert "Nothing was decided on nothing" in unknown.stderr
    assert (await QualityStore(cli.database).find(["mug"]))[0].verdict is Verdict.FLAGGED
