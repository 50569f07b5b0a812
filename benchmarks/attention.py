"""Speed and memory of each arch against transformers, full attention and the machine's limit.

    python benchmarks/attention.py --output results/benchmarks/attention-float32.json
    python benchmarks/attention.py --dtype bfloat16 --lengths 512 16384 --archs longformer
    python benchmarks/attention.py --train --lengths 2048
    python benchmarks/attention.py --student

The last one times our student of half the layers in bfloat16 against transformers' teacher in
float32. Every contender is a process of its own with the same random weights. They take turns, one
at work at a time, so that a machine that slows down slows all of them, and each round also times a
large matrix product: the bound of a contender is its FLOP (`ctd_lib.attention.flops`) at the speed
of that product. Ratios are medians, smallest and largest of the rounds' own
ratios. Full attention runs twice: as transformers has it, and with the linear layers of
`ctd_lib.attention.linear`. lsg-converter works with older versions of transformers only: give
`--lsg-python` the Python of an environment that has it.

Rows of an output file that were measured of other archs, lengths or layers stay in it.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import (
    BigBirdConfig,
    LongformerConfig,
    NystromformerConfig,
    RobertaConfig,
)

from ctd_lib import attention, runtime
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
    """ours, transformers or lsg-converter"""
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


def measure(group: str, contenders: list[Contender], args) -> list[dict]:
    """A row for each contender and length; ratios are the first contender's time over the row's."""
    processes = {contender: Process(contender, args, max(args.lengths)) for contender in contenders}
    calibration = Process(Contender("matmul", "", 0, "float32"), args, 1)
    rows = []
    for length in args.lengths:
        request = {"length": length, "batch_size": args.batch_size, "train": args.train}
        extra = {}
        for contender, process in processes.items():
            # Not timed, and twice: the first pays for memory that the second finds.
            process.ask(**request, memory=True)
            extra[contender] = process.ask(**request, memory=True).get("extra_bytes")
        answers, peaks = {contender: [] for contender in contenders}, []
        for _ in range(args.repeats):
            peaks.append(calibration.ask())
            for contender in random.sample(contenders, len(contenders)):
                answers[contender].append(processes[contender].ask(**request, memory=False))
        for contender in contenders:
            found = row(contender, length, answers[contender], answers[contenders[0]], peaks, args)
            rows.append({"group": group} | found | {"extra_bytes": extra[contender]})
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
    peaks = [each[contender.dtype] for each in peaks]
    bounds = [each * peak / flop for each, peak in zip(seconds, peaks, strict=True)]
    result |= {
        "seconds": seconds,
        "seconds_median": statistics.median(seconds),
        "flop": flop,
        "flop_per_second": flop / statistics.median(seconds),
        "peak_flop_per_second": statistics.median(peaks),
        "times_bound": statistics.median(bounds),
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


def groups(args) -> dict[str, list[Contender]]:
    """Who is timed against whom."""
    if args.student:
        student = Contender("longformer", "ours", args.layers // 2, "bfloat16")
        teacher = Contender("longformer", "transformers", args.layers, "float32")
        return {"student": [student, teacher]}
    result = {}
    for arch in args.archs:
        rivals = [
            (arch, "ours"),
            (arch, "transformers"),
            ("full", "transformers"),
            ("full", "ours"),
        ]
        if arch == "lsg":
            rivals[1] = (arch, "lsg-converter")
            if args.lsg_python is None:
                del rivals[1]
        result[arch] = [Contender(*rival, args.layers, args.dtype) for rival in rivals]
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


def save(rows: list[dict], args, seconds: float) -> None:
    """Writes rows to the output file, in the place of those of the same measurement."""
    same = ("group", "layers", "dtype", "length", "batch_size", "train")
    new = {tuple(row[name] for name in same) for row in rows}
    before = json.loads(args.output.read_text()) if args.output.is_file() else {"rows": []}
    # Rows that stay keep their own device, machine and commit.
    kept = [{name: before[name] for name in ("device", "provenance")} | row
            for row in before["rows"]
            if tuple(row[name] for name in same) not in new]  # fmt: skip
    content = {
        "hidden_size": args.hidden_size,
        "heads": args.heads,
        "device": args.device,
        "provenance": runtime.provenance(seconds),
        "rows": kept + rows,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    partial = args.output.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(args.output)


def main():
    args = arguments()
    for group, contenders in groups(args).items():
        started = time.perf_counter()
        rows = measure(group, contenders, args)
        if args.output:
            save(rows, args, time.perf_counter() - started)


if __name__ == "__main__":
    main()
