"""What `kubectl imports doctor` makes of what it sees: pure judgements, each failing one with a fix."""

from import_core.domain.doctor.findings import Finding, Verdict, worst

__all__ = ["Finding", "Verdict", "worst"]
