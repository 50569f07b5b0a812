"""The model card: what a model is, how it was made, what was measured of it, how to open it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import yaml
from huggingface_hub import EvalResult, ModelCardData

NOT_MEASURED = "Not measured."
PAPER = "https://doi.org/10.18653/v1/2023.emnlp-industry.6"
PIPELINES = {
    "masked-lm": ("fill-mask", "AutoModelForMaskedLM"),
    "sequence-classification": ("text-classification", "AutoModelForSequenceClassification"),
    "token-classification": ("token-classification", "AutoModelForTokenClassification"),
    "question-answering": ("question-answering", "AutoModelForQuestionAnswering"),
    "base": ("feature-extraction", "AutoModel"),
}
"""Head -> its task on the hub, and the class of transformers that opens it."""
NAMES = {
    "full": "full attention",
    "longformer": "Longformer attention",
    "bigbird": "Big Bird attention",
    "lsg": "LSG attention",
    "nystromformer": "Nystromformer attention",
}
LIMITS = {
    "full": "",
    "longformer": "Plain `transformers` pads the input to a multiple of the window and is slower; "
    "given the same `global_attention_mask`, the outputs are the same.",
    "bigbird": "Outside of training plain `transformers` takes block 0 for every random block, and "
    "attends fully in short inputs: its outputs differ from those of `ctd_lib`, with which the "
    "model was trained and measured. In both, a document's output depends on the padding of its "
    "batch.",
    "lsg": "`transformers` has no LSG: `import ctd_lib.lsg` registers it.",
    "nystromformer": "Plain `transformers` takes inputs of exactly `segment_means_seq_len` tokens "
    "and no padding; `ctd_lib` takes any.",
}
GLOBAL_TOKENS = {
    "none": "no token",
    "first": "the first token",
    "question": "the first token and those of the question",
}
"""Policy of global attention -> the tokens that have it."""


@dataclass(frozen=True)
class Score:
    """One task's scores, as its records have them; None where there is no record."""

    task: str
    metric: str
    score: float
    """Of this model, finetuned."""
    teacher: float | None
    """Of its teacher, finetuned alike."""
    examples: int
    source: str
    licence: str


@dataclass(frozen=True)
class Facts:
    """All that a card says."""

    arch: str
    role: str
    head: str
    """One of `models.HEADS`."""
    task: str | None
    """What it was finetuned on, if it was."""
    max_length: int
    parameters: int
    backbone: str
    """Its specification: packaged:NAME, local:NAME or a hub id."""
    licences: dict[str, str]
    """Of the backbone and of each corpus and data set, by their names."""
    settings: dict
    """The parameters of the run."""
    provenance: dict
    """Of the artifact that holds the weights."""
    key: str
    global_attention: str | None = None
    """Longformer, finetuned: the policy that it was trained and measured with."""
    scores: Sequence[Score] = ()
    timings: Sequence[dict] = ()
    """Rows of `measure.latency` and `measure.peak_memory`, teacher's and student's."""
    timed_on: str = ""
    """The machine of `timings`, as `runtime.processor` names it."""
    forms: Sequence[dict] = ()
    """Rows of `export.forms.measure`."""
    forms_on: str = ""
    """The machine of `forms`."""

    @property
    def name(self) -> str:
        """E.g. roberta-base-longformer-student-conll2003."""
        backbone = self.backbone.split(":")[-1].split("/")[-1]
        return "-".join(filter(None, (backbone, self.arch, self.role, self.task)))


def text(facts: Facts) -> str:
    """The whole README.md: metadata for the hub, then prose and tables."""
    _, auto_class = PIPELINES[facts.head]
    return f"""---
{_metadata(facts)}
---

# {facts.name}

{_what(facts)}

## How it was made

By Convert-Then-Distill ([Brown et al., 2023]({PAPER})) with `ctd_lib`, artifact `{facts.key}`,
commit `{facts.provenance["commit"] or "unknown"}`, {facts.provenance["date"]}, with these
parameters:

```yaml
{yaml.safe_dump(facts.settings, sort_keys=False).strip()}
```

## Measured

### Score kept

{_scores(facts.scores)}

### Time and memory

{_timings(facts)}

### Other forms of this model

{_forms(facts)}

## How to open it

```python
{_import(facts.arch)}from transformers import AutoTokenizer, {auto_class}

model = {auto_class}.from_pretrained("FOLDER_OR_HUB_ID")
tokenizer = AutoTokenizer.from_pretrained("FOLDER_OR_HUB_ID")
```

or, with the attention that was measured here,

```python
from ctd_lib import models

model = models.load("FOLDER_OR_HUB_ID", "{facts.head}")
```

## Limits

{_limits(facts)}

## Licences

{_table(("what", "licence"), facts.licences.items())}
"""


