"""What is imported in a month, and how much work of a worker one job is: the assumptions, each with its basis."""

from __future__ import annotations

from dataclasses import dataclass, fields

from infra.cost.units import SECONDS_PER_HOUR, CostError

THUMBNAILS = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """One month. Each field's comment says whether it was measured (docs/reference/performance.md) or assumed."""

    # Assumed. 1,000 merchants and 100,000 jobs are 100 imports a merchant and month: nearly all are repeats.
    jobs: float = 100_000
    products_per_job: float = 100
    images_per_product: float = 3
    # Assumed: the share of a job's images that are new or changed. The rest cost one conditional request each.
    changed_share: float = 0.1
    # Assumed: bytes of an image, and of its two thumbnails together.
    image_bytes: float = 300_000
    thumbnail_bytes: float = 40_000
    # Measured on 2 cores, which a worker has (`bench images`, `bench products`).
    changed_images_per_second: float = 20
    unchanged_images_per_second: float = 484
    products_per_second: float = 1_730
    # Assumed: seconds in which a job waits for its provider (answers, call limits) and needs no CPU. Two calls
    # to Shopify are a second; 100 calls to Roastify, at its limit, are a minute.
    waiting_seconds: float = 20
    concurrency: float = 5
    # Assumed: the share of its time in which a worker that runs has its full number of jobs. The fleet follows
    # the backlog within a second, and stays up to 300 s longer (the scale-in cooldown).
    utilisation: float = 0.5
    # Overrides what is worked out of the above. Seconds of a whole worker for a job, before utilisation.
    worker_seconds_per_job: float | None = None
    # Assumed: what all catalogues hold at the start of the month, and log and database traffic.
    stored_gigabytes: float = 500
    log_bytes_per_job: float = 5_000
    log_gigabytes_base: float = 30
    zone_crossing_bytes_per_job: float = 1_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value >= 0:
                raise CostError(f"{field.name} is {value}; it must be 0 or more")
        for name in ("changed_images_per_second", "unchanged_images_per_second", "products_per_second"):
            self._more_than_zero(name)
        self._more_than_zero("concurrency")
        self._more_than_zero("utilisation")
        for name in ("changed_share", "utilisation"):
            if getattr(self, name) > 1:
                raise CostError(f"{name} is {getattr(self, name)}; it is a share, at most 1")

    def _more_than_zero(self, name: str) -> None:
        if not getattr(self, name) > 0:
            raise CostError(f"{name} must be more than 0")

    @property
    def images_per_job(self) -> float:
        """Images that a job looks at."""
        return self.products_per_job * self.images_per_product

    @property
    def changed_images_per_job(self) -> float:
        """Images that a job downloads, stores and makes thumbnails of."""
        return self.images_per_job * self.changed_share

    @property
    def busy_seconds_per_job(self) -> float:
        """Seconds of a whole worker for one job: its CPU work, or its place while it waits, whichever is more."""
        if self.worker_seconds_per_job is not None:
            return self.worker_seconds_per_job
        unchanged = self.images_per_job - self.changed_images_per_job
        working = (
            self.changed_images_per_job / self.changed_images_per_second
            + unchanged / self.unchanged_images_per_second
            + self.products_per_job / self.products_per_second
        )
        return max(working, self.waiting_seconds / self.concurrency)

    @property
    def worker_hours(self) -> float:
        """Hours of workers that all jobs of the month need."""
        return self.jobs * self.busy_seconds_per_job / self.utilisation / SECONDS_PER_HOUR

    @property
    def downloaded_bytes_per_job(self) -> float:
        """Bytes that come from the internet for a job: changed images, and some for each answer without one."""
        answers = self.images_per_job + self.products_per_job
        return self.changed_images_per_job * self.image_bytes + answers * 2_000

    @property
    def stored_bytes_per_job(self) -> float:
        """Bytes that a job adds to the bucket."""
        return self.changed_images_per_job * (self.image_bytes + self.thumbnail_bytes)

    @property
    def puts_per_job(self) -> float:
        """Objects that a job writes: each image and its thumbnails."""
        return self.changed_images_per_job * (1 + THUMBNAILS)
