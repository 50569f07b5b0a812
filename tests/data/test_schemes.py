"""Every tag scheme becomes IOB2, entity by entity, and it is said so."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctd_lib.data import schemes
from ctd_lib.errors import CtdError

RELAXED = [HealthCheck.function_scoped_fixture]
# Stretches of words: a type with the number of its words, or None for one word outside.
STRETCHES = st.lists(
    st.tuples(st.sampled_from([None, "PER", "LOC"]), st.integers(1, 3)), min_size=1, max_size=6
)


def iob2(stretches):
    tags = []
    for kind, count in stretches:
        tags += ["O"] if kind is None else [f"B-{kind}", *[f"I-{kind}"] * (count - 1)]
    return tags


def iob1(stretches):
    tags, previous = [], None
    for kind, count in stretches:
        opening = f"{'B' if kind == previous else 'I'}-{kind}"
        tags += ["O"] if kind is None else [opening, *[f"I-{kind}"] * (count - 1)]
        previous = kind
    return tags


def bioes(stretches, last="E", single="S"):
    tags = []
    for kind, count in stretches:
        if kind is None:
            tags.append("O")
        elif count == 1:
            tags.append(f"{single}-{kind}")
        else:
            tags += [f"B-{kind}", *[f"I-{kind}"] * (count - 2), f"{last}-{kind}"]
    return tags


def bilou(stretches):
    return bioes(stretches, "L", "U")


def converted(sentences):
    places = [range(len(tags)) for tags in sentences]
    return schemes.to_iob2(sentences, places, "toy line {}".format, "toy")


@pytest.mark.parametrize("write", [iob2, iob1, bioes, bilou])
@given(documents=st.lists(STRETCHES, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
def test_every_scheme_becomes_iob2(write, documents):
    wanted = [iob2(stretches) for stretches in documents]
    assert converted([write(stretches) for stretches in documents]) == wanted


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (["I-PER", "O"], "toy: IOB1 tags converted"),
        (["S-PER", "O"], "toy: BIOES tags converted"),
        (["B-PER", "I-PER"], ""),
    ],
)
def test_a_conversion_is_said(tags, said, capsys):
    converted([tags])
    assert said in capsys.readouterr().out
    assert bool(said) == (tags != converted([tags])[0])


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        (["O", "PER"], "toy line 1: tag 'PER' is no IOB2 tag"),
        (["B-PER", "O", "I-LOC"], "toy line 2: tag 'I-LOC' continues no entity"),
        (["S-PER", "O", "E-LOC"], "toy line 2: tag 'E-LOC' continues no entity"),
    ],
)
def test_what_is_of_no_scheme_is_refused(tags, says):
    with pytest.raises(CtdError, match=says):
        converted([tags])
