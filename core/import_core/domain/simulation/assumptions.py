"""What a simulation takes for granted: how fast workers copy and start, what they cost, what is promised."""

from __future__ import annotations

from dataclasses import dataclass

from import_core.domain.simulation.trace import Arrival


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Times in seconds. They are the same for all policies, so that only decisions differ."""

    concurrency: int = 5
    """Jobs that a worker runs at the same time."""
    seconds_per_job: float = 2.0
    seconds_per_product: float = 0.005
    seconds_per_image: float = 0.25
    """So long a worker works at one job, its product, its image while it runs `concurrency` jobs: 20 images a second
    on two cores were measured (docs/reference/performance.md)."""
    products_per_page: int = 50
    """A page is a checkpoint: an interrupted job does half a page again, on average."""
    pod_start: float = 12.0
    """From a free place on a node to a ready worker."""
    node_start: float = 50.0
    """From a pod that finds no place to a ready node."""
    workers_per_node: int = 4
    node_keep: float = 60.0
    """An unused place on a node goes after so long."""
    pickup_seconds: float = 0.0
    """From a place that is free to the claim of the job that waits for it."""
    grace: float = 30.0
    """A stopped worker goes on so long, then hands its jobs back with their checkpoints."""
    limit_patience: float = 30.0
    """A job whose provider would keep it waiting longer is not started before."""
    price: float = 0.10
    """Of a worker's hour, from its pod's creation on: about 2 vCPU and 4 GiB on demand."""
    slo_seconds: float = 300.0
    """Jobs under `slo_products` are to be done so soon after they came."""
    slo_products: int = 100

    def work_seconds(self, arrival: Arrival) -> float:
        """How long a worker's place is busy with the job, waiting for the provider left out."""
        if arrival.seconds is not None:
            return arrival.seconds
        return (
            self.seconds_per_job
            + self.seconds_per_product * arrival.products
            + self.seconds_per_image * arrival.images
        )

    def page_seconds(self, arrival: Arrival) -> float:
        """How long a page of the job takes."""
        pages = max(1.0, arrival.products / self.products_per_page)
        return self.work_seconds(arrival) / pages
