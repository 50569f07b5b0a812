"""What holds of the forward of every arch."""

import weakref

import pytest
import torch
from toy_models import backbone, batch

from ctd_lib import ARCHS, attention, models
from ctd_lib.convert import convert

EXTRA = 48


def converted(arch: str):
    return attention.install(convert(backbone("bert"), arch, 256).model).eval()


@pytest.mark.parametrize("arch", ARCHS)
def test_padding_changes_nothing_but_in_big_bird(arch):
    model = converted(arch)
    alone = batch(model.config, 200)
    padded = {name: torch.nn.functional.pad(x, (0, EXTRA)) for name, x in alone.items()}
    with torch.no_grad():
        expected, found = model(**alone).logits, model(**padded).logits[:, :-EXTRA]
    same = torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert same == (arch != "bigbird"), (found - expected).abs().max()


@pytest.mark.parametrize("arch", ARCHS)
def test_only_what_was_asked_for_is_kept_of_the_layers(arch):
    model = converted(arch)
    first, *_, last = models.layers(model)
    made = []

    def keep_track(layer, inputs, output):
        made.append(weakref.ref(output[0] if isinstance(output, tuple) else output))

    alive = []
    first.register_forward_hook(keep_track)
    last.register_forward_hook(lambda *_: alive.append(made[-1]() is not None))
    for wanted in (False, True):
        with torch.inference_mode():
            found = model(**batch(model.config, 200), output_hidden_states=wanted).hidden_states
        assert alive[-1] == wanted
        assert (found is not None) == wanted
