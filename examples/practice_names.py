"""Invented names, none of them the sample's: of syllables by rule, people's also of names that people have.

A name that belongs to the sample is never given out, nor is any name given out twice. The given and family
names in `practice_people.toml` are of many languages, without those that somebody in the sample bears. Were the
people that practice asks for named otherwise than bystanders, the sound of a name would give the answer away.
"""

import random
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_uppercase

from examples.entities import slug
from examples.tables import read_rows


@dataclass(frozen=True, slots=True)
class Style:
    """How the words of one family of languages sound.

    Attributes:
      onsets, vowels, codas, endings: parts of words, separated by spaces.
      particles: what may stand between a given name and a family name, `_` for a space.
      prefixes: what a family name may begin with.
    """

    onsets: str
    vowels: str
    codas: str
    endings: str
    particles: str = ""
    prefixes: str = ""


STYLES = (
    Style(
        "b c d f g j l m n p r s t v br cr gr tr pl qu ch gu ll",
        "a a e e i o o u ia ie ue á é í ó ú ã",
        "n r s l m z",
        "a o os as ia illo ero ada ín ón ão és ez gal alpa igua uela dor ños ça",
        "de de_la da dos del y e",
    ),
    Style(
        "b d f g h k l m n p r s t w br dr fr gr kl kn sch schw st str kr v",
        "a e i o u ei au ie ö ü ä oo ee ij",
        "n r l m ck ch ng nd rt st ff ss lt tz",
        "burg en berg heim stadt wald er mann feld dorf hoff stein linger rich ert old haven",
        "von van van_der de zu",
    ),
    Style(
        "b d f g h k l m n p r s t v bj fj gr hj kj kr sk skj st sv tr",
        "a e i o u å ø ö ä y ei au æ",
        "n r l m g k nd rg st ll ss ld",
        "sen sson vik borg ström holm sund fjell lund und gren stad quist ius dal ing næs rud mäki nen",
        "af",
    ),
    Style(
        "b d g k l m n p r s t v z br dr gr kr pr sk sl st tr vl zh ch kh ml č š ž ř cz sz",
        "a e i o u y ia ie ě á ý ą ę",
        "n r l m k v s t j ć ń sk",
        "ov ev ova ić ski ska enko grad itsa ava ev in ina uk ovo any slav mir ysh chuk ice dor vice",
    ),
    Style(
        "b d f h j k l m n q r s t w y z kh gh sh th dh ʼ",
        "a a i u aa ee ou ai ā ī ū",
        "b d l m n r s t f h q sh kh",
        "ah an ar ad id am oud ain iya uddin ullah een our ab aq ib at ef is",
        "bin ben al al- Al ibn Ould bint",
        "Al- al- Abdel_ El_ Abu_",
    ),
    Style(
        "b d f g k l m n p s t w y z mb nd ng nk nt mw kw gw ts bw ny nts gb kp dj",
        "a a e i o u ou aa ia ua é è",
        "m n",
        "a i u e o ane ambe ongo isha ula anga ombo ize awi ele ouagou ugou dougou oni ema assa undu wande",
        "",
        "N' M' Di_",
    ),
    Style(
        "f g h k l m n p r s t v w ng ʻ",
        "a e i o u a u ai au ei oa ua ā ō ū",
        "",
        "alofa iti ulu ava ona efu atu oro ki fai uku pia ele unga afa ui oti iau iki",
    ),
    Style(
        "b c d g h j k l m n p s t w x y z ch sh zh th ph kh ng ny tr nh hy br",
        "a e i o u ai ao ia uo ou eo ae ươ ă ô à ị ố",
        "n ng m p t k",
        "ang ong in un yang ung ai eng ao hok won ee ian uan eun ing anh iyar ith apon atra",
    ),
    Style(
        "b d g h k l m n p q r s t y z ch sh gh kh zh",
        "a e i o u ö ü ı y aa uu ai oi",
        "l r n m k t z s sh g q y",
        "bek bay abad stan kent oğlu gul an ov uly yev dar khan maz tash giin tu aral ulaan baatar muradov",
    ),
    Style(
        "b c d f g k l m n p r s t th ph ch st sp kr pr x z ps",
        "a e i o u ae eu ai ou",
        "n r s l x m",
        "os is us as ion opoulos akis ides idis ium eia ea ene polis otis anis issa",
    ),
    Style(
        "b bh d dh g gh h j k kh l m n p r s sh t th v y ch pr sr tr",
        "a a aa i ee o u e ai au",
        "n r m l t nd sh",
        "pur esh endra am aya ani war nath ika raj an eri avan jee singhe wela ratne esan uram abad anda",
    ),
    Style(
        "b c d f g h j k l m n p r s t w br cl cr dr fl gl gr pl sh st str th tr wh",
        "a e i o u ea ee oo ai ou ow",
        "n r l m d t ck nd rt ll st ss th",
        "ton ford ham ley ington wood land more by bridge field well son worth shire mouth dale ney croft",
        "",
        "Mac Mc O' Fitz",
    ),
    Style(
        "b c d f g h j l m n p r s t v br cr dr fl gr pl pr tr ch gu qu",
        "a e i o u ai eau ou eu é è ê oi ie",
        "n r l s t x",
        "eau ier ard ois ont ille ac euil ault et otte ières ange ogne ège ais and ac ique",
        "de du de_la d' le",
        "Le_ La_ De_ Du",
    ),
)

