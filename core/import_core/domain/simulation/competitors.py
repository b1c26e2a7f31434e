"""Other autoscalers by their documentation, at their best where it leaves room; each names the page it follows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from import_core.domain.simulation.fleet import ScaleIn
from import_core.domain.simulation.policies import View


@dataclass(frozen=True, slots=True)
class Bounds:
    """Workers there may be, and jobs that each is to have."""

    minimum: int
    maximum: int
    target: float

    def within(self, number: int) -> int:
        """The nearest allowed number."""
        return min(max(number, self.minimum), self.maximum)


@dataclass
class HorizontalPodAutoscaler:
    """The HPA on an external metric with an AverageValue, at its default behaviour.

    https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ says: a sync each 15 s; nothing
    happens within a tolerance of 10 %; up by the larger of 4 pods and 100 % in any 15 s, at once; down to
    the highest recommendation of the last 300 s. The metric is taken as always fresh, which is kind: adapters
    scrape every 15 to 60 s.

    `waiting_only`: as KEDA's Redis list scaler measures (https://keda.sh/docs/latest/scalers/redis-lists/):
    the length of the waiting list, 5 for each pod as in its example, without the jobs that run. KEDA hands scaling
    between 1 and n to the HPA (https://keda.sh/docs/latest/concepts/scaling-deployments/), so that its own
    pollingInterval counts from 0 to 1 only; there is always a minimum here.
    `limited_steps`: False takes the scale-up policies away, as a well-tuned HPA has it.
    """

    name: str
    bounds: Bounds
    waiting_only: bool = False
    limited_steps: bool = True
    scale_in: ScaleIn = ScaleIn.NEWEST
    interval: float = 15.0
    window: float = 300.0
    tolerance: float = 0.1
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)
    _before: deque[tuple[float, int]] = field(default_factory=deque)
    """Additions of the last 15 s."""

    @property
    def start(self) -> int:
        """The minimum."""
        return self.bounds.minimum

    def look(self, view: View, now: float) -> int:
        """One sync of the controller."""
        current = view.replicas
        metric = view.queued if self.waiting_only else view.due + view.claimed
        ratio = metric / (self.bounds.target * current)
        wanted = current if abs(ratio - 1) <= self.tolerance else -int(-metric // self.bounds.target)
        while self._recommended and now - self._recommended[0][0] >= self.window:
            self._recommended.popleft()
        self._recommended.append((now, wanted))
        if wanted < current:
            wanted = min(current, max(number for _, number in self._recommended))
        wanted = self.bounds.within(wanted)
        if wanted > current and self.limited_steps:
            wanted = min(wanted, self._step_limit(current, now))
        if wanted > current:
            self._before.append((now, wanted - current))
        return wanted

    def _step_limit(self, current: int, now: float) -> int:
        while self._before and now - self._before[0][0] >= self.interval:
            self._before.popleft()
        at_start = current - sum(added for _, added in self._before)
        return max(at_start + 4, at_start * 2)


@dataclass
class TargetTracking:
    """ECS service auto scaling by target tracking on a custom metric, jobs for each task, sent once a minute.

    https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
    says: out in proportion to the metric, as fast as it can; in only well below the target, usually 10 %; a
    larger need passes the scale-out cooldown. That the alarms which it makes want 3 data points of a minute above
    the target, and 15 below 90 % of it, is not on AWS's pages: it is what people see in their AlarmHigh and
    AlarmLow (https://fortem.dev/blog/ecs-fargate-autoscaling/). How much it takes away at once is not documented;
    here it goes to the target in one step, which costs least. Which task is stopped is not documented
    either, apart from the balance between zones: the newest, as for the others. A task gets 30 s from SIGTERM
    to SIGKILL (stopTimeout).
    """

    name: str
    bounds: Bounds
    out_cooldown: float = 60.0
    in_cooldown: float = 300.0
    scale_in: ScaleIn = ScaleIn.NEWEST
    interval: float = 60.0
    out_points: int = 3
    in_points: int = 15
    _points: deque[float] = field(default_factory=lambda: deque(maxlen=15))
    _scaled_out: tuple[float, int] | None = None
    _scaled_in_at: float | None = None

    @property
    def start(self) -> int:
        """The minimum."""
        return self.bounds.minimum

    def look(self, view: View, now: float) -> int:
        """One data point, and what the alarms make of it."""
        current = view.replicas
        jobs = view.due + view.claimed
        self._points.append(jobs / current)
        points = list(self._points)
        # The first look is the start itself, before a whole minute was measured.
        high, low = points[-self.out_points :], points[-self.in_points :]
        wanted = self.bounds.within(-int(-jobs // self.bounds.target))
        if len(high) == self.out_points and min(high) > self.bounds.target and wanted > current:
            cooling = self._scaled_out is not None and now - self._scaled_out[0] < self.out_cooldown
            if cooling and self._scaled_out is not None and wanted <= self._scaled_out[1]:
                return current
            self._scaled_out = (now, wanted)
            return wanted
        if len(low) == self.in_points and max(low) < 0.9 * self.bounds.target and wanted < current:
            since = max(self._scaled_in_at or -1e9, self._scaled_out[0] if self._scaled_out else -1e9)
            if now - since < self.in_cooldown:
                return current
            self._scaled_in_at = now
            return wanted
        return current
