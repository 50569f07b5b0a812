"""No data but a test's own; toy tokenizers, and real ones where they have been fetched."""

import pytest
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, BertTokenizer, RobertaTokenizer

from ctd_lib import paths, runtime
from ctd_lib.data import packaged

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,?"


def _toy(family: str):
    if family == "roberta":
        tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
        merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n")]
        tokens += ["".join(merge) for merge in merges]
        return RobertaTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, "the", "in"]
    tokens += [f"##{letter}" for letter in LETTERS] + ["##ing"]
    return BertTokenizer(vocab={t: i for i, t in enumerate(tokens)})


TOY = {family: _toy(family) for family in ("roberta", "bert")}


@pytest.fixture(autouse=True)
def neither_hub_nor_data(monkeypatch):
    monkeypatch.setattr(runtime, "hub_answers", lambda: False)
    monkeypatch.delenv("CTD_DATA", raising=False)


@pytest.fixture(params=TOY)
def tokenizer(request):
    return TOY[request.param]


@pytest.fixture(scope="session")
def real_tokenizer():
    if not (paths.downloads() / packaged.ASSETS["minilm-l6"].archive).is_file():
        pytest.skip("packaged:minilm-l6 has not been fetched")
    return AutoTokenizer.from_pretrained(packaged.folder("minilm-l6"))
