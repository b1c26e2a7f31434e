"""Settings become rules; what can't be meant is refused with the variable's name."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from import_core.domain.quality import DEFAULT_REJECTING, Finding, QualityRules
from import_worker.steps.quality_settings import QualitySettings


def test_without_settings_the_rules_are_the_documented_ones() -> None:
    settings = QualitySettings()
    assert settings.quality_rules() == QualityRules()
    assert settings.gemini_api_key is None


def test_settings_become_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "QUALITY_MIN_PRICE": "1",
        "QUALITY_MAX_PRICES": "IDR=2000000000, JPY=150000000",
        "QUALITY_BANNED_WORDS": "snake oil, bomb\ncialis\n",
        "QUALITY_REJECT": "PriceMissing,BannedWord",
        "QUALITY_APPROVE_ALONE": "true",
        "GEMINI_API_KEY": "secret-key",
    }.items():
        monkeypatch.setenv(name, value)
    settings = QualitySettings()
    rules = settings.quality_rules()
    assert rules.minimum_price == 1
    assert rules.maximum_prices == {"IDR": Decimal(2_000_000_000), "JPY": Decimal(150_000_000)}
    assert rules.banned.words == ("snake oil", "bomb", "cialis")
    assert rules.rejecting == {Finding.PRICE_MISSING, Finding.BANNED_WORD}
    assert rules.approves_alone
    assert "secret-key" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("QUALITY_MAX_PRICES", "EUR", "EUR=100000"),
        ("QUALITY_MAX_PRICES", "eur=1", "EUR=100000"),
        ("QUALITY_MAX_PRICES", "EUR=NaN", "EUR=100000"),
        ("QUALITY_MAX_PRICES", "EUR=-1", "EUR=100000"),
        ("QUALITY_BANNED_WORDS", "a,…", "no letter"),
        ("QUALITY_REJECT", "PriceMising", "there are BannedWord"),
        ("GEMINI_MODEL", "a model", "match pattern"),
        ("GEMINI_BASE_URL", "ftp://x", "match pattern"),
        ("GEMINI_CALLS_PER_MINUTE", "0", "greater than or equal"),
    ],
)
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as raised:
        QualitySettings()
    (problem,) = raised.value.errors()
    assert problem["loc"] == (name,)
    assert told in problem["msg"]


def test_the_default_of_what_rejects_is_the_rules_own() -> None:
    assert set(QualitySettings().quality_reject.split(",")) == {
        finding.value for finding in DEFAULT_REJECTING
    }
