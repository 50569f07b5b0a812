"""What a notebook shows of an artifact: one table or one figure a function, never a computation."""

import json
from pathlib import Path

import pandas as pd

from ctd_lib import attention, models, params
from ctd_lib.pipeline import STEP_LOG, TENSOR_REPORT
from ctd_lib.store import Artifact

PATTERN_TOKENS = 256
LOSS_TERMS = ("mlm", "soft_target", "cosine", "relation", "task", "task_distill")
MASKED_SENTENCES = (
    "The president spoke to the {mask} about the economy.",
    "The river flows through the {mask} of Paris.",
)

_NAMES = ("system", "role", "implementation", "dtype")
_FIGURES = ("seconds_median", "seconds_p5", "seconds_p95", "tokens_per_second", "peak_mib",
            "parameters", "peak_share", "error")  # fmt: skip


pd.options.display.max_colwidth = 200  # a corpora mix or a list of guesses is read whole


def parameters(chosen) -> pd.DataFrame:
    """The resolved parameters of this run."""
    resolved = {name: value for name, value in params.as_dict(chosen).items() if value is not None}
    return pd.DataFrame({"value": {name: str(value) for name, value in resolved.items()}})


def values(artifact: Artifact) -> pd.DataFrame:
    """The plain numbers of an artifact."""
    plain = {
        name: value
        for name, value in artifact.values.items()
        if isinstance(value, int | float | str | bool)
    }
    return pd.DataFrame({"value": {name: _short(value) for name, value in plain.items()}})


def location(artifact: Artifact) -> pd.DataFrame:
    """The files of an artifact and how to open it."""
    files = {path.name: path.stat().st_size for path in sorted(artifact.path.iterdir())}
    table = pd.DataFrame({"MiB": {name: round(size / 2**20, 2) for name, size in files.items()}})
    return table.rename_axis(f"artifacts/{artifact.stage}/{artifact.path.name}")


def tensors(artifact: Artifact) -> pd.DataFrame:
    """What became of the tensors and why; the artifact's report names every single one."""
    report = pd.DataFrame(json.loads((artifact.path / TENSOR_REPORT).read_text()))
    report["name"] = report["target"].fillna(report["source"])
    grouped = report.groupby(["action", "why"])["name"]
    return grouped.agg(tensors="count", such_as="first").reset_index()


def attention_pattern(artifact: Artifact):
    """A picture of who attends to whom among the first tokens."""
    import matplotlib.pyplot as plt

    config = models.load(artifact.path).config
    length = min(PATTERN_TOKENS, config.max_position_embeddings - 2)
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.imshow(attention.pattern(config, length), cmap="Greys", interpolation="nearest")
    axes.set(xlabel="key", ylabel="query", title=models.arch_of(config))
    plt.close(figure)
    return figure


def loss_curve(artifact: Artifact):
    """The step log: the loss, and its terms before weighting where there are several."""
    import matplotlib.pyplot as plt

    log = step_log(artifact.path)
    terms = [name for name in LOSS_TERMS if name in log and log[name].any()]
    names = ["loss", *(terms if len(terms) > 1 else ())]
    figure, row = plt.subplots(1, len(names), figsize=(3 * len(names), 2.5), squeeze=False)
    for name, axes in zip(names, row[0], strict=True):
        axes.plot(log["step"], log[name], marker=".")
        axes.set(xlabel="step", title=name.replace("_", " "))
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.tight_layout()
    plt.close(figure)
    return figure


def step_log(folder: Path) -> pd.DataFrame:
    """One row an optimizer step."""
    return pd.read_csv(folder / STEP_LOG)


def filled_masks(artifact: Artifact, top: int = 5) -> pd.DataFrame:
    """What the model puts in the place of a masked word."""
    from transformers import pipeline

    tokenizer = models.load_tokenizer(artifact.path)
    fill = pipeline("fill-mask", model=models.load(artifact.path), tokenizer=tokenizer, top_k=top)
    sentences = [sentence.format(mask=tokenizer.mask_token) for sentence in MASKED_SENTENCES]
    guesses = [[guess["token_str"].strip() for guess in fill(sentence)] for sentence in sentences]
    return pd.DataFrame({"guesses": map(", ".join, guesses)}, index=sentences)


def scores(artifact: Artifact) -> pd.DataFrame:
    """All scores of a finetuning, 0 to 1."""
    return pd.DataFrame({"score": artifact.values["scores"]}).round(4)


def data_notice(artifact: Artifact) -> pd.DataFrame:
    """Where the labelled data came from, and whether it is synthetic."""
    return pd.DataFrame({"data": artifact.values["source"]})


def measurements(artifact: Artifact) -> pd.DataFrame:
    """Median seconds, throughput and peak memory over lengths, and why a row has none."""
    rows = pd.DataFrame(artifact.values["rows"])
    rows["peak_mib"] = (rows.pop("peak_bytes").astype(float) / 2**20).round()
    names = [name for name in _NAMES if name in rows]
    return rows[[*names, "length", *_FIGURES]].fillna({"error": ""})


def speed_ups(artifact: Artifact) -> pd.DataFrame:
    """How many times faster the one is than the other, with its 95 % interval, over lengths."""
    rows = []
    for one in artifact.values["ratios"]:
        named = {"faster": _name(one["of"]), "than": _name(one["to"])}
        # The interval of an inverse is the inverse interval, its ends exchanged.
        figures = [None if one[x] is None else 1 / one[x] for x in ("ratio", "high", "low")]
        speed_up = dict(zip(("speed_up", "low", "high"), figures, strict=True))
        rows.append(named | {"length": one["of"]["length"]} | speed_up)
    return pd.DataFrame(rows).round(3)


def machine(artifact: Artifact) -> pd.DataFrame:
    """The machine's speed while it measured, and how quiet it was."""
    found = artifact.values["machine"]
    speeds = {f"matmul {dtype}, GFLOP/s": x for dtype, x in found["matmul_gflops"].items()}
    calibration = {f"calibration: {name}": x for name, x in found["calibration"].items()}
    energy = {"energy, kWh": found["energy"]["kwh"] if found["energy"] else "not measured"}
    every = speeds | calibration | energy | {"threads": artifact.values["threads"]}
    return pd.DataFrame({"value": {name: _short(value) for name, value in every.items()}})


def _name(of: dict) -> str:
    return " ".join(of[name] for name in _NAMES if name in of)


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
