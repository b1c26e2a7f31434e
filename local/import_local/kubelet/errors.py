"""The exceptions of the process kubelet."""


class KubeletError(Exception):
    """The process kubelet cannot go on; the text says why and what to do."""


class ApiError(KubeletError):
    """The API server answered a request with an error status."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


class ApiUnavailableError(KubeletError):
    """The API server could not be reached, or did not answer in time."""


class ContainerStartError(KubeletError):
    """A container cannot start yet; `reason` is shown as the reason of its waiting state.

    `wait_for` names the object (kind, namespace, name, last seen resourceVersion) whose change may
    cure it, so that the start is tried again as soon as the object changes.
    """

    def __init__(self, reason: str, message: str, wait_for: tuple[str, str, str, str | None] | None = None):
        super().__init__(message)
        self.reason = reason
        self.wait_for = wait_for
