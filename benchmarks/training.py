"""Speed and memory of a distillation step: ours against a plain loop.

    python benchmarks/training.py --arch longformer --length 4096 --output training.json
    python benchmarks/training.py --dtype bfloat16 --plain-dtype float32
    python benchmarks/training.py --hidden-size 384 --layers 6 --heads 12 --vocabulary 30522

Both do the same step with the same weights and the same masked text: DistilBERT's three terms, a
student of half the layers, clipping, AdamW. The plain loop is what one would write with
transformers: its own modules with their native attention (`full`: eager), all logits of teacher and
student at once, autocast for a dtype below float32. Ours is `ctd_lib.distill`. Each is a process of
its own; they take turns, one at work at a time, so that a machine that slows down slows both. The
ratio is the median of the rounds' own ratios, with the smallest and the largest.

Memory is the peak of a step, all that the process holds included, and the rise within the step.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ctd_lib import runtime

ARCHS = ("full", "longformer", "bigbird", "nystromformer")
BURN_IN = 2  # steps: the first makes the optimiser's state, the second finds it


class Process:
    """A contender at work, see benchmarks/training_contender.py."""

    def __init__(self, kind: str, dtype: str, args):
        given = vars(args) | {"kind": kind, "dtype": dtype, "output": None}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "training_contender.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        self.broken = None
        self.ask(given)

    def ask(self, request: dict) -> dict:
        """The answer to one request, or {"error": ...} from the first error on."""
        if self.broken is None:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            answer = json.loads(line) if line else {"error": "it ended, perhaps for want of memory"}
            self.broken = answer if "error" in answer else None
            return answer
        return self.broken

    def close(self):
        """Ends the process."""
        self.process.kill()
        self.process.wait()


def measure(args) -> list[dict]:
    """A row for ours and one for the plain loop."""
    dtypes = {"ours": args.dtype, "plain": args.plain_dtype or args.dtype}
    processes = {kind: Process(kind, dtype, args) for kind, dtype in dtypes.items()}
    memory, seconds = {}, {kind: [] for kind in processes}
    for kind, process in processes.items():
        for _ in range(BURN_IN):
            memory[kind] = process.ask({"memory": True})
    for _ in range(args.repeats):
        for kind in random.sample(list(processes), len(processes)):
            seconds[kind].append(processes[kind].ask({"memory": False}).get("seconds"))
    rows = []
    for kind, process in processes.items():
        row = {"kind": kind, "dtype": dtypes[kind]} | _shape(args)
        rows.append(row | (process.broken or _summary(memory[kind], seconds[kind], args)))
        process.close()
    if not any("error" in row for row in rows):
        ratios = sorted(p / o for o, p in zip(seconds["ours"], seconds["plain"], strict=True))
        rows[0]["speed_ratio"] = {
            "median": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1]
        }  # fmt: skip
        rows[0]["memory_ratio"] = {
            name: rows[0][name] / rows[1][name] if rows[1][name] else None
            for name in ("peak_bytes", "extra_bytes")
        }
    return rows


def _shape(args) -> dict:
    names = ("arch", "length", "batch_size", "hidden_size", "layers", "heads", "vocabulary")
    return {name: getattr(args, name) for name in (*names, "device")}


def _summary(memory: dict, seconds: list[float], args) -> dict:
    tokens = args.batch_size * args.length
    speeds = sorted(tokens / each for each in seconds)
    return {
        "seconds": seconds,
        "tokens_per_second": {
            "median": statistics.median(speeds), "lowest": speeds[0], "highest": speeds[-1]
        },
        "peak_bytes": memory["peak_bytes"],
        "extra_bytes": memory["extra_bytes"],
    }  # fmt: skip


def text(row: dict) -> str:
    """A row as lines to read."""
    name = f"{row['arch']:14}{row['kind']:6}{row['dtype']:>9}{row['length']:7}"
    if "error" in row:
        return f"{name}  {row['error']}"
    speed = "{median:9.1f} tokens/s ({lowest:.1f} to {highest:.1f})".format(
        **row["tokens_per_second"]
    )
    memory = "".join(
        f"{row[name] / 2**20:8.0f} MiB {what}"
        for name, what in (("peak_bytes", "peak"), ("extra_bytes", "of it in the step"))
        if row[name] is not None
    )
    ratio = ""
    if "speed_ratio" in row:
        ratio = "\n  ours is {median:.2f} times as fast ({lowest:.2f} to {highest:.2f})".format(
            **row["speed_ratio"]
        )
        ratio += "".join(
            f", {'peak' if name == 'peak_bytes' else 'rise'} {value:.2f} of the plain loop's"
            for name, value in row["memory_ratio"].items()
            if value is not None
        )
    return name + speed + memory + ratio


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", choices=ARCHS, default="longformer")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--hidden-size", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12, help="of the teacher")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=50265)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--plain-dtype", choices=["float32", "bfloat16"], help="default: --dtype")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def main():
    args, started = arguments(), time.perf_counter()
    rows = measure(args)
    print("\n".join(map(text, rows)))
    if args.output:
        provenance = runtime.provenance(time.perf_counter() - started)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps({"provenance": provenance, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
