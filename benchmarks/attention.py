"""Speed and memory of each arch against transformers, full attention and the machine's limit.

    python benchmarks/attention.py                      # forwards at 1024 to 4096 tokens, float32
    python benchmarks/attention.py --dtype bfloat16 --lengths 512 16384 --archs longformer python
    benchmarks/attention.py --train --lengths 2048 python benchmarks/attention.py --student
    # 6 layers in bfloat16 against transformers' 12 in float32

Every contender is a process of its own with the same random weights. They take turns, one at work
at a time, so that a machine that slows down slows all of them, and each round also times a large
matrix product: the bound of a contender is its FLOP (`ctd_lib.attention.flops`) at that product's
speed. Ratios are medians, smallest and largest of the rounds' own ratios. lsg-converter works with
older versions of transformers only: give `--lsg-python` the Python of an environment that has it.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import (
    BigBirdConfig,
    LongformerConfig,
    NystromformerConfig,
    RobertaConfig,
)

from ctd_lib import attention
from ctd_lib.lsg import LsgRobertaConfig

CONFIGS = {
    "full": RobertaConfig,
    "longformer": LongformerConfig,
    "bigbird": BigBirdConfig,
    "lsg": LsgRobertaConfig,
    "nystromformer": NystromformerConfig,
}
TRAINING_FLOPS = 3
"""A backward costs twice a forward."""


@dataclass(frozen=True)
class Contender:
    """What one process runs."""

    arch: str
    kind: str
    """ours, transformers, lsg-converter, or sdpa (full attention)"""
    layers: int
    dtype: str


class Process:
    """A contender at work, see benchmarks/contender.py."""

    def __init__(self, contender: Contender, args, positions: int):
        shape = {
            "hidden_size": args.hidden_size,
            "num_hidden_layers": contender.layers,
            "num_attention_heads": args.heads,
            "intermediate_size": 4 * args.hidden_size,
        }
        python = args.lsg_python if contender.kind == "lsg-converter" else sys.executable
        script = Path(__file__).parent / "contender.py"
        arguments = [
            contender.arch,
            contender.kind,
            json.dumps(shape),
            contender.dtype,
            args.device,
            str(positions),
        ]
        root = str(Path(__file__).parents[1])
        self.process = subprocess.Popen(
            [python, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": root, "HF_HUB_OFFLINE": "1"},
        )
        self.broken = None
        answer = self._answer()
        self.broken = answer if "error" in answer else None

    def ask(self, **request) -> dict:
        """The answer to one request, or {"error": ...}."""
        if self.broken is None:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        return self.broken or self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.broken = {"error": "the process ended, perhaps for want of memory"}
        return self.broken or json.loads(line)

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def measure(contenders: list[Contender], args) -> list[dict]:
    """A row for each contender and length; ratios are the first contender's time over the row's."""
    processes = {contender: Process(contender, args, max(args.lengths)) for contender in contenders}
    calibration = Process(Contender("matmul", "", 0, "float32"), args, 1)
    rows = []
    for length in args.lengths:
        request = {"length": length, "batch_size": args.batch_size, "train": args.train}
        extra = {}
        for contender, process in processes.items():
            process.ask(
                **request, memory=True
            )  # not timed: it pays for memory that later ones find
            extra[contender] = process.ask(**request, memory=True).get("extra_bytes")
        answers, peaks = {contender: [] for contender in contenders}, []
        for _ in range(args.repeats):
            peaks.append(calibration.ask())
            for contender in random.sample(contenders, len(contenders)):
                answers[contender].append(processes[contender].ask(**request, memory=False))
        for contender in contenders:
            found = row(contender, length, answers[contender], answers[contenders[0]], peaks, args)
            rows.append(found | {"extra_bytes": extra[contender]})
            print(text(rows[-1]), flush=True)
    for process in (*processes.values(), calibration):
        process.close()
    return rows


def row(
    contender: Contender,
    length: int,
    answers: list[dict],
    first: list[dict],
    peaks: list[dict],
    args,
) -> dict:
    """What was measured of one contender at one length."""
    result = asdict(contender) | {
        "length": length,
        "batch_size": args.batch_size,
        "train": args.train,
    }
    if errors := [answer["error"] for answer in answers if "error" in answer]:
        return result | {"error": errors[0]}
    seconds = [answer["seconds"] for answer in answers]
    config = CONFIGS[contender.arch](
        hidden_size=args.hidden_size,
        num_hidden_layers=contender.layers,
        num_attention_heads=args.heads,
        intermediate_size=4 * args.hidden_size,
    )
    flop = sum(attention.flops(config, length, args.batch_size).values()) * (
        TRAINING_FLOPS if args.train else 1
    )
    peak = statistics.median(each[contender.dtype] for each in peaks)
    result |= {
        "seconds": seconds,
        "seconds_median": statistics.median(seconds),
        "flop": flop,
        "flop_per_second": flop / statistics.median(seconds),
        "peak_flop_per_second": peak,
        "times_bound": statistics.median(seconds) * peak / flop,
    }
    if not any("error" in answer for answer in first):
        ratios = sorted(ours["seconds"] / own for ours, own in zip(first, seconds, strict=True))
        result["ratio"] = {
            "median": statistics.median(ratios),
            "lowest": ratios[0],
            "highest": ratios[-1],
        }
    return result


def text(row: dict) -> str:
    """A row as a line to read."""
    name = f"{row['arch']:14}{row['kind']:14}{row['layers']:3}{row['dtype']:>10}{row['length']:7}"
    if "error" in row:
        return f"{name}  {row['error']}"
    ratio = (
        "  first/this {median:.2f} ({lowest:.2f} to {highest:.2f})".format(**row["ratio"])
        if "ratio" in row
        else ""
    )
    memory = f"{row['extra_bytes'] / 2**20:8.0f} MiB" if row["extra_bytes"] is not None else ""
    speed = f"{row['flop_per_second'] / 1e9:7.0f} GFLOP/s{row['times_bound']:6.2f} times its bound"
    return f"{name}{row['seconds_median']:9.3f} s{memory}{speed}{ratio}"


def groups(args) -> list[list[Contender]]:
    """Who is timed against whom."""
    if args.student:
        return [
            [
                Contender("longformer", "ours", args.layers // 2, "bfloat16"),
                Contender("longformer", "transformers", args.layers, "float32"),
            ]
        ]
    result = []
    for arch in args.archs:
        rivals = [(arch, "ours"), (arch, "transformers"), ("full", "sdpa")]
        if arch == "lsg":
            rivals[1] = (arch, "lsg-converter")
            if args.lsg_python is None:
                del rivals[1]
        result.append([Contender(*rival, args.layers, args.dtype) for rival in rivals])
    return result


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    archs = [arch for arch in CONFIGS if arch != "full"]
    parser.add_argument("--archs", nargs="+", choices=archs, default=archs)
    parser.add_argument("--lengths", nargs="+", type=int, default=[1024, 2048, 4096])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden-size", type=int, default=768)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--train", action="store_true", help="forward and backward")
    parser.add_argument(
        "--student",
        action="store_true",
        help="our half-depth student against transformers' teacher",
    )
    parser.add_argument("--lsg-python", help="Python of an environment with lsg-converter")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def main():
    args = arguments()
    rows = [row for group in groups(args) for row in measure(group, args)]
    if args.output:
        machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        settings = vars(args) | {"output": str(args.output)}
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(
            json.dumps({"settings": settings, "machine": machine, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
