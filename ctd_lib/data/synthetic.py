"""Generated press releases with a recurring cast, for long documents that no package has.

Every person, company and city comes first under a full name that gives its type away ("Maria
Houston", "Houston Group", "Houston, Ohio") and afterwards as one bare word. All these words are
surnames from one list, and many later sentences would fit a person, a company or a city alike ("The
report names Houston twice."): there only the first mention, far above, tells the type.
"""

import functools
import itertools
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctd_lib.data.formats import Question

if TYPE_CHECKING:
    from faker import Faker

WORDS = 500
CAST = {"PER": 4, "ORG": 3, "LOC": 3, "MISC": 2}
ANY = ("PER", "ORG", "LOC")
MENTION = re.compile(r"\{(PER|ORG|LOC|ANY|MISC|BS|NUMBER)\}")
NEUTRAL_SHARE = 0.4
PLAIN_SHARE = 0.3
FACTS_A_RELEASE = 2
SPREAD = (5**0.5 - 1) / 2

INTRODUCTIONS = {
    "PER": ("{full} joined as {role} this year .", "{full} , {role} , wrote the report ."),
    "ORG": ("{full} announced its results today .", "The plan was drawn up by {full} ."),
    "LOC": ("A new office has opened in {full} .", "The talks were held in {full} ."),
}
TYPED = {
    "PER": (
        "{PER} said the firm would {BS} .",
        "According to {PER} , the team will {BS} .",
        "{PER} thanked the staff for {NUMBER} years of work .",
        "{PER} and {PER} wrote the speech together .",
    ),
    "ORG": (
        "Shares of {ORG} rose {NUMBER} percent .",
        "{ORG} hired {NUMBER} engineers to {BS} .",
        "The directors of {ORG} want to {BS} .",
        "{ORG} won the {MISC} for its work .",
    ),
    "LOC": (
        "The plant in {LOC} employs {NUMBER} people .",
        "Trains to {LOC} leave every {NUMBER} minutes .",
        "Rents in {LOC} rose {NUMBER} percent .",
        "The road from {LOC} to {LOC} is closed .",
    ),
}
NEUTRAL = (
    "The report names {ANY} twice .",
    "The decision is good news for {ANY} .",
    "Nobody knows what comes next for {ANY} .",
    "Critics of {ANY} called the plan too slow .",
    "{ANY} is at the centre of the story .",
)
PLAIN = (
    "The board will {BS} and {BS} .",
    "The next step is to {BS} .",
    "About {NUMBER} guests came to the meeting .",
    "The programme runs for {NUMBER} months and should {BS} .",
)
FACTS = {
    "press contact": ("Who is the press contact of {0}?", "The press contact of {0} is {1}."),
    "phone number": ("What is the phone number of {0}?", "The phone number of {0} is {1}."),
    "head office": ("Where is the head office of {0}?", "The head office of {0} is at {1}."),
    "annual meeting": (
        "When is the annual meeting of {0}?",
        "The annual meeting of {0} is on {1}.",
    ),
}


Sentence = tuple[tuple[str, str], ...]
"""Words, each with its tag."""