# groups of forms, each group with its weight
Forms = Sequence[tuple[int, Sequence[str]]]

_VOWELS = "aeiou"
_CONSONANTS = "bcdfghjklmnprstvwz"
_NUMERALS = ("II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIV")
_ATTEMPTS = 1000
_BY_SYLLABLES = 0.4  # of people
_PEOPLE = Path(__file__).with_name("practice_people.toml")


@cache
def real_names() -> frozenset[str]:
    """The slugs of all names and values in the sample's fact tables, numbers left out."""
    return frozenset(
        slug(value)
        for table in ("countries", "elements", "offices")
        for row in read_rows(table)
        for value in row.values()
        if value and not re.search(r"\d", value)
    )


@cache
def people() -> tuple[tuple[Sequence[str], Sequence[str]], ...]:
    """Given and family names of each region, without those with a word of any name in the sample."""
    real = {word for name in real_names() for word in name.split("-")}

    def others(names: str) -> list[str]:
        readable = (name.replace("_", " ") for name in names.split())
        return [name for name in readable if real.isdisjoint(slug(name).split("-"))]

    regions = tomllib.loads(_PEOPLE.read_text(encoding="utf-8"))["people"]
    return tuple((others(region["given"]), others(region["family"])) for region in regions)


class Names:
    """Gives out invented names, each once.

    Args:
      rng: the same stream gives the same names.
      taken: slugs that are never given out; the names given out are added.
    """

    def __init__(self, rng: random.Random, taken: set[str]) -> None:
        self.rng = rng
        self._taken = taken
        self._real = real_names()

    def fresh(self, make: Callable[[], str]) -> str:
        """The first of the names made that is new and has no word that is a name of the sample.

        Raises:
          ValueError: there is no such name.
        """
        for _ in range(_ATTEMPTS):
            name = make()
            key = slug(name)
            if len(key) > 1 and key not in self._taken and self._is_invented(name):
                self._taken.add(key)
                return name
        raise ValueError(f"no new name found in {_ATTEMPTS} attempts")

    def _is_invented(self, name: str) -> bool:
        words = [slug(word) for word in name.split() if word[0].isupper()]
        return slug(name) not in self._real and not any(word in self._real for word in words)

    def style(self) -> Style:
        return self.rng.choice(STYLES)

    def word(self, style: Style | None = None, syllables: tuple[int, ...] = (1, 1, 2, 2, 2, 3)) -> str:
        """A capitalised word, such as `Tegurimba`; not yet checked for being new."""
        rng = self.rng
        style = style or self.style()
        count = rng.choice(syllables)
        parts = ["" if rng.random() < 0.12 else self._onset(style)]
        for position in range(count):
            if position:
                parts.append(self._onset(style))
            plain = rng.random() < 0.55
            parts.append(rng.choice(_VOWELS if plain else style.vowels.split()))
            if style.codas and rng.random() < 0.25:
                parts.append(rng.choice(style.codas.split()))
        if count == 1 or rng.random() < 0.9 - 0.3 * (count - 1):
            ending = rng.choice(style.endings.split())
            if parts[-1][-1] in _VOWELS and ending[0] in _VOWELS:
                parts.append(self._onset(style))
            parts.append(ending)
        word = re.sub(r"(\w)\1\1+", r"\1\1", "".join(parts).lstrip("ʼʻ"))
        if len(word) > 5 and rng.random() < 0.02:
            middle = len(word) // 2
            word = word[:middle] + rng.choice("-'") + word[middle:]
        return word[0].upper() + word[1:].replace("ʼ", "'").replace("ʻ", "'")

    def _onset(self, style: Style) -> str:
        """What a syllable begins with, mostly one letter."""
        onsets = style.onsets.split()
        onset = self.rng.choice(onsets)
        return onset if len(onset) == 1 or self.rng.random() < 0.4 else self.rng.choice(onsets)

    def formed(self, forms: Forms) -> str:
        """A name in one of the forms, its words of one style."""
        style = self.style()
        return self.form(forms).format(self.word(style), self.word(style))

    def form(self, forms: Forms) -> str:
        """One of the forms, with `{}` where its words go."""
        (_, group) = self.rng.choices(forms, [weight for weight, _ in forms])[0]
        return self.rng.choice(group)

    def person(self) -> str:
        """A name for a person or, now and then, a monarch."""
        by_syllables = self.rng.random() < _BY_SYLLABLES
        return self._person_of_syllables() if by_syllables else self._person_of_a_region()

    def _person_of_a_region(self) -> str:
        rng = self.rng
        given_names, family_names = rng.choice(people())
        given, family = rng.choice(given_names), rng.choice(family_names)
        match rng.choices(range(10), (50, 10, 4, 4, 8, 8, 6, 4, 4, 2))[0]:
            case 1:
                return f"{given} {rng.choice(given_names)} {family}"
            case 2:
                return f"{given}-{rng.choice(given_names)} {family}"
            case 3:
                return f"{given} {rng.choice(_NUMERALS)}"
            case 4:
                return f"{given} {family} {rng.choice(family_names)}"
            case 5:
                return f"{family} {given}"
            case 6:
                return f"{given} {rng.choice(rng.choice(people())[1])}"
            case 7:
                return f"{given} {rng.choice(ascii_uppercase)}. {family}"
            case 8:
                return f"{given} {rng.choice(given_names)} {family} {rng.choice(family_names)}"
            case 9:
                return f"{given} {family} {given}"
        return f"{given} {family}"

    def _person_of_syllables(self) -> str:
        rng, style = self.rng, self.style()
        short = (1, 1, 1, 2)
        given, family = self.word(style, short), self.word(self.style() if rng.random() < 0.1 else style)
        if style.prefixes and rng.random() < 0.3:
            family = rng.choice(style.prefixes.split()).replace("_", " ") + family
        match rng.choices(range(7), (50, 16, 6, 5, 10, 8, 5))[0]:
            case 1:
                return f"{given} {self.word(style, short)} {family}"
            case 2:
                return f"{given}-{self.word(style, short)} {family}"
            case 3:
                return f"{given} {rng.choice(_NUMERALS)}"
            case 4 if style.particles:
                particle = rng.choice(style.particles.split()).replace("_", " ")
                return f"{given} {particle} {family}".replace("- ", "-").replace("' ", "'")
            case 5:
                return f"{given} {family} {self.word(style)}"
            case 6:
                return given
        return f"{given} {family}"

    def altered(self, name: str) -> str:
        """A name that differs from another in one or two letters of its main word."""
        rng = self.rng
        words = name.split(" ")
        if words[0] == "the":  # `the Bora Islands`, `the Republic of the Bora`
            chosen = len(words) - 1 if "of" in words else 1
        else:
            chosen = max(range(len(words)), key=lambda position: len(words[position]))
        for _ in range(rng.choice((1, 1, 2))):
            words[chosen] = self._altered_word(words[chosen])
        return " ".join(words)

    def _altered_word(self, word: str) -> str:
        rng = self.rng
        place = rng.randrange(len(word))
        letter = word[place].lower()
        letters = _VOWELS if letter in _VOWELS else _CONSONANTS
        new = rng.choice(letters.replace(letter, ""))
        kind = rng.choice(("replace", "replace", "insert", "drop"))
        if kind == "insert" or len(word) < 4:
            changed = word[: place + 1] + rng.choice(_VOWELS + _CONSONANTS) + word[place + 1 :]
        else:
            changed = word[:place] + ("" if kind == "drop" else new) + word[place + 1 :]
        return changed[0].upper() + changed[1:] if word[0].isupper() else changed
