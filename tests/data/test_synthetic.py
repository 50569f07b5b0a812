"""Generated releases repeat by seed, introduce before they abbreviate, and hide answers evenly."""

import numpy as np
import pytest

from ctd_lib.data import synthetic
from ctd_lib.data.formats import parse_conll


def test_release_depends_on_seed_part_and_number_alone():
    three = synthetic.press(3, words=120)
    assert synthetic.press(2, words=120) == three[:2]
    assert three[0] != three[1]
    assert synthetic.press(1, words=120, seed=1) != three[:1]
    assert synthetic.press(1, words=120, part="test") != three[:1]


def test_tags_are_iob2_of_four_types():
    lines = []
    for release in synthetic.press(5):
        lines += ["-DOCSTART- O", ""]
        for sentence in release.sentences:
            lines += [f"{word} {tag}" for word, tag in sentence] + [""]
    documents = parse_conll(lines, "generated")
    types = {tag[2:] for d in documents for s in d.sentences for _, tag in s if tag != "O"}
    assert types == {"PER", "ORG", "LOC", "MISC"}


def test_full_name_comes_first_and_the_bare_word_later():
    for release in synthetic.press(10):
        words = [pair for sentence in release.sentences for pair in sentence]
        for kind in ("PER", "ORG", "LOC"):
            for stem in release.cast[kind]:
                places = [i for i, (word, _) in enumerate(words) if word == stem]
                first = places[0]
                full = {
                    "PER": words[first - 1][1] == "B-PER" and words[first][1] == "I-PER",
                    "ORG": words[first][1] == "B-ORG" and words[first + 1][1] == "I-ORG",
                    "LOC": words[first][1] == "B-LOC" and words[first + 1][0] == ",",
                }
                assert full[kind], (kind, stem)
                assert all(words[place][1] == f"B-{kind}" for place in places[1:])


def test_a_bare_word_in_the_same_sentence_is_of_several_types_over_releases():
    types = set()
    for release in synthetic.press(20):
        for sentence in release.sentences:
            words = [word for word, _ in sentence]
            if words[:3] == ["The", "report", "names"]:
                types.add(sentence[3][1])
    assert types == {"B-PER", "B-ORG", "B-LOC"}


@pytest.mark.parametrize("words", [200, 800])
def test_length_is_as_asked(words):
    for release in synthetic.press(5, words=words):
        assert words <= len(release.text.split()) < words + 20


def test_questions_have_their_answer_in_one_sentence_and_place():
    for question in synthetic.press_questions(30, words=300):
        ((answer, start),) = question.answers
        assert question.context[start : start + len(answer)] == answer
        company = question.question.removesuffix("?").split(" of ")[1]
        before = question.context[:start].rsplit(". ", 1)[-1]
        assert f"of {company} is" in before
        assert question.context.count(before) == 1


def test_answers_lie_evenly_over_the_document():
    questions = synthetic.press_questions(100, words=300)
    places = [q.answers[0][1] / len(q.context) for q in questions]
    counts, _ = np.histogram(places, bins=5, range=(0, 1))
    assert counts.min() >= 14 and counts.max() <= 26
