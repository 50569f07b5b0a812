"""Time, memory and parameters of models and systems, on the machine at hand.

Times are medians over rounds in which every contender runs once, so that a machine that slows down
slows all of them; `rounds` says which rounds count. Memory is that of a process of its own, which
holds one model and nothing else.
"""

from ctd_lib.measure.contenders import compare, latency, parameters
from ctd_lib.measure.failures import OUT_OF_MEMORY, explained
from ctd_lib.measure.figures import summary
from ctd_lib.measure.forwards import DTYPES, WORKLOADS
from ctd_lib.measure.memory import Peaks, peak_memory, read_peaks
from ctd_lib.measure.resident import peak, start_peak
from ctd_lib.measure.rounds import interleave

__all__ = [
    "DTYPES",
    "OUT_OF_MEMORY",
    "WORKLOADS",
    "Peaks",
    "compare",
    "explained",
    "interleave",
    "latency",
    "parameters",
    "peak",
    "peak_memory",
    "read_peaks",
    "start_peak",
    "summary",
]
