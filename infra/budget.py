"""The month's cost above which somebody is told, before the bill does it."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component, Context
from infra.configuration import PROJECT, BudgetSection


@dataclass(frozen=True, kw_only=True)
class BudgetArgs:
    """What the budget depends on."""

    settings: BudgetSection
    topic_arn: pulumi.Input[str]


class Budget(Component):
    """A monthly budget for everything that carries the installation's tags.

    AWS counts by a tag only after it was activated once in the account, as a cost allocation tag; until then the
    budget sees nothing and stays silent.
    """

    budget_name: pulumi.Output[str]
    """Name of the budget."""

    def __init__(
        self, context: Context, args: BudgetArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(context, "budget", opts)
        settings = args.settings
        budget = aws.budgets.Budget(
            self.child_name(),
            name=self.child_name(),
            budget_type="COST",
            limit_amount=str(settings.monthly_usd),
            limit_unit="USD",
            time_unit="MONTHLY",
            filter_expression=aws.budgets.BudgetFilterExpressionArgs(
                ands=[
                    aws.budgets.BudgetFilterExpressionAndArgs(
                        tags=aws.budgets.BudgetFilterExpressionAndTagsArgs(key=key, values=[value])
                    )
                    for key, value in (("Project", PROJECT), ("Environment", context.environment))
                ]
            ),
            notifications=[
                aws.budgets.BudgetNotificationArgs(
                    comparison_operator="GREATER_THAN",
                    threshold=percent,
                    threshold_type="PERCENTAGE",
                    notification_type=kind,
                    subscriber_sns_topic_arns=[args.topic_arn],
                    subscriber_email_addresses=list(settings.emails) or None,
                )
                for kind, percent in (
                    ("ACTUAL", settings.actual_percent),
                    ("FORECASTED", settings.forecast_percent),
                )
            ],
            tags=self.tags(),
            opts=self.child(),
        )
        self.budget_name = budget.name
        self.register_outputs({"name": budget.name})
