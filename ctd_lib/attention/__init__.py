"""Exact attention of every arch, fast: swapped into native transformers models and out again.

`install(model)` gives the modules of a native model the classes of this package, which have the
same parameters and the same outputs; `uninstall(model)` gives them their own classes back. Names,
parameters and saved files never change.

A module of an arch has three functions: `install(model, **options)`, which swaps its own classes in
(see swap.py), `pattern(config, length, global_tokens=())` and `attention_flops(config, length)`.
"""

import importlib

from torch import Tensor, nn

from ctd_lib.attention import linear, swap
from ctd_lib.errors import CtdError

MODULES = {
    "longformer": "ctd_lib.attention.longformer",
    "big_bird": "ctd_lib.attention.bigbird",
    "nystromformer": "ctd_lib.attention.nystromformer",
    "lsg-roberta": "ctd_lib.attention.lsg",
    "lsg-bert": "ctd_lib.attention.lsg",
    "roberta": "ctd_lib.attention.full",
    "bert": "ctd_lib.attention.full",
    "distilbert": "ctd_lib.attention.full",
}
"""`model_type` of a transformers configuration -> the module that knows its attention."""


def module_of(config):
    """The module of this package that knows the attention of a configuration.

    Raises:
        CtdError: the model_type is none of those supported.
    """
    if config.model_type not in MODULES:
        known = ", ".join(MODULES)
        raise CtdError(
            f"There is no attention for models of type '{config.model_type}'; known are {known}."
        )
    return importlib.import_module(MODULES[config.model_type])


def install(model: nn.Module, **options) -> nn.Module:
    """Swaps the slow self-attention of a native model for ours: same weights, same outputs.

    Linear layers and GELU too; of a model with full attention these alone, so that archs differ in
    their attention and in nothing else.

    Args:
        model: a transformers model of a supported class, with or without a head; changed in place.
        options: options of the arch; `public=True` also reproduces transformers where it is wrong
            or limited.

    Raises:
        CtdError: the model is not supported, has it installed already, or an option is unknown.
    """
    if not hasattr(model, "config"):
        raise CtdError(f"{type(model).__name__} is not a transformers model: it has no config.")
    module = module_of(model.config)
    if installed(model):
        raise CtdError(
            f"The fast attention is installed in this {type(model).__name__} already;"
            " uninstall it first."
        )
    known = getattr(module, "OPTIONS", ("public",))
    if unknown := set(options) - set(known):
        raise CtdError(
            f"Unknown attention option {sorted(unknown)[0]!r}; known are {', '.join(known)}."
        )
    module.install(model, **options)
    swap.swap(model, linear.CLASSES)
    return model


def uninstall(model: nn.Module) -> nn.Module:
    """Gives a model transformers' own attention back; does nothing where none is installed."""
    swap.swap_back(model)
    return model


def installed(model: nn.Module) -> bool:
    """Whether `install` has been applied to this model."""
    return any(swap.swapped(module) for module in model.modules())


def pattern(config, length: int, global_tokens: tuple[int, ...] = ()) -> Tensor:
    """Who may attend to whom: (T, T) booleans, row = query, column = key; for pictures."""
    return module_of(config).pattern(config, length, global_tokens)


def flops(config, length: int, batch_size: int = 1) -> dict[str, int]:
    """FLOP of one forward of the base model, without embeddings and pooler.

    Counted are the multiplications and additions that the arch must do, not those that an
    implementation does.

    Returns:
        {"linear": FLOP of the linear layers, "attention": FLOP of the attention products}
    """
    width, inner = config.hidden_size, config.intermediate_size
    linear = 2 * length * (4 * width**2 + 2 * width * inner) * config.num_hidden_layers
    attention = module_of(config).attention_flops(config, length)
    return {"linear": batch_size * linear, "attention": batch_size * attention}


__all__ = ["flops", "install", "installed", "module_of", "pattern", "uninstall"]
