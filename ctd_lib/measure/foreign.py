"""LSG of lsg-converter as a contender: a process of another environment, see lsg_process.py."""

import functools
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ctd_lib.errors import CtdError
from ctd_lib.measure import failures, forwards, memory
from ctd_lib.measure.systems import System

SCRIPT = Path(__file__).with_name("lsg_process.py")


class LsgProcess:
    """One model of lsg-converter at work.

    Raises:
        CtdError: that Python is none, or has no lsg-converter.
    """

    def __init__(self, python: str, system: System, length: int, device: torch.device):
        config = system.config(length)
        fields = {name: getattr(config, name) for name in system.fields()}
        command = [python, str(SCRIPT), json.dumps(fields), system.dtype, device.type]
        # A file: a pipe that nobody reads would stop the process when full.
        self.said = tempfile.TemporaryFile("w+")
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said,
                text=True,
            )  # fmt: skip
        except OSError as error:
            self.said.close()
            raise CtdError(f"lsg_python is {python!r}, which does not start: {error}.") from error
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.said.seek(0)
            reason = self.said.read().strip().splitlines()[-1:] or ["it said nothing"]
            self.close()
            raise CtdError(f"lsg_python {python!r} cannot run lsg-converter: {reason[0]}.")
        self.versions: dict[str, str] = json.loads(line)

    def ask(self, documents: Sequence[int], memory: bool = False) -> dict:
        """Seconds of one forward, or its peak_bytes and baseline_bytes.

        Raises:
            MemoryError: the process was ended by the system.
            RuntimeError: what torch raised there.
        """
        try:
            self.process.stdin.write(json.dumps({"documents": documents, "memory": memory}) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise MemoryError(failures.OUT_OF_MEMORY) from error
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.said.close()


def peaks(
    python: str, system: System, lengths: Sequence[int], batch_size: int, workload: str,
    device: torch.device,
) -> memory.Peaks:  # fmt: skip
    """As `memory.peak_memory`."""
    found: memory.Peaks = {
        length: dict.fromkeys(("peak_bytes", "baseline_bytes")) for length in lengths
    }
    process = LsgProcess(python, system, max(lengths), device)
    try:
        for length in sorted(lengths):
            found[length] = process.ask(forwards.documents(workload, length, batch_size), True)
    except (RuntimeError, MemoryError) as error:
        if failures.explained(error) != failures.OUT_OF_MEMORY:
            raise CtdError(f"lsg-converter failed: {str(error).splitlines()[0]}") from error
    finally:
        process.close()
    return found


class Opened:
    """`Contender.prepare` of a process that starts when it is first asked and ends by `close`."""

    def __init__(self, python: str, system: System, length: int, device: torch.device):
        self._start = functools.cache(lambda: LsgProcess(python, system, length, device))

    def __call__(self, documents: list[int]) -> Callable[[], float]:
        process = self._start()
        return lambda: process.ask(documents)["seconds"]

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages there; none where it was never asked."""
        return self._start().versions if self._start.cache_info().currsize else {}

    def close(self) -> None:
        """End the process, if it was started."""
        if self._start.cache_info().currsize:
            self._start().close()
