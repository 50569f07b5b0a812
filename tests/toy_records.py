"""Toy records for the tests of tables, figures and book: round numbers that no model ever gave."""

import hashlib
import json
from pathlib import Path

from ctd_lib import ARCHS, params, records
from ctd_lib.scores import predictions

PROVENANCE = {
    "commit": "0123456789abcdef",
    "dirty": False,
    "date": "2000-01-01T00:00:00+00:00",
    "seconds": 12.5,
    "host": {"cpu": "toy processor", "cores": 2, "memory_gib": 8, "gpu": None},
    "versions": {"torch": "1.0", "transformers": "1.0"},
    "stage_revision": 1,
}
TASKS = {
    "movie-sentences": ("classification", "accuracy", 128, "packaged:movie-sentences", False),
    "conll2003": ("tagging", "entity_f1", 128, "packaged:conll2003", False),
    "press-ner": ("tagging", "entity_f1", 4096, "synthetic:press", True),
    "press-qa": ("span-qa", "f1", 4096, "synthetic:press", True),
}
LENGTHS = (512, 4096)
SYSTEMS = {
    "full": ("RoBERTa", "DistilRoBERTa"), "longformer": ("Longformer", "Longformer"),
    "bigbird": ("Big Bird", "Big Bird"), "lsg": ("LSG", "LSG"),
    "nystromformer": ("Nystromformer", "Nystromformer"),
}  # fmt: skip
SYSTEM_LENGTHS = (512, 1024, 2048, 4096)

TEST_EXAMPLES = 50


def make() -> list[dict]:
    """A whole quick profile: the students keep 90, 89, ... 86 % and take half the time."""
    made = []
    for number, arch in enumerate(ARCHS):
        made += [
            record("convert", params.ConvertParams, arch, {
                "copied": 100, "tiled": 1, "new": number, "dropped": 2, "parameters": 20_000_000,
                "mlm_loss_before": 6.0, "mlm_loss_after": 6.5,
                "parity_length": 128, "parity_max_abs_diff": 1e-6,
            }),
            record("pretrain", params.PretrainParams, arch, {
                "mlm_loss_before": 6.5, "mlm_loss_after": 6.0, "steps": 6, "tokens": 24_576,
                "seconds": 10.0, "tokens_per_second": 2457.6,
            }),
            record("distill", params.DistillParams, arch, {
                "student_layers": 3, "teacher_layers": 6, "layer_map": [0, 2, 4],
                "parameters_teacher": 20_000_000, "parameters_student": 15_000_000,
                "mlm_loss_teacher": 6.0, "mlm_loss_before": 9.0, "mlm_loss_after": 7.0,
                "steps": 8, "tokens": 32_768, "seconds": 20.0,
            }),
            record("measure", params.MeasureParams, arch, {
                "rows": [timing(role, length, number) for length in LENGTHS
                         for role in ("teacher", "student")],
                "dtype": "float32", "device": "cpu", "threads": 2,
            }),
            systems(arch, number),
        ]  # fmt: skip
        if arch == "longformer":
            made.append(
                record("export", params.ExportParams, arch, {
                    "rows": [form(name, length) for length in LENGTHS for name in FORMS],
                    "head": "token-classification", "onnx_difference": 1e-6,
                    "int8_agreement": 0.99, "device": "cpu", "threads": 2,
                }, role="student", task="conll2003", finetuned=True)
            )  # fmt: skip
        for task, (family, metric, max_length, source, synthetic) in TASKS.items():
            for role in ("teacher", "student"):
                score = 0.8 if role == "teacher" else 0.8 * (0.90 - 0.01 * number)
                made.append(
                    record("finetune", params.FinetuneParams, arch, {
                        "main_metric": metric, "score": score, "scores": {metric: score},
                        "train_examples": 100, "test_examples": TEST_EXAMPLES,
                        "truncated_examples": 0, "lost_labels": 0, "family": family,
                        "max_length": max_length,
                        "seconds": 30.0, "upper_bound": 1.0, "upper_bounds": {},
                    }, {"name": source, "licence": "toy licence", "synthetic": synthetic},
                    role=role, task=task)
                )  # fmt: skip
    return made