@dataclass(frozen=True)
class Release:
    """A press release, tagged in IOB2, and its cast by type."""

    name: str
    sentences: tuple[Sentence, ...]
    cast: dict[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        """The release as running text."""
        return " ".join(sentence_text(sentence) for sentence in self.sentences)


def sentence_text(sentence: Sentence) -> str:
    """A sentence as running text."""
    return re.sub(r" ([.,])", r"\1", " ".join(word for word, _ in sentence))


def press(count: int, words: int = WORDS, seed: int = 0, part: str = "train") -> list[Release]:
    """Press releases of about `words` words. Release i depends on words, seed, part and i alone."""
    return [_release(f"{part}-{seed}-{number}", words) for number in range(count)]


def press_questions(
    count: int, words: int = WORDS, seed: int = 0, part: str = "train"
) -> list[Question]:
    """Questions about press releases, each answered by one sentence; two share a release.

    Two sentences of a release give facts about its first company: its press contact, phone number,
    head office or annual meeting. A question asks for one of them in the words of its sentence.
    To find such a sentence anywhere is worth half of the exact matches, to heed the question as
    well the other half. Over the questions the sentence lies evenly from beginning to end
    (multiples of the golden ratio).
    """
    releases = press(-(-count // FACTS_A_RELEASE), words, seed, part)
    asked = (q for number, release in enumerate(releases) for q in _questions(release, number))
    return list(itertools.islice(asked, count))


@functools.cache
def _faker() -> "Faker":
    from faker import Faker  # here: it reads its locales, which no other task waits for

    return Faker("en_US")


def _release(name: str, words: int) -> Release:
    rng = random.Random(name)
    faker = _faker()
    faker.seed_instance(name)
    stems = iter(_distinct(faker.last_name, sum(CAST.values())))
    cast = {kind: tuple(next(stems) for _ in range(number)) for kind, number in CAST.items()}
    opening = [_introduction(kind, stem, rng, faker) for kind in ANY for stem in cast[kind]]
    rng.shuffle(opening)
    sentences = opening
    length = sum(map(_length, sentences))
    while length < words:
        sentences.append(_sentence(_template(rng), cast, rng, faker))
        length += _length(sentences[-1])
    return Release(name, tuple(sentences), cast)


def _length(sentence: Sentence) -> int:
    return len(sentence_text(sentence).split())


def _distinct(draw, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw()] = None
    return list(found)


def _introduction(kind: str, stem: str, rng: random.Random, faker: "Faker") -> Sentence:
    before, after = rng.choice(INTRODUCTIONS[kind]).split("{full}")
    role = faker.job().split(",")[0].split("/")[0].lower()
    full = _full_name(kind, stem, faker)
    return (*_plain(before), *full, *_plain(after.replace("{role}", role)))


def _full_name(kind: str, stem: str, faker: "Faker") -> list[tuple[str, str]]:
    if kind == "PER":
        return _tagged([faker.first_name(), stem], kind)
    if kind == "ORG":
        return _tagged([stem, *faker.company_suffix().split()], kind)
    return [*_tagged([stem], kind), (",", "O"), *_tagged(faker.state().split(), kind)]


def _template(rng: random.Random) -> str:
    draw = rng.random()
    if draw < PLAIN_SHARE:
        return rng.choice(PLAIN)
    if draw < PLAIN_SHARE + (1 - PLAIN_SHARE) * NEUTRAL_SHARE:
        return rng.choice(NEUTRAL)
    return rng.choice(TYPED[rng.choice(list(TYPED))])


def _sentence(
    template: str, cast: dict[str, tuple[str, ...]], rng: random.Random, faker: "Faker"
) -> Sentence:
    waiting = {kind: rng.sample(members, len(members)) for kind, members in cast.items()}
    sentence = []
    for part in MENTION.split(template):
        kind = rng.choice(ANY) if part == "ANY" else part
        if kind in cast:
            # A prize keeps its full name: "the Houston Prize".
            tail = ["Prize"] if kind == "MISC" else []
            sentence += _tagged([waiting[kind].pop(), *tail], kind)
        elif part == "BS":
            sentence += _plain(faker.bs())
        elif part == "NUMBER":
            sentence += _plain(str(rng.randint(2, 90)))
        else:
            sentence += _plain(part)
    return tuple(sentence)


def _tagged(words: list[str], kind: str) -> list[tuple[str, str]]:
    return [(word, f"{'I' if number else 'B'}-{kind}") for number, word in enumerate(words)]


def _plain(text: str) -> list[tuple[str, str]]:
    return [(word, "O") for word in text.split()]


def _questions(release: Release, number: int) -> list[Question]:
    # A seed of its own: with the release's the contact would be named like its cast.
    rng = random.Random(f"{release.name}-question")
    faker = _faker()
    faker.seed_instance(f"{release.name}-question")
    answers = {
        "press contact": faker.name_nonbinary(),
        "phone number": faker.numerify("###-###-####"),
        "head office": faker.street_address(),
        "annual meeting": f"{rng.randint(1, 28)} {faker.month_name()}",
    }
    company = release.cast["ORG"][0]
    first = number * FACTS_A_RELEASE
    place_of = {
        fact: int((0.5 + SPREAD * (first + turn)) % 1 * (len(release.sentences) + 1))
        for turn, fact in enumerate(rng.sample(list(FACTS), FACTS_A_RELEASE))
    }
    context, start_of = "", {}
    for place in range(len(release.sentences) + 1):
        for fact in (fact for fact in place_of if place_of[fact] == place):
            before, after = FACTS[fact][1].replace("{0}", company).split("{1}")
            start_of[fact] = len(context) + len(before)
            context += f"{before}{answers[fact]}{after} "
        if place < len(release.sentences):
            context += f"{sentence_text(release.sentences[place])} "
    return [
        Question(
            id=f"{release.name}-{turn}",
            title=release.name,
            context=context.rstrip(),
            question=FACTS[fact][0].format(company),
            answers=((answers[fact], start_of[fact]),),
        )
        for turn, fact in enumerate(place_of)
    ]
