"""The paper's values are those that may be quoted, and each has a place in the headline table."""

import toy_records

from ctd_lib.report import paper, tables


def test_only_the_known_numbers_are_quoted():
    known = {98.6, 94.6, 98.8, 97.4, -57.8, -45.2, -2.6}
    assert {claim.value for claim in paper.CLAIMS} == known
    assert {claim.mark for claim in paper.CLAIMS} <= set(paper.MARKS)


def test_a_claim_says_no_more_than_is_known():
    """Of the two numbers of a summary that only say "about", and what is read into the abstract."""
    about = {claim.value for claim in paper.CLAIMS if "about" in claim.quantity}
    assert about == {97.4, -2.6}
    assert paper.STATEMENTS["long-ner"].mark == "I"


def test_every_claim_shows_once_beside_ours(load):
    headline = tables.headline(load(toy_records.make())).set_index("arch")
    for claim in paper.CLAIMS:
        [column] = [name for name in headline if name.startswith(claim.column)]
        assert headline.loc[f"paper, {claim.statistic}", column] == claim.value
    shown = headline.loc[["paper, mean", "paper, best"]].to_numpy().ravel().tolist()
    assert shown.count(paper.NOT_AVAILABLE) == len(shown) - len(paper.CLAIMS)
