"""A document's output does not depend on how far its batch is padded, Big Bird's excepted."""

import pytest
import torch
from toy_models import backbone, batch

from ctd_lib import ARCHS, attention
from ctd_lib.convert import convert

EXTRA = 48


@pytest.mark.parametrize("arch", ARCHS)
def test_padding_changes_nothing_but_in_big_bird(arch):
    model = attention.install(convert(backbone("bert"), arch, 256).model).eval()
    alone = batch(model.config, 200)
    padded = {name: torch.nn.functional.pad(x, (0, EXTRA)) for name, x in alone.items()}
    with torch.no_grad():
        expected, found = model(**alone).logits, model(**padded).logits[:, :-EXTRA]
    same = torch.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert same == (arch != "bigbird"), (found - expected).abs().max()
