"""The student before it is taught: a model of its teacher's class, begun with its weights."""

import copy

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ctd_lib import attention, models
from ctd_lib.errors import CtdError

LAYER_MAPS = ("even", "odd", "distilbert", "first", "last")


def layer_map(teacher_layers: int, student_layers: int, name: str = "even") -> list[int]:
    """The teacher layer that each student layer starts from.

    "even" takes every other layer from the first on, "odd" from the second on; where the depth is
    not halved, they spread evenly and include the first, or the last, layer. "distilbert" are the
    layers of the published DistilBERT, [0, 2, 4, 7, 9, 11], for 12 layers to 6 only.

    Raises:
        CtdError: the name is unknown or the numbers of layers do not fit.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise CtdError(
            f"student_layers is {student_layers}; this teacher allows 1 to {teacher_layers}."
        )
    if name == "even":
        return [i * teacher_layers // student_layers for i in range(student_layers)]
    if name == "odd":
        return [(i + 1) * teacher_layers // student_layers - 1 for i in range(student_layers)]
    if name == "first":
        return list(range(student_layers))
    if name == "last":
        return list(range(teacher_layers - student_layers, teacher_layers))
    if name == "distilbert":
        if (teacher_layers, student_layers) != (12, 6):
            raise CtdError(
                "layer map 'distilbert' is for 12 teacher and 6 student layers, not"
                f" {teacher_layers} and {student_layers}; use 'even'."
            )
        return [0, 2, 4, 7, 9, 11]
    raise CtdError(f"layer map {name!r} is unknown; use one of {', '.join(LAYER_MAPS)}.")


def output_map(layer_map: list[int], teacher_layers: int) -> list[int]:
    """The teacher layer whose output each student layer is to give.

    It is the input of the teacher layer that the next student layer starts from; for the last
    student layer it is the teacher's last output.
    """
    return [layer - 1 for layer in layer_map[1:]] + [teacher_layers - 1]


def student_from_teacher(
    teacher: PreTrainedModel, layer_map: list[int], hidden_size: int | None = None
) -> PreTrainedModel:
    """A new model of the teacher's class with these of its layers, and all else copied.

    It is in evaluation mode, on the teacher's device, and has the fast attention if the teacher
    has. The teacher is left as it is.

    A narrower student keeps the size of the attention heads and has fewer of them, and a
    feed-forward size in the same proportion. Of every tensor it takes the leading part of each
    dimension: the first `hidden_size` values of each embedding, LayerNorm and bias, the first
    heads (rows of the query, key and value projections, columns of the one after attention), the
    first rows of the feed-forward layer. That is a start, not a small copy of the teacher: what the
    dropped values contributed is gone.

    Args:
        layer_map: teacher layers, from the student's first to its last.
        hidden_size: width of the student; None: the teacher's.

    Raises:
        CtdError: a layer is not one of the teacher's, or the width is no whole number of its heads.
    """
    teacher_layers = models.layers(teacher)
    if any(not 0 <= layer < len(teacher_layers) for layer in layer_map):
        raise CtdError(
            f"layer map {layer_map} names a layer that the teacher, with layers 0 to"
            f" {len(teacher_layers) - 1}, does not have."
        )
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(layer_map)
    # Longformer has one window per layer.
    if isinstance(windows := getattr(config, "attention_window", None), list):
        config.attention_window = [windows[layer] for layer in layer_map]
    if hidden_size is not None:
        narrow(config, hidden_size)
    student = type(teacher)(config).to(teacher.device, teacher.dtype)

    prefix = next(name for name, module in teacher.named_modules() if module is teacher_layers)
    state = {
        name: tensor
        for name, tensor in teacher.state_dict().items()
        if not name.startswith(f"{prefix}.")
    }
    for index, layer in enumerate(layer_map):
        for name, tensor in teacher_layers[layer].state_dict().items():
            state[f"{prefix}.{index}.{name}"] = tensor
    shapes = {name: tensor.shape for name, tensor in student.state_dict().items()}
    student.load_state_dict(
        {name: _leading(tensor, shapes[name]) for name, tensor in state.items()}
    )
    if attention.installed(teacher):
        attention.install(student)
    return student.eval()


def narrow(config: PreTrainedConfig, hidden_size: int) -> None:
    """Give a configuration another width, with heads of the same size.

    Raises:
        CtdError: it is no whole number of the heads, or wider.
    """
    head_size = config.hidden_size // config.num_attention_heads
    if hidden_size > config.hidden_size or hidden_size % head_size:
        raise CtdError(
            f"student_hidden_size is {hidden_size}; with the teacher's heads of {head_size} it is"
            f" a multiple of {head_size} up to {config.hidden_size}."
        )
    config.intermediate_size = config.intermediate_size * hidden_size // config.hidden_size
    config.num_attention_heads = hidden_size // head_size
    config.hidden_size = hidden_size


def _leading(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tensor[tuple(slice(0, size) for size in shape)]
