import platform
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch

from ctd_lib import paths, runtime
from ctd_lib.errors import CtdError


@pytest.fixture(autouse=True)
def online_by_variables(monkeypatch):
    for name in (*runtime.OFFLINE_VARIABLES, "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "")
    runtime.hub_answers.cache_clear()
    yield
    runtime.hub_answers.cache_clear()


def test_a_hub_that_listens_answers(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert runtime.hub_answers()


@pytest.mark.parametrize("proxy", ["127.0.0.1:{}", "http://127.0.0.1:{}"])
def test_a_proxy_may_come_without_a_scheme(monkeypatch, proxy):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=server.accept, daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", proxy.format(server.getsockname()[1]))
        assert runtime.hub_answers()


def test_a_hub_address_without_a_host_does_not_answer(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "mirror")
    assert not runtime.hub_answers()


def test_a_silent_hub_is_given_up_within_three_seconds_once_per_process(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://192.0.2.1:81")  # a documentation address
    started = time.perf_counter()
    assert not runtime.hub_answers()
    assert time.perf_counter() - started < 3
    started = time.perf_counter()
    assert not runtime.hub_answers()
    assert time.perf_counter() - started < 0.1


def test_offline_variable_decides_without_asking(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(runtime, "_reachable", lambda endpoint: pytest.fail("asked the network"))
    assert not runtime.hub_answers()


def test_seed_repeats_random_numbers():
    runtime.seed_everything(3)
    first = torch.rand(4)
    runtime.seed_everything(3)
    assert torch.equal(first, torch.rand(4))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_missing_device_is_named():
    with pytest.raises(CtdError, match="cuda"):
        runtime.device("cuda")
    assert runtime.device().type == "cpu"


def test_unknown_device_is_named():
    with pytest.raises(CtdError, match="abacus"):
        runtime.device("abacus")


@pytest.mark.parametrize("name", ["mps", "xpu", "hpu", "cuda:99"])
def test_a_device_that_torch_knows_and_the_machine_has_not(name):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(CtdError, match=f"'{name}' is not on this machine"):
        runtime.device(name)


def test_a_device_without_data():
    with pytest.raises(CtdError, match="'meta' computes nothing"):
        runtime.device("meta")


def test_home_and_data_folder_follow_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("CTD_HOME", str(tmp_path))
    assert paths.results("quick") == tmp_path / "results" / "quick"
    monkeypatch.delenv("CTD_DATA", raising=False)
    assert paths.data_dir() is None
    monkeypatch.setenv("CTD_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(CtdError, match="CTD_DATA"):
        paths.data_dir()


ALLOCATE = """
import ctypes, resource
from ctd_lib import runtime
{call}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def page_faults_of_a_step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [ctypes.c_void_p(libc.malloc(2**23)) for _ in range(10)]
    for block in blocks:
        ctypes.memset(block, 1, 2**23)
    for block in reversed(blocks):
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([page_faults_of_a_step() for _ in range(5)][-1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_freed_memory_is_used_again_instead_of_asked_for_anew():
    def page_faults(call):
        command = [sys.executable, "-c", ALLOCATE.format(call=call)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert page_faults("runtime.keep_freed_memory()") * 10 < page_faults("")
