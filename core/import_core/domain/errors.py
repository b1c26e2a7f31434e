"""The project's one hierarchy of exceptions; a class's docstring is its message unless one is given."""

from __future__ import annotations

from collections.abc import Mapping


class ImportOperatorError(Exception):
    """The import operator failed."""

    def __init__(self, message: str | None = None) -> None:
        doc = type(self).__doc__ or ""
        self.message = message or doc.strip().splitlines()[0]
        super().__init__(self.message)


class InvalidInputError(ImportOperatorError):
    """A field has a value that is not allowed."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class InvalidResourceError(InvalidInputError):
    """A custom resource has a field with a value that is not allowed."""


class MappingError(InvalidInputError):
    """A provider's product does not fit the field mapping."""

    def within(self, path: str) -> MappingError:
        """The same problem, its field named from the object at `path` on."""
        return MappingError(f"{path}.{self.field}", self.reason)


class JobError(ImportOperatorError):
    """A job's try ended without success."""

    reason = "Error"
    """Short CamelCase word for conditions, metrics and the item errors."""


class RetryableError(JobError):
    """The try failed for a passing reason; the job runs again later."""

    reason = "Retryable"


class PermanentError(JobError):
    """The job can't succeed however often it is tried."""

    reason = "Permanent"


class ProviderUnavailableError(RetryableError):
    """The provider does not answer, or answers with a server error."""

    reason = "ProviderUnavailable"

    def __init__(self, message: str | None = None, *, failures_before: int = 0) -> None:
        self.failures_before = failures_before
        """Calls of the connection, by whomever, that had failed in a row before this one."""
        super().__init__(message)


class ProviderThrottledError(RetryableError):
    """The provider asks us to slow down."""

    reason = "ProviderThrottled"

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        """Seconds the provider asked for, if it did."""
        super().__init__(message)


class DependencyUnavailableError(RetryableError):
    """Something that the platform itself provides does not answer; no job's fault."""

    reason = "DependencyUnavailable"


class StorageUnavailableError(DependencyUnavailableError):
    """The object store does not answer."""

    reason = "StorageUnavailable"


class DatabaseUnavailableError(DependencyUnavailableError):
    """The database does not answer."""

    reason = "DatabaseUnavailable"


class QueueUnavailableError(DependencyUnavailableError):
    """Redis does not answer."""

    reason = "QueueUnavailable"


class SearchUnavailableError(DependencyUnavailableError):
    """The search index does not answer."""

    reason = "SearchUnavailable"


class StepNotUsableError(DependencyUnavailableError):
    """What a step after the import works with can't be used as it is set up; no product's fault."""

    reason = "StepNotUsable"


class KubernetesUnavailableError(DependencyUnavailableError):
    """The Kubernetes API server does not answer."""

    reason = "KubernetesUnavailable"


class ObjectNotFoundError(ImportOperatorError):
    """The Kubernetes object does not exist."""


class ObjectConflictError(ImportOperatorError):
    """The Kubernetes object exists already, or has changed meanwhile."""


class ObjectForbiddenError(DependencyUnavailableError):
    """The Kubernetes API server refuses the request to this user."""

    reason = "KubernetesForbidden"


class LeaseUncertainError(ImportOperatorError):
    """This replica's Lease was not renewed lately: another one may lead by now."""


class ObjectRefusedError(ImportOperatorError):
    """The Kubernetes API server refuses the object as invalid."""


class IntakeRefusedError(ImportOperatorError):
    """There is no room for new imports at the moment."""

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        """Seconds after which there may be room, where that was estimated."""
        super().__init__(message)


class CredentialsError(PermanentError):
    """The provider refused the credentials."""

    reason = "InvalidCredentials"


class ProviderRejectedError(PermanentError):
    """The provider refused the request."""

    reason = "ProviderRejected"


class ModelNotUsableError(PermanentError):
    """The model that is set up does not exist, or may not be used here."""

    reason = "ModelNotUsable"


class BrowserMissingError(PermanentError):
    """This worker has no browser to read pages with."""

    reason = "BrowserMissing"


class ProviderNotFoundError(PermanentError):
    """The job's ImportProvider does not exist."""

    reason = "ProviderNotFound"


class StorageRefusedError(PermanentError):
    """The object store refused the credentials or has no such bucket."""

    reason = "StorageRefused"


class ProductsRefusedError(PermanentError):
    """The search index refuses products as they are."""

    reason = "SearchRefused"

    def __init__(self, refused: Mapping[str, str]) -> None:
        self.refused = dict(refused)
        """Why, by product; those that are not named were taken."""
        super().__init__(f"The search index refuses {len(self.refused)} products")


class CompanyMismatchError(PermanentError):
    """The job's company is not its provider's."""

    reason = "CompanyMismatch"


class InvalidMappingError(PermanentError):
    """The job's field mapping can't be used."""

    reason = "InvalidMapping"


class EveryProductFailedError(PermanentError):
    """Not one product of the catalogue could be imported."""

    reason = "EveryProductFailed"


class RemovalsNotConfirmedError(PermanentError):
    """Too many products are gone from the source to archive them without a person's word."""

    reason = "RemovalsNotConfirmed"


class CatalogueIncompleteError(PermanentError):
    """The job's failed items were imported again, but it had ended before it reached the rest of the catalogue."""

    reason = "CatalogueIncomplete"


class CatalogueTooLargeError(PermanentError):
    """The catalogue has more products than a job may import."""

    reason = "CatalogueTooLarge"


class DeadlineExceededError(PermanentError):
    """The job ran longer than its activeDeadlineSeconds, or than JOB_TIMEOUT where it has none."""

    reason = "DeadlineExceeded"


class ClaimLostError(ImportOperatorError):
    """The claim on this job has ended; nothing may be written for it any more."""


class HandBackError(ImportOperatorError):
    """The job goes back to the queue without a try being used up."""

    reason = "HandBack"

    def __init__(
        self, message: str | None = None, *, retry_after: float = 0.0, waiting_reason: str | None = None
    ):
        self.retry_after = retry_after
        """Seconds until the job is due again."""
        self.waiting_reason = waiting_reason
        super().__init__(message)


class BreakerOpenError(HandBackError):
    """The provider failed too often lately: its circuit breaker lets no call through."""

    reason = "BreakerOpen"


class ItemError(ImportOperatorError):
    """One product or image could not be imported."""

    def __init__(self, stage: str, reason: str, message: str) -> None:
        self.stage = stage
        self.reason = reason
        super().__init__(message)


class SchemaMismatchError(ImportOperatorError):
    """The platform's tables differ from what the import operator needs."""


class MissingPackageError(ImportOperatorError):
    """A package that only some installations need is not installed."""


class ModelUnusableError(InvalidInputError):
    """The embedding model's folder can't be used."""


class VectorIndexUnavailableError(DependencyUnavailableError):
    """The vector index does not answer, or is not set up."""

    reason = "VectorIndexUnavailable"


class EmbeddingFailedError(RetryableError):
    """The embedding model could not compute a batch."""

    reason = "EmbeddingFailed"


class ObjectTooLargeError(ImportOperatorError):
    """The object in the store has more bytes than are taken."""
