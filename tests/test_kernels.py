"""Kernels forked from a process that has imported the libraries; ordinary ones where it is gone."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from ctd_lib import kernels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
TELLS = """import json, os, subprocess, sys
torch = "torch" in sys.modules
from ctd_lib import runtime
print(json.dumps({
    "parent": os.getppid(), "folder": os.getcwd(), "threads": os.environ.get("OMP_NUM_THREADS"),
    "torch": torch, "commit known": runtime.code.cache_info().currsize == 1,
    "told": os.environ.get("TOLD"),
    "child": subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode,
}))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with kernels.server(tmp_path_factory.mktemp("log") / "kernels.log") as pid:
        yield psutil.Process(pid)


def start(tmp_path, source, **environment):
    """Papermill with a notebook of one cell, and where its output goes."""
    notebook = new_notebook(cells=[new_code_cell(source)])
    notebook.metadata["kernelspec"] = {
        "name": "python3", "language": "python", "display_name": "Python 3"
    }  # fmt: skip
    nbformat.write(notebook, tmp_path / "in.ipynb")
    out = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", "in.ipynb", str(out), "--no-progress-bar"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return process, out


def told(tmp_path, **environment):
    process, out = start(tmp_path, TELLS, **environment)
    log = process.communicate(timeout=120)[0]
    assert process.returncode == 0, log
    return json.loads(nbformat.read(out, as_version=4).cells[0].outputs[0].text)


def wait_for(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("waited in vain")


@pytest.mark.slow
def test_a_kernel_is_a_child_of_the_server_with_what_its_papermill_gave_it(tmp_path, server):
    found = told(tmp_path, TOLD="so", OMP_NUM_THREADS="1")
    assert found == {
        "parent": server.pid, "folder": str(tmp_path), "threads": "1", "torch": True,
        "commit known": True, "told": "so", "child": 3,
    }  # fmt: skip
    assert told(tmp_path)["told"] is None
    wait_for(lambda: not server.children())


@pytest.mark.slow
def test_a_kernel_that_dies_fails_its_run(tmp_path, server):
    process, _ = start(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert "died" in process.communicate(timeout=120)[0].lower() and process.returncode


@pytest.mark.parametrize("answered", [True, False])
def test_a_kernel_ends_with_the_process_that_asked_for_it(tmp_path, server, answered):
    given = {
        "arguments": ["-f", str(tmp_path / "connection.json")],
        "environment": dict(os.environ), "folder": str(tmp_path),
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[kernels.SOCKET])
        connection.sendall(json.dumps(given).encode() + b"\n")
        wait_for(server.children)
        if answered:
            assert int(connection.recv(32)) == server.children()[0].pid
        else:
            wait_for((tmp_path / "connection.json").exists)
    wait_for(lambda: not server.children())


@pytest.mark.slow
def test_without_a_server_a_kernel_is_an_ordinary_one(tmp_path, server):
    server.kill()
    server.wait()
    assert told(tmp_path)["parent"] != server.pid


def test_afterwards_nothing_is_left_of_the_server(tmp_path):
    before = dict(os.environ)
    with contextlib.suppress(KeyboardInterrupt), kernels.server(tmp_path / "kernels.log") as pid:
        server = psutil.Process(pid)
        folder = os.path.dirname(os.environ[kernels.SOCKET])
        assert os.stat(folder).st_mode & 0o77 == 0
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    assert not server.is_running() and not os.path.exists(folder)
    assert dict(os.environ) == before