def timing(role: str, length: int, number: int) -> dict:
    """One row of a `measure` record: 1 ms a token for the teacher of the first arch."""
    seconds = length / 1000 * (1 + number / 4) * (1.0 if role == "teacher" else 0.5)
    return {
        "role": role, "length": length, "batch_size": 1, "seconds_median": seconds,
        "seconds_iqr": [0.9 * seconds, 1.1 * seconds], "repeats": 3,
        "tokens_per_second": length / seconds,
        "peak_bytes": (100 + (length // 8 if role == "teacher" else 0)) * 2**20,
        "parameters": 20_000_000 if role == "teacher" else 15_000_000,
    }  # fmt: skip


def systems(arch: str, number: int) -> dict:
    """A `systems` record: public attention takes twice as long as ours, float32 as bfloat16."""
    public = "lsg-converter" if arch == "lsg" else "transformers"
    kinds = ((public, "float32"), ("ours", "float32"), ("ours", "bfloat16"))
    who = [(role, *kind) for role in ("teacher", "student") for kind in kinds]
    rows = [system(arch, number, *one, length) for length in SYSTEM_LENGTHS for one in who]
    if arch == "full":
        rows += [system("bert", 0, "reference", public, "float32", length)
                 for length in SYSTEM_LENGTHS]  # fmt: skip
    rows += [system(arch, number, "student", "ours", "float32", 512, 8, workload)
             for workload in ("fixed", "variable")]  # fmt: skip
    made = record("systems", params.MeasureParams, arch, {
        "rows": rows, "ratios": ratios(rows),
        "machine": {
            "matmul_gflops": {"float32": 100.0, "bfloat16": 200.0},
            "calibration": {"best_seconds": 0.01, "rounds": 12, "disturbed": 1},
            "energy": None,
        },
        "device": "cpu", "threads": 2,
    })  # fmt: skip
    made["params"] |= {"systems": "paper", "price_per_hour": 1.8}
    return made


def system(arch, number, role, by, dtype, length, batch_size=1, workload="fixed") -> dict:
    """One row: full attention grows with the square of the length, the others with the length.

    Of the efficient ones number 1 costs 1.25 times what full attention costs at 1,024 tokens.
    """
    layers = 6 if role == "student" else 12
    growth = length / 1024 if arch in ("full", "bert") else 1 + number / 4
    seconds = length / 1000 * growth * batch_size * layers / 12
    seconds *= (0.5 if by == "ours" else 1.0) * (0.5 if dtype == "bfloat16" else 1.0)
    own = length * growth / 8 * (0.5 if by == "ours" else 1.0)
    if workload == "variable":
        seconds *= 0.5
    name = "BERT" if role == "reference" else SYSTEMS[arch][role == "student"]
    row = {
        "system": name, "arch": arch if role != "reference" else "full", "role": role,
        "implementation": by, "weights": "random", "dtype": dtype, "layers": layers,
        "length": length, "batch_size": batch_size, "workload": workload, "repeats": 5,
        "seconds_median": seconds, "seconds_iqr": [0.95 * seconds, 1.05 * seconds],
        "seconds_p5": 0.9 * seconds, "seconds_p95": 1.1 * seconds,
        "tokens_per_second": batch_size * length / seconds * (0.4 if workload != "fixed" else 1),
        "documents_per_second": batch_size / seconds,
        "peak_bytes": int((600 + 20 * layers + own) * 2**20),
        "baseline_bytes": (600 + 20 * layers) * 2**20,
        "parameters": 40_000_000 + 7_000_000 * layers,
        "flops": 10**8 * layers * length, "peak_share": 0.5, "extended": length > 512,
        "error": None,
    }  # fmt: skip
    if role == "reference" and length > 512:
        row |= dict.fromkeys(("seconds_median", "seconds_iqr", "seconds_p5", "seconds_p95"))
        row |= dict.fromkeys(("tokens_per_second", "documents_per_second", "peak_share"))
        row |= {"peak_bytes": None, "baseline_bytes": None, "error": "not possible: 512 positions"}
    return row


SIDE = ("system", "role", "implementation", "dtype", "length", "batch_size", "workload")


def ratios(rows: list[dict]) -> list[dict]:
    """What the rows compare: student to teacher, ours to public, our bfloat16 to public float32."""
    found = []
    for of in rows:
        for to in rows:
            if to["role"] != "teacher" or of is to or of["length"] != to["length"]:
                continue
            if "reference" in (of["role"], to["role"]) or of["batch_size"] != 1:
                continue
            alike = (of["implementation"], of["dtype"]) == (to["implementation"], to["dtype"])
            replaces = of["implementation"] == "ours" != to["implementation"]
            best = ("teacher", "float32"), ("student", "bfloat16")
            if (of["role"] == "student" and alike) or (
                replaces and (of["role"], of["dtype"]) in best
            ):
                ratio = of["seconds_median"] / to["seconds_median"]
                sides = ({name: row[name] for name in SIDE} for row in (of, to))
                found.append(dict(zip(("of", "to"), sides, strict=True)) | {
                    "ratio": ratio, "low": 0.98 * ratio, "high": 1.02 * ratio,
                })  # fmt: skip
    return found


FORMS = {
    "torch float32": (1.0, 80, 0.8), "torch bfloat16": (0.6, 40, 0.8),
    "ONNX float32": (0.9, 81, 0.8), "ONNX int8": (0.5, 21, 0.76),
}  # fmt: skip


def form(name: str, length: int) -> dict:
    """One row of an `export` record."""
    factor, size, score = FORMS[name]
    seconds = factor * length / 1000
    return {
        "form": name, "length": length, "batch_size": 1, "repeats": 3, "seconds_median": seconds,
        "seconds_iqr": [0.9 * seconds, 1.1 * seconds], "tokens_per_second": length / seconds,
        "peak_bytes": (500 + length // 8) * 2**20, "baseline_bytes": 500 * 2**20,
        "file_bytes": size * 2**20, "score": score,
    }  # fmt: skip


def record(kind: str, stage: type, arch: str, values: dict, source=None, **named) -> dict:
    """A record with the quick profile's own parameters."""
    chosen = params.make(stage, profile="quick", arch=arch, **named)
    return {
        "schema": 1,
        "kind": kind,
        "profile": "quick",
        "params": params.as_dict(chosen),
        "values": values,
        "source": source,
        "artifact": "-".join([kind, *(str(value) for value in named.values())]),
        "provenance": PROVENANCE,
    }


def predicted(task: str, role: str) -> predictions.Predictions:
    """Of 50 examples, half of them beyond token 512, where the student errs in 4 of 5."""
    family, metric, max_length, *_ = TASKS[task]
    examples = []
    for number in range(TEST_EXAMPLES):
        late = max_length > 512 and number % 2 == 1
        right = number % 5 == 0 if role == "student" and late else number % 10 > 0
        where = {"tokens": 900 if late else 100, "kind": ""}
        if family == "classification":
            given = {"gold": number % 2, "predicted": number % 2 if right else 1 - number % 2}
        elif family == "tagging":
            entity = ["PER" if number % 4 < 2 else "LOC", number, number + 1, 700 if late else 9]
            given = {"gold": [entity], "predicted": [entity] if right else []}
        else:
            name = f"name{number}"
            given = {"id": str(number), "gold": [name], "predicted": name if right else "Tom"}
            where |= {"kind": "who" if number % 4 < 2 else "what", "position": 700 if late else 9}
        examples.append(given | where)
    rules = "squad" if family == "span-qa" else ""
    return predictions.Predictions(task, family, metric, rules, examples)


def write(made: list[dict], folder: Path, kept: bool = True) -> None:
    """Write them as `records.load` expects them; `kept`: with predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions").mkdir(exist_ok=True)
    for one in made:
        path = folder / f"{one['kind']}-{one['params']['arch']}-{one['artifact']}.json"
        if kept and one["kind"] == "finetune":
            file = records.predictions_of(path)
            predictions.write(predicted(one["params"]["task"], one["params"]["role"]), file)
            one = one | {"predictions": hashlib.sha256(file.read_bytes()).hexdigest()}
        path.write_text(json.dumps(one))


def cell(table, column, **where):
    """The one cell of a column in the rows with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    [value] = table[column]
    return value
