"""What the dashboards show, one file each."""

from import_dashboards.boards.job_performance import JOB_PERFORMANCE
from import_dashboards.boards.operator_loops import OPERATOR
from import_dashboards.boards.provider_api import PROVIDER_API
from import_dashboards.boards.queue_health import QUEUE_HEALTH
from import_dashboards.boards.worker_scaling import WORKER_SCALING

BOARDS = (QUEUE_HEALTH, JOB_PERFORMANCE, PROVIDER_API, WORKER_SCALING, OPERATOR)

__all__ = ["BOARDS"]
