"""The parent of one container process: keeps its logs and its exit status while the kubelet may come and go.

Run as `python -I -S shim.py DIRECTORY LOG_BYTES WORKING_DIRECTORY -- COMMAND…` in a session of its own.
It imports only built-in modules, because one runs for every container. The files that it leaves in
DIRECTORY, each written whole or not at all:

- `shim`: "pid start-time" of this process. It is linked, never overwritten: when it exists already,
  the kubelet has given the attempt up, and nothing is started.
- `child`: "pid start-time" of the container's main process, once it executes the command.
- `log`, `log.1`: lines "2026-01-02T03:04:05.123456789Z stdout F text" (the format of the CRI), P for a
  part of a longer line. `log` becomes `log.1` once it has LOG_BYTES / 2 bytes.
- `exit`: "exit-code finished-at-nanoseconds message". A container that could not be executed has the
  code 128 and a message.

When the main process has ended, every process it left behind is killed, as the end of a container does.
"""

import ctypes
import os
import select
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LONGEST_LINE = 16384
READ_SIZE = 65536
START_ERROR_CODE = 128
DEFAULT_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Ignored:
    """What contextlib.suppress does, without the memory that importing contextlib takes in each shim."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self.kind)


def start_time(pid: int) -> str:
    """Return the start time of a process in clock ticks since boot, as /proc/PID/stat has it."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib would double the start-up time
        return file.read().rpartition(b")")[2].split()[19].decode()


def write_file(path: str, text: str) -> None:
    """Write a file so that it appears whole or not at all."""
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)
    os.replace(temporary, path)  # noqa: PTH105


def claim(directory: str) -> bool:
    """Record this process as the attempt's only parent; False when the attempt was given up."""
    own = f"{directory}/shim.{os.getpid()}"
    with open(own, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{os.getpid()} {start_time(os.getpid())}")
    try:
        os.link(own, f"{directory}/shim")
    except FileExistsError:
        return False
    finally:
        os.unlink(own)  # noqa: PTH108
    return True


class Log:
    """Lines with the time of their arrival, in two files of bounded size."""

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.half = limit // 2
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.file).st_size
        self.second = -1
        self.prefix = b""
        self.rest = {b"stdout": b"", b"stderr": b""}

    def add(self, stream: bytes, data: bytes) -> None:
        """Append what arrived on a stream; an unfinished line waits for its end or its 16 KiB."""
        stamp = self._stamp() + stream
        lines = (self.rest[stream] + data).split(b"\n")
        rest = lines.pop()
        out = []
        for line in lines:
            head = line
            while len(head) > LONGEST_LINE:
                out.append(stamp + b" P " + head[:LONGEST_LINE] + b"\n")
                head = head[LONGEST_LINE:]
            out.append(stamp + b" F " + head + b"\n")
        while len(rest) > LONGEST_LINE:
            out.append(stamp + b" P " + rest[:LONGEST_LINE] + b"\n")
            rest = rest[LONGEST_LINE:]
        self.rest[stream] = rest
        self._write(b"".join(out))

    def finish(self) -> None:
        """Write the unfinished last lines."""
        for stream, rest in self.rest.items():
            if rest:
                self._write(self._stamp() + stream + b" F " + rest + b"\n")
                self.rest[stream] = b""

    def _stamp(self) -> bytes:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self.second:
            self.second = second
            self.prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
        return self.prefix + b"%09dZ " % nanoseconds

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self.size and self.size + len(data) > self.half:
            os.close(self.file)
            os.replace(self.path, self.path + ".1")  # noqa: PTH105
            self.file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self.size = 0
        # A full disk loses log lines; it must not end the container.
        with Ignored(OSError):
            self.size += os.write(self.file, data)


def run_child(command: list[str], directory: str, streams: dict[str, int], error: int) -> None:
    """Become the container's main process; what hinders it is written to the `error` descriptor."""
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(streams["stdout"], 1)
        os.dup2(streams["stderr"], 2)
        os.chdir(directory)
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - running commands is its purpose
    except OSError as problem:
        os.write(error, f"{command[0]}: {problem.strerror}".encode())
    finally:
        os._exit(START_ERROR_CODE)


def kill_left_behind() -> None:
    """Kill all descendants; orphans among them have become children of this process."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            continue
        own = str(os.getpid()).encode()
        for entry in os.listdir("/proc"):  # noqa: PTH208
            if entry.isdigit():
                with Ignored(OSError), open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                    if file.read().rpartition(b")")[2].split()[1] == own:
                        os.kill(int(entry), signal.SIGKILL)
        with Ignored(ChildProcessError):
            os.waitpid(-1, 0)


def copy_output(readers: dict[int, bytes], log: Log, child: int) -> int:
    """Copy the streams into the log until the main process has ended; return its wait status."""
    pidfd = os.pidfd_open(child)
    poll = select.poll()
    for descriptor in (*readers, pidfd):
        poll.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == pidfd:
                os.close(pidfd)
                return os.waitpid(child, 0)[1]
            data = os.read(descriptor, READ_SIZE)
            if data:
                log.add(readers[descriptor], data)
            else:
                poll.unregister(descriptor)


def drain(readers: dict[int, bytes], log: Log) -> None:
    """Read what the ended processes have left in the pipes."""
    for descriptor, stream in readers.items():
        os.set_blocking(descriptor, False)
        with Ignored(BlockingIOError):
            while data := os.read(descriptor, READ_SIZE):
                log.add(stream, data)
    log.finish()


def main(directory: str, log_bytes: int, working_directory: str, command: list[str]) -> None:
    """Run one container process from its start to its exit file."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    if not claim(directory):
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    stdout_read, stdout_write = os.pipe()
    stderr_read, stderr_write = os.pipe()
    error_read, error_write = os.pipe()
    child = os.fork()
    if child == 0:
        run_child(command, working_directory, {"stdout": stdout_write, "stderr": stderr_write}, error_write)
    for descriptor in (stdout_write, stderr_write, error_write):
        os.close(descriptor)
    # Its end says that the command has replaced the forked process, or could not.
    problem = os.read(error_read, 4096).decode(errors="replace")
    os.close(error_read)
    if not problem:
        write_file(f"{directory}/child", f"{child} {start_time(child)}")
    log = Log(f"{directory}/log", log_bytes)
    readers = {stdout_read: b"stdout", stderr_read: b"stderr"}
    code = os.waitstatus_to_exitcode(copy_output(readers, log, child))
    finished = time.time_ns()
    kill_left_behind()
    drain(readers, log)
    write_file(f"{directory}/exit", f"{code if code >= 0 else 128 - code} {finished} {problem}")


if __name__ == "__main__":
    separator = sys.argv.index("--")
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[separator + 1 :])
