"""Models as graphs of plain operations, whose batch size and length stay open, for ONNX.

The fast attention calls kernels of the CPU and looks at its input to decide what to do; a graph can
do neither. Here every arch is written once more for a whole batch: each run of queries gathers the
keys that it may see, masks do what conditions would, one softmax. Nothing of length x length is
made but in the arch `full`. The weights are those of the model.
"""

import copy
import importlib

from torch import Tensor, nn
from transformers import PreTrainedModel

from ctd_lib import attention, models
from ctd_lib.attention import linear, swap
from ctd_lib.errors import CtdError

ARCHS = {
    "longformer": "ctd_lib.export.graphs.longformer",
    "bigbird": "ctd_lib.export.graphs.bigbird",
    "lsg": "ctd_lib.export.graphs.lsg",
    "nystromformer": "ctd_lib.export.graphs.nystromformer",
}
"""Arch -> the module whose `install` swaps its classes in; `full` is transformers' own."""
OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state")


class Graph(nn.Module):
    """A model with tensors in and tensors out.

    Raises:
        CtdError: the model is none of the archs, or a decoder.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        arch = models.arch_of(model)
        if getattr(model.config, "is_decoder", False):
            raise CtdError("a decoder has no graph here; export an encoder.")
        self.inputs = input_names(model)
        self.model = attention.uninstall(copy.deepcopy(model)).cpu().float().eval()
        swap.swap(self.model, {native: linear.CLASSES[native] for native in linear.GELUS})
        if arch in ARCHS:
            importlib.import_module(ARCHS[arch]).install(self.model)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        global_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """(B, T) each -> the outputs that the model's head has, in the order of OUTPUTS."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        given |= {"global_attention_mask": global_attention_mask, "token_type_ids": token_type_ids}
        output = self.model(**{name: given[name] for name in self.inputs})
        return tuple(output[name] for name in OUTPUTS if name in output)


def input_names(model: PreTrainedModel) -> list[str]:
    """What the graph of a model takes, named as transformers names it."""
    names = ["input_ids", "attention_mask"]
    if models.arch_of(model) == "longformer":
        names.append("global_attention_mask")
    if model.config.type_vocab_size > 1 and not _makes_token_types(model):
        names.append("token_type_ids")
    return names


def answers_questions(model: PreTrainedModel) -> bool:
    """Whether a model has the head of question answering."""
    return "ForQuestionAnswering" in type(model).__name__


def _makes_token_types(model: PreTrainedModel) -> bool:
    """Whether the model tells question and context apart by itself, as Big Bird's does.

    Its rule is that of the tokenizers that give token types. RoBERTa's gives none, and zeros in
    their place would be another model.
    """
    return models.arch_of(model) == "bigbird" and answers_questions(model)


def output_names(model: PreTrainedModel) -> list[str]:
    """What it gives."""
    if answers_questions(model):
        return ["start_logits", "end_logits"]
    return ["logits" if "For" in type(model).__name__ else "last_hidden_state"]
