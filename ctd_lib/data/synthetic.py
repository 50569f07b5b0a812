"""Generated press releases with a recurring cast, for long documents that no package has.

Every person, company and city comes first under a full name that gives its type away ("Maria
Houston", "Houston Group", "Houston, Ohio") and afterwards as one bare word. All these words are
surnames from one list, and many later sentences would fit a person, a company or a city alike ("The
report names Houston twice."): there only the first mention, far above, tells the type.
"""

import functools
import random
import re
from dataclasses import dataclass

from faker import Faker

from ctd_lib.data.formats import Question

WORDS = 800
CAST = {"PER": 4, "ORG": 3, "LOC": 3, "MISC": 2}
ANY = ("PER", "ORG", "LOC")
MENTION = re.compile(r"\{(PER|ORG|LOC|ANY|MISC|BS|NUMBER)\}")
NEUTRAL_SHARE = 0.4
PLAIN_SHARE = 0.3
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


@dataclass(frozen=True)
class Release:
    """A press release: sentences of words, each with its IOB2 tag, and its cast by type."""

    name: str
    sentences: tuple[tuple[tuple[str, str], ...], ...]
    cast: dict[str, tuple[str, ...]]

    @property
    def text(self) -> str:
        """The release as running text."""
        return " ".join(sentence_text(sentence) for sentence in self.sentences)


def sentence_text(sentence) -> str:
    """Tagged words as running text."""
    return re.sub(r" ([.,])", r"\1", " ".join(word for word, _ in sentence))


def press(count: int, words: int = WORDS, seed: int = 0, part: str = "train") -> list[Release]:
    """Press releases of about `words` words. Release i depends on words, seed, part and i alone."""
    return [_release(f"{part}-{seed}-{number}", words) for number in range(count)]


def press_questions(
    count: int, words: int = WORDS, seed: int = 0, part: str = "train"
) -> list[Question]:
    """A question about each of `count` press releases, answered by one sentence of it.

    Four sentences of a release give facts about its first company: press contact, phone number,
    head office, annual meeting. The question asks for one of them in the words of its sentence.
    Over the questions that sentence lies evenly from beginning to end (multiples of the golden
    ratio).
    """
    return [
        _question(release, number) for number, release in enumerate(press(count, words, seed, part))
    ]


@functools.cache
def _faker() -> Faker:
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


def _length(sentence) -> int:
    return len(sentence_text(sentence).split())


def _distinct(draw, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw()] = None
    return list(found)


def _introduction(kind: str, stem: str, rng: random.Random, faker: Faker):
    full, tail = {
        "PER": lambda: ([faker.first_name(), stem], []),
        "ORG": lambda: ([stem, *faker.company_suffix().split()], []),
        "LOC": lambda: ([stem], [",", *faker.state().split()]),
    }[kind]()
    named = _tagged(full, kind) + ([(",", "O"), *_tagged(tail[1:], "LOC")] if tail else [])
    before, after = rng.choice(INTRODUCTIONS[kind]).split("{full}")
    role = faker.job().split(",")[0].split("/")[0].lower()
    return (*_plain(before), *named, *_plain(after.replace("{role}", role)))


def _template(rng: random.Random) -> str:
    draw = rng.random()
    if draw < PLAIN_SHARE:
        return rng.choice(PLAIN)
    if draw < PLAIN_SHARE + (1 - PLAIN_SHARE) * NEUTRAL_SHARE:
        return rng.choice(NEUTRAL)
    return rng.choice(TYPED[rng.choice(list(TYPED))])


def _sentence(template: str, cast: dict[str, tuple[str, ...]], rng: random.Random, faker: Faker):
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


def _question(release: Release, number: int) -> Question:
    rng = random.Random(release.name)
    faker = _faker()
    faker.seed_instance(release.name)
    company = release.cast["ORG"][0]
    answers = {
        "press contact": faker.name_nonbinary(),
        "phone number": faker.numerify("###-###-####"),
        "head office": faker.street_address(),
        "annual meeting": f"{rng.randint(1, 28)} {faker.month_name()}",
    }
    sentences = [sentence_text(sentence) for sentence in release.sentences]
    asked = rng.choice(list(FACTS))
    others = [fact for fact in FACTS if fact != asked]
    for fact in others:
        sentences.insert(
            rng.randint(0, len(sentences)), FACTS[fact][1].format(company, answers[fact])
        )
    place = int((0.5 + SPREAD * number) % 1 * (len(sentences) + 1))
    before = " ".join([*sentences[:place], FACTS[asked][1].format(company, "")[:-1].rstrip()])
    context = " ".join([f"{before} {answers[asked]}.", *sentences[place:]])
    return Question(
        id=release.name,
        title=release.name,
        context=context,
        question=FACTS[asked][0].format(company),
        answers=((answers[asked], len(before) + 1),),
    )
