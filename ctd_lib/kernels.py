"""Kernels that start with torch and transformers imported.

To import the two takes a core longer than many a run of the quick profile computes. While `server`
is open, one process imports them once and every kernel is forked from it: still a process of its
own, with the environment and the folder that its papermill asks for. Linux alone: elsewhere a
process with threads of the system's libraries is not safely forked.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from jupyter_client.provisioning import LocalProvisioner

from ctd_lib import runtime

NAME = "ctd-forked"
"""Under which jupyter_client finds the provisioner, see `pyproject.toml`."""
SOCKET = "CTD_KERNELS"
"""Environment variable: where the server listens."""
CHOSEN = "JUPYTER_DEFAULT_PROVISIONER_NAME"
"""Environment variable of jupyter_client: who starts kernels."""
PRELOADED = ("ctd_lib.pipeline", "ipykernel.kernelapp")
PLAIN = ["-m", "ipykernel_launcher"]
"""What follows Python in the command of an IPython kernel."""
PATIENCE = 300
"""Seconds that a server may take to import the libraries and to fork."""


@contextlib.contextmanager
def server(log: Path) -> Iterator[int | None]:
    """While it is open, kernels of papermill processes that are started meanwhile are forked.

    Args:
        log: file for what kernels write beside their cells.

    Yields:
        The server's process id; None where every kernel is an ordinary one.
    """
    known = entry_points(group="jupyter_client.kernel_provisioners", name=NAME)
    if sys.platform != "linux" or not known:
        yield None
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    # Who may open the folder may run code here: it is the user's alone, as mkdtemp makes it.
    with tempfile.TemporaryDirectory(prefix="ctd-") as folder, log.open("w") as output:
        path = str(Path(folder) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            # Listening begins here, so that nobody comes too early.
            listener.bind(path)
            listener.listen(64)
            process = subprocess.Popen(
                [sys.executable, "-m", "ctd_lib.kernels", str(listener.fileno())],
                stdin=subprocess.PIPE, stdout=output, stderr=output,
                pass_fds=[listener.fileno()], start_new_session=True,
            )  # fmt: skip
        before = {name: os.environ.get(name) for name in (SOCKET, CHOSEN)}
        os.environ |= {SOCKET: path, CHOSEN: NAME}
        try:
            yield process.pid
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
            process.terminate()
            process.wait()
            process.stdin.close()


class ForkedProvisioner(LocalProvisioner):
    """Asks the server for a kernel; starts an ordinary one if there is none."""

    async def launch_kernel(self, cmd: list[str], **kwargs):
        """See `jupyter_client.provisioning.KernelProvisionerBase.launch_kernel`."""
        if SOCKET in kwargs["env"] and cmd[1:3] == PLAIN:
            with contextlib.suppress(OSError):
                self.process = Forked(cmd[3:], kwargs["env"], kwargs.get("cwd") or os.getcwd())
                self.pid = self.pgid = self.process.pid
                return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)


class Forked:
    """A kernel of the server, with what jupyter_client uses of `subprocess.Popen`.

    It lives as long as its end of the connection is open, and ends when this end is closed.

    Raises:
        OSError: the server is not there any more, or does not answer.
    """

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str):
        given = {"arguments": arguments, "environment": environment, "folder": folder}
        self.connection = socket.socket(socket.AF_UNIX)
        try:
            self.connection.settimeout(PATIENCE)
            self.connection.connect(environment[SOCKET])
            self.connection.sendall(json.dumps(given).encode() + b"\n")
            answer = self.connection.recv(32)
            if not answer:
                raise ConnectionResetError("the server of kernels is gone")
        except OSError:
            self.connection.close()
            raise
        self.connection.setblocking(True)
        self.pid = int(answer)

    def poll(self) -> int | None:
        """None while it lives; a server's child tells nobody else its exit status: 0."""
        try:
            return None if self.connection.recv(1, socket.MSG_DONTWAIT) else 0
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return 0

    def wait(self) -> int:
        """Wait for its end."""
        with contextlib.suppress(ConnectionResetError):
            self.connection.recv(1)
        self.connection.close()
        return 0

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """End it."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def serve(listener: socket.socket) -> None:
    """Fork a kernel for each who asks, until standard input is closed."""
    for name in PRELOADED:
        importlib.import_module(name)
    # Records of kernels are of the code that was imported here, whatever is checked out meanwhile.
    runtime.code()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for kernels
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _become_kernel(connection)
        connection.close()


def _become_kernel(connection: socket.socket) -> None:
    """What `python -m ipykernel_launcher` does, for as long as the other end is open."""
    import torch
    from ipykernel.kernelapp import IPKernelApp

    with connection.makefile() as lines:
        given = json.loads(lines.readline())
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ |= given["environment"]
    os.chdir(given["folder"])
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))  # which it has read before
    connection.sendall(str(os.getpid()).encode())
    threading.Thread(target=_end_with, args=[connection], daemon=True).start()
    # Which it reads from the environment as it is imported; without one it prints how to connect.
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"
    IPKernelApp.launch_instance(argv=[*given["arguments"], parent])
    os._exit(0)


def _end_with(connection: socket.socket) -> None:
    """End this process when the other end of the connection is closed."""
    with contextlib.suppress(ConnectionResetError):
        connection.recv(1)
    os._exit(1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