def _metadata(facts: Facts) -> str:
    task = PIPELINES[facts.head][0]
    results = [
        EvalResult(
            task_type=task,
            dataset_type=found.task,
            dataset_name=f"{found.task} ({found.source})",
            metric_type=found.metric,
            metric_value=found.score,
        )
        for found in facts.scores
        if found.task == facts.task
    ]
    data = ModelCardData(
        license=_licence(facts.licences[facts.backbone]),
        library_name="transformers",
        pipeline_tag=task,
        tags=["convert-then-distill", "long-context", facts.arch, facts.role],
        base_model=None if ":" in facts.backbone else facts.backbone,
        model_name=facts.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _licence(name: str) -> str:
    """The hub's word for a licence; `other` where it has none."""
    known = {"Apache-2.0": "apache-2.0", "MIT": "mit", "CC0-1.0": "cc0-1.0"}
    return known.get(name, "other")


def _what(facts: Facts) -> str:
    made = "a student distilled from" if facts.role == "student" else "a teacher made from"
    tuned = f", finetuned on {facts.task}" if facts.task else ""
    return (
        f"An encoder with {NAMES[facts.arch]}, {made} `{facts.backbone}`{tuned}: "
        f"{facts.parameters:,} parameters, inputs of up to {facts.max_length:,} tokens."
    )


def _scores(scores: Sequence[Score]) -> str:
    rows = [
        (
            found.task,
            found.metric,
            _number(found.score, 3),
            _number(found.teacher, 3),
            _kept(found),
            found.examples,
            found.source,
        )
        for found in scores
    ]
    names = ("task", "metric", "this model", "teacher", "kept, %", "test examples", "source")
    return _table(names, rows) if rows else NOT_MEASURED


def _kept(found: Score) -> str:
    return _number(100 * found.score / found.teacher, 1) if found.teacher else "not measured"


def _timings(facts: Facts) -> str:
    rows = [
        (
            row["role"],
            row["length"],
            row["batch_size"],
            _number(row["seconds_median"], 4),
            _mebibytes(row["peak_bytes"]),
        )
        for row in facts.timings
    ]
    names = ("model", "tokens", "batch size", "seconds, median", "peak memory, MiB")
    if not rows:
        return NOT_MEASURED
    first = facts.timings[0]
    documents = "of that many tokens" if first["workload"] == "fixed" else "of unequal lengths"
    said = f"{first['dtype']} on {facts.timed_on}; batches of documents {documents}."
    return f"{said}\n\n{_table(names, rows)}"


def _forms(facts: Facts) -> str:
    rows = [
        (
            row["form"],
            row["length"],
            _number(row["seconds_median"], 4),
            _mebibytes(row["peak_bytes"]),
            _mebibytes(row["file_bytes"]),
            _number(row["score"], 3),
        )
        for row in facts.forms
    ]
    names = ("form", "tokens", "seconds, median", "peak memory, MiB", "file, MiB", "score")
    return f"On {facts.forms_on}.\n\n{_table(names, rows)}" if rows else NOT_MEASURED


def _limits(facts: Facts) -> str:
    texts = [
        f"- Inputs end at {facts.max_length:,} tokens.",
        "- The numbers above hold for the data, machine and seed of their records.",
        "- It has the biases of its backbone and of the texts that it was trained on.",
    ]
    if facts.task is None:
        texts.append("- It was not finetuned: finetune it on your task before you use it.")
    if LIMITS[facts.arch]:
        texts.append(f"- {LIMITS[facts.arch]}")
    if policy := facts.global_attention:
        tokens = GLOBAL_TOKENS.get(policy, f"the first of {policy.replace('-', ' ')} tokens")
        texts.append(
            f"- It was trained and measured with global attention at {tokens}. Give "
            "`global_attention_mask`, of the shape of `input_ids`, 1 there and 0 elsewhere: "
            "without one each head of `transformers` has a rule of its own, and that for questions "
            "demands the separators of RoBERTa."
        )
    return "\n".join(texts)


def _import(arch: str) -> str:
    return "import ctd_lib.lsg\n" if arch == "lsg" else ""


def _table(names: Sequence[str], rows: Iterable[Sequence]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "not measured" if value is None else f"{value:.{digits}f}"


def _mebibytes(value: int | None) -> str:
    return "not measured" if value is None else f"{value / 2**20:.0f}"
