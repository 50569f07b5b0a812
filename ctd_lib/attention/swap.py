"""Swapping the classes of a model's modules: parameters, names and saved files stay as they are."""

from torch import nn


class Swapped:
    """Base of every class of ours that stands in for a class of transformers, its last base."""

    public = False
    """Whether to reproduce transformers also where it is wrong or limited."""


def swapped(module: nn.Module) -> bool:
    """Whether a module has one of our classes."""
    return isinstance(module, Swapped)


def swap(model: nn.Module, classes: dict[type, type], public: bool = False) -> None:
    """Gives every module whose class is a key of `classes` the class that it maps to."""
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]
            module.public = public


def swap_back(model: nn.Module) -> None:
    """Gives every swapped module of a model its own class back."""
    for module in model.modules():
        if swapped(module):
            module.__class__ = type(module).__bases__[-1]
            module.__dict__.pop("public")
