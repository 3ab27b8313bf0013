"""Kernels for the runner: always this very Python, silent, one core each, and where possible forked ready-made.

Most of a short notebook's time goes into importing pandas, statsmodels and the like. On Linux one process imports them
once, and each kernel is a fork of it: still a fresh process, with nothing in it but those modules. Anything that does
not look safe, and every other system, gets ordinary kernels.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import IO, Any, NoReturn

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

QUIET = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# None of these may start a thread when imported (DuckDB does), for a fork keeps only the thread that forks.
READY_MADE = ("ipykernel.kernelapp", "pandas", "scipy.stats", "statsmodels.api", "ibis", "seaborn", "matplotlib.pyplot")
LAUNCHER = (sys.executable, "-m", "ipykernel_launcher")
PATIENCE = 60  # seconds for the imports
FORKS = sys.platform == "linux" and hasattr(os, "pidfd_open")


class Nursery:
    """A process that has imported what notebooks import, and forks a kernel for each that asks."""

    def __init__(self) -> None:
        code = f"from {__name__} import serve; serve()"
        plot = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # what a kernel sets before it imports
        self._process = subprocess.Popen(  # noqa: S603 - this Python, this module
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env={**os.environ, **QUIET, **plot}, start_new_session=True,
        )  # fmt: skip
        self._lock = threading.Lock()

    def fork(self, arguments: list[str], env: dict[str, str], folder: str) -> Forked | None:
        """Ask for a kernel; None where none can be forked safely."""
        asked = json.dumps({"arguments": arguments, "env": env, "folder": folder})
        with self._lock, contextlib.suppress(OSError, ValueError):
            asked_of, answers = self._pipes()
            asked_of.write(asked + "\n")
            asked_of.flush()
            if select.select([answers], [], [], PATIENCE)[0]:
                return Forked(int(answers.readline()))
        return None

    def close(self) -> None:
        """End the process, and with it what still runs of its kernels."""
        asked_of, answers = self._pipes()
        with contextlib.suppress(OSError):
            asked_of.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:  # it is still importing
            self._process.kill()
            self._process.wait()
        answers.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if self._process.stdin is None or self._process.stdout is None:
            raise OSError
        return self._process.stdin, self._process.stdout


class Forked:
    """A kernel that is a grandchild, with the methods of a Popen that its manager uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)  # nobody is reaped before the next is asked for: it is still this one

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def poll(self) -> int | None:
        """Tell whether the kernel has ended; how it ended is known to its parent alone."""
        return 0 if select.select([self._handle], [], [], 0)[0] else None

    def wait(self) -> int:
        """Wait for the end."""
        select.select([self._handle], [], [])
        return 0

    def send_signal(self, number: int) -> None:
        """Send a signal to this process and to no other."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class _Provisioner(LocalProvisioner):
    """Launches a kernel from the nursery where there is one and it can."""

    nursery: Nursery | None = None

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        forked = None
        if self.nursery:
            forked = self.nursery.fork(
                cmd[len(LAUNCHER) :], dict(options["env"]), str(options.get("cwd") or Path.cwd())
            )
        if forked is None:
            return await super().launch_kernel(cmd, **options)
        self.process = forked  # type: ignore[assignment]
        self.pid = self.pgid = forked.pid
        return self.connection_info


def manager(running: set[Any], nursery: Nursery | None) -> type[AsyncKernelManager]:
    """Make the class that manages this run's kernels; those alive are in `running`."""

    class Kernel(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            # A kernel of that name in the user's home may belong to another Python.
            command = [*LAUNCHER, "-f", "{connection_file}"]
            return KernelSpec(argv=command, display_name="Python 3", language="python", env=QUIET)

        async def _async_start_kernel(self, **options: Any) -> None:
            running.add(self)
            self.provisioner = _Provisioner(kernel_id=str(uuid.uuid4()), kernel_spec=self.kernel_spec, parent=self)
            self.provisioner.nursery = nursery
            await super()._async_start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)

        async def _async_cleanup_resources(self, restart: bool = False) -> None:
            running.discard(self)
            await super()._async_cleanup_resources(restart=restart)

        start_kernel = _async_start_kernel
        cleanup_resources = _async_cleanup_resources

    return Kernel


def serve() -> None:
    """Be the nursery: import, then fork a kernel for each line of standard input until it ends."""
    for name in READY_MADE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    tasks = [Path(task, "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    if sum(not name.startswith("jemalloc") for name in tasks) > 1:  # that one mends itself after a fork
        return
    children: list[int] = []
    for line in sys.stdin:
        children = [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0] == 0]
        pid = os.fork()
        if pid == 0:
            _become_kernel(json.loads(line))
        children.append(pid)
        print(pid, flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become_kernel(asked: dict[str, Any]) -> NoReturn:
    """Turn a fork into what `python -m ipykernel_launcher` would be."""
    nursery = os.getppid()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - the pipe's buffer may hold the next request
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    os.chdir(asked["folder"])
    sys.path[:] = [place for place in sys.path if place]
    sys.argv = ["ipykernel_launcher", f"--IPKernelApp.parent_handle={nursery}", *asked["arguments"]]
    from ipykernel import kernelapp

    status = 1
    try:
        kernelapp.launch_new_instance()
        status = 0
    finally:
        os._exit(status)
