"""The systems that the paper names, at their published shapes, with random weights.

Time and memory do not depend on the weights, so that no model hub is needed. The shapes are those
of the published checkpoints' configurations.
"""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from ctd_lib import attention, lsg, models
from ctd_lib.measure import forwards
from ctd_lib.measure.contenders import not_possible

OURS, PUBLIC, LSG_CONVERTER = "ours", "transformers", "lsg-converter"
LANDMARKS = "Nystromformer, landmarks on"
BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "attention_probs_dropout_prob": 0.0,
}
ROBERTA = BASE | {
    "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
BERT = BASE | {"vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2}
NYSTROMFORMER = BASE | {
    "vocab_size": 30000, "max_position_embeddings": 4096, "type_vocab_size": 2,
    "hidden_act": "gelu_new", "num_landmarks": 64, "segment_means_seq_len": 64,
    "conv_kernel_size": 65,
}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What a checkpoint's configuration says."""

    arch: str
    """The run that measures it, one of ARCHS; references are measured with `full`."""
    model_type: str
    fields: dict
    extends: bool = False
    """Whether longer inputs than published are measured, with more positions, and labelled so."""


SHAPES = {
    "RoBERTa": Shape("full", "roberta", ROBERTA, True),
    "DistilRoBERTa": Shape("full", "roberta", ROBERTA | {"num_hidden_layers": 6}, True),
    "Longformer": Shape(
        "longformer", "longformer",
        ROBERTA | {"max_position_embeddings": 4098, "attention_window": 512}, True,
    ),
    "Big Bird": Shape(
        "bigbird", "big_bird",
        BASE | {
            "vocab_size": 50358, "max_position_embeddings": 4096, "type_vocab_size": 2,
            "hidden_act": "gelu_new", "layer_norm_eps": 1e-12, "block_size": 64,
            "num_random_blocks": 3, "attention_type": "block_sparse",
        }, True,
    ),
    "LSG": Shape(
        "lsg", lsg.LsgRobertaConfig.model_type,
        ROBERTA | {
            "max_position_embeddings": 4098, "block_size": 128, "sparse_block_size": 128,
            "sparsity_factor": 2, "sparsity_type": "norm", "num_global_tokens": 1,
            "pool_with_global": True,
        }, True,
    ),
    "Nystromformer": Shape("nystromformer", "nystromformer", NYSTROMFORMER, True),
    LANDMARKS: Shape("nystromformer", "nystromformer", NYSTROMFORMER, True),
    "BERT": Shape("full", "bert", BERT),
    "DistilBERT": Shape("full", "distilbert", {"vocab_size": 30522, "max_position_embeddings": 512,
                                               "n_layers": 6, "dim": 768, "n_heads": 12}),
    "TinyBERT-4": Shape("full", "bert", BERT | {
        "hidden_size": 312, "num_hidden_layers": 4, "intermediate_size": 1200,
    }),
    "TinyBERT-6": Shape("full", "bert", BERT | {"num_hidden_layers": 6}),
    "MobileBERT": Shape("full", "mobilebert", {
        "vocab_size": 30522, "max_position_embeddings": 512, "hidden_size": 512,
        "num_hidden_layers": 24, "num_attention_heads": 4, "intermediate_size": 512,
        "embedding_size": 128, "intra_bottleneck_size": 128, "num_feedforward_networks": 4,
        "key_query_shared_bottleneck": True, "normalization_type": "no_norm",
        "hidden_act": "relu", "classifier_activation": False,
    }),
    "ALBERT": Shape("full", "albert", BASE | {
        "vocab_size": 30000, "max_position_embeddings": 512, "embedding_size": 128,
        "hidden_act": "gelu_new",
    }),
    "XLM-R": Shape("full", "xlm-roberta", ROBERTA | {"vocab_size": 250002}),
    "ModernBERT": Shape("full", "modernbert", {
        "vocab_size": 50368, "max_position_embeddings": 8192, "hidden_size": 768,
        "num_hidden_layers": 22, "num_attention_heads": 12, "intermediate_size": 1152,
        "local_attention": 128, "global_attn_every_n_layers": 3,
    }),
}  # fmt: skip
"""By the name that tables show."""

REFERENCES = ("BERT", "DistilBERT", "TinyBERT-4", "TinyBERT-6", "MobileBERT", "ALBERT", "XLM-R",
              "ModernBERT")  # fmt: skip
OURS_TO_PUBLIC = (("teacher", "float32"), ("student", "bfloat16"))
STUDENTS = {"full": "DistilRoBERTa"}
TEACHERS = {
    "full": "RoBERTa", "longformer": "Longformer", "bigbird": "Big Bird", "lsg": "LSG",
    "nystromformer": "Nystromformer",
}  # fmt: skip


@dataclass(frozen=True)
class System:
    """One row's worth: a shape, how deep, by whom implemented, in which dtype."""

    name: str
    """One of SHAPES."""
    role: str
    """teacher, student or reference"""
    implementation: str = PUBLIC
    dtype: str = "float32"
    size: dict = field(default_factory=dict)
    """Fields of the configuration to set otherwise; for tests."""

    @property
    def arch(self) -> str:
        """The run that measures it."""
        return SHAPES[self.name].arch

    @property
    def positions(self) -> int:
        """The longest input as published."""
        return _positions(self.config())

    def fields(self) -> dict:
        """What its configuration says."""
        fields = SHAPES[self.name].fields | self.size
        if self.role == "student" and self.name not in STUDENTS.values():
            fields["num_hidden_layers"] //= 2
        return fields

    def config(self, length: int = 0) -> PreTrainedConfig:
        """Its configuration, with positions for an input of that length where it may have them."""
        config = AutoConfig.for_model(SHAPES[self.name].model_type, **self.fields())
        if SHAPES[self.name].extends:
            config.max_position_embeddings += max(0, length - _positions(config))
        return config

    def extended(self, length: int) -> bool:
        """Whether an input of that length takes more positions than were published."""
        return SHAPES[self.name].extends and length > self.positions

    def refusal(self, length: int) -> str | None:
        """Why that length is not possible, in one sentence."""
        if length <= self.positions or SHAPES[self.name].extends:
            return None
        return not_possible(self.positions)


def _positions(config: PreTrainedConfig) -> int:
    # XLM-R is RoBERTa, and cannot be converted here: `models` does not know it.
    reserved = config.pad_token_id + 1 if config.model_type == "xlm-roberta" else 0
    return models.max_length(config) - reserved


def of_arch(arch: str) -> list[System]:
    """What is measured together for an arch, the teacher as a user has it first."""
    teacher = TEACHERS[arch]
    student = STUDENTS.get(arch, teacher)
    public = LSG_CONVERTER if arch == "lsg" else PUBLIC
    found = [
        System(teacher, "teacher", public),
        System(teacher, "teacher", OURS),
        System(student, "student", OURS),
        System(student, "student", OURS, "bfloat16"),
        System(teacher, "teacher", OURS, "bfloat16"),
        System(student, "student", public),
    ]
    if arch == "nystromformer":
        found += [System(LANDMARKS, role) for role in ("teacher", "student")]
    if arch == "full":
        found += [System(name, "reference") for name in REFERENCES]
    return found


def pairs(systems: list[System]) -> list[tuple[int, int]]:
    """(of, to), numbers of systems: the student to its teacher of the same implementation and
    dtype, our teacher to the public one, our student in bfloat16 to the public teacher."""
    numbers = range(len(systems))
    return [(i, j) for i in numbers for j in numbers if _compared(systems[i], systems[j])]


def _compared(of: System, to: System) -> bool:
    if to.role != "teacher":
        return False
    if (of.role, of.implementation, of.dtype) == ("student", to.implementation, to.dtype):
        return of.name in (to.name, STUDENTS.get(to.arch))
    ours_to_public = of.implementation == OURS and to.implementation != OURS
    return ours_to_public and (of.role, of.dtype) in OURS_TO_PUBLIC


def build(system: System, length: int = 0, head: str = "base") -> PreTrainedModel:
    """The system with random weights, in evaluation mode, with positions for that length.

    Args:
        head: "base" or "masked-lm".

    """
    torch.manual_seed(0)
    auto = {"base": AutoModel, "masked-lm": AutoModelForMaskedLM}[head]
    model = auto.from_config(system.config(length)).to(forwards.DTYPES[system.dtype]).eval()
    return attention.install(model) if system.implementation == OURS else model


def prepare(system: System, model: PreTrainedModel, documents: list[int]) -> Callable[[], float]:
    """A forward of a built system, each call of which returns its seconds."""
    if system.name != LANDMARKS:
        return forwards.forward(model, documents)
    # transformers' Nystromformer has landmarks only where it is told the length of its input, which
    # is then a multiple of them; it takes no mask there.
    landmarks = model.config.num_landmarks
    for module in model.modules():
        if hasattr(module, "num_landmarks") and hasattr(module, "seq_len"):
            module.seq_len = math.ceil(max(documents) / landmarks) * landmarks
    given = forwards.inputs(model.config, model.device, documents, landmarks)
    del given["attention_mask"]
    return lambda: forwards.timed(model, given)


@functools.cache
def _parameters(model_type: str, fields: str) -> int:
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(model_type, **json.loads(fields)))
    return sum(p.numel() for p in model.parameters())


def parameters(system: System, length: int = 0) -> int:
    """Of the encoder that is timed, with positions for that length; nothing is allocated."""
    fields = system.config(length).to_diff_dict()
    return _parameters(fields.pop("model_type"), json.dumps(fields))
