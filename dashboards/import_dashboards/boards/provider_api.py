"""Provider API: does a provider answer, and do we keep to its limits?"""

from import_dashboards.model import (
    ORANGE,
    RED,
    YELLOW,
    Board,
    Panel,
    Row,
    ask,
    led,
    quantile,
    quantiles,
    rare,
    rate,
)

_FAILURES = 'imports_provider_requests_total{outcome=~"server_error|timeout|unreachable"}'
_OPEN = led('imports_provider_breakers{state="Open"}')

_NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="Open breakers",
            meaning="Connections that are left alone because they fail; their jobs wait.",
            kind="number",
            width=6,
            height=4,
            thresholds=((1, ORANGE),),
            queries=(ask(rare(f"sum {_OPEN}")),),
        ),
        Panel(
            title="Errors",
            meaning="No connection, no answer in time or a server error, of all calls. Alert above 10 %.",
            kind="number",
            unit="percentunit",
            decimals=1,
            width=6,
            height=4,
            thresholds=((0.05, YELLOW), (0.1, RED)),
            queries=(ask(f"({rare(rate(_FAILURES))}) / {rate('imports_provider_requests_total')}"),),
        ),
        Panel(
            title="Refused as too many",
            meaning="Answers 429 in the last hour, although the limiter had granted the calls.",
            kind="number",
            decimals=0,
            width=6,
            height=4,
            thresholds=((1, YELLOW), (50, RED)),
            queries=(ask("sum (increase(imports_provider_throttled_total[1h]))"),),
        ),
        Panel(
            title="p95 of an answer",
            meaning="From sending a call to its whole answer.",
            kind="number",
            unit="s",
            decimals=2,
            width=6,
            height=4,
            thresholds=((2, YELLOW), (10, RED)),
            queries=(ask(quantile(0.95, "imports_provider_request_duration_seconds")),),
        ),
    ),
)

_CALLS = Row(
    title="Calls",
    panels=(
        Panel(
            title="Calls by provider",
            meaning="A second, over all connections.",
            unit="reqps",
            queries=(ask(rate("imports_provider_requests_total", "provider"), "{{provider}}"),),
        ),
        Panel(
            title="How calls end",
            meaning="Refused: 4xx but 429. Throttled: 429.",
            unit="reqps",
            kind="stack",
            queries=(ask(rate("imports_provider_requests_total", "outcome"), "{{outcome}}"),),
        ),
        Panel(
            title="Failures by provider",
            meaning="What circuit breakers count: no connection, no answer in time, a server error.",
            unit="reqps",
            queries=(ask(rate("imports_provider_failures_total", "provider"), "{{provider}}"),),
        ),
        Panel(
            title="Time of an answer",
            meaning="Over all providers.",
            unit="s",
            queries=quantiles("imports_provider_request_duration_seconds"),
        ),
        Panel(
            title="p95 of an answer by provider",
            meaning="One of them slow: its jobs take long, the others' do not.",
            unit="s",
            queries=(
                ask(quantile(0.95, "imports_provider_request_duration_seconds", "provider"), "{{provider}}"),
            ),
        ),
        Panel(
            title="Checks of connections",
            meaning="Calls that only look whether the credentials are good.",
            unit="ops",
            queries=(ask(rate("imports_provider_checks_total", "outcome"), "{{outcome}}"),),
        ),
    ),
)

_LIMITS = Row(
    title="Limits and breakers",
    panels=(
        Panel(
            title="p95 of waiting for the limit",
            meaning="Long: the limit is used to the full, ordinary while large catalogues are imported.",
            unit="s",
            queries=(ask(quantile(0.95, "imports_provider_limit_wait_seconds", "provider"), "{{provider}}"),),
        ),
        Panel(
            title="Violations",
            meaning="Answers 429. A rate that stays: spec.rateLimit is too high, or somebody shares the account.",
            unit="ops",
            queries=(ask(rate("imports_provider_throttled_total", "provider"), "{{provider}}"),),
        ),
        Panel(
            title="Given back",
            meaning="Calls whose turn was too far away, and calls that an open breaker held; their jobs come back.",
            unit="ops",
            queries=(
                ask(rate("imports_provider_limit_exceeded_total"), "limit"),
                ask(rate("imports_provider_breaker_refusals_total"), "breaker"),
            ),
        ),
        Panel(
            title="Breakers by state",
            meaning="Connections whose breaker is not closed.",
            width=12,
            queries=(
                ask(
                    rare(f"sum by (provider, state) {led('imports_provider_breakers')}"),
                    "{{provider}} {{state}}",
                ),
            ),
        ),
        Panel(
            title="Breakers opened and closed",
            meaning="Probes in between are not counted.",
            width=12,
            unit="ops",
            queries=(
                ask(
                    rare(rate("imports_provider_breaker_changes_total", "provider, change")),
                    "{{provider}} {{change}}",
                ),
            ),
        ),
    ),
)

PROVIDER_API = Board(
    name="provider-api",
    title="Imports: provider API",
    answers="Does a provider answer, and do we keep to its limits?",
    rows=(_NOW, _CALLS, _LIMITS),
)
