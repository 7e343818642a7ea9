"""The words and symbols of `configs/likeness.yaml` as lookup tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from magpie.similarity.config import SimilarityConfig, load_similarity


@dataclass(frozen=True)
class Lexicon:
    """Lookup lexicon and compiled patterns, made from the configuration."""

    commands: dict[str, str]
    characters: dict[int, str]
    functions: frozenset[str]
    names: frozenset[str]
    neutral: frozenset[str]
    asking: frozenset[str]
    telling: frozenset[str]
    unstemmed: frozenset[str]
    synonyms: dict[str, str]
    formats: re.Pattern[str]
    introductions: re.Pattern[str]
    meta: frozenset[str]
    talk: frozenset[str]
    phrases: re.Pattern[str]
    labels: frozenset[str]
    presenting: frozenset[str]
    moving: frozenset[str]
    opposites: tuple[frozenset[str], ...]
    restrictions: tuple[frozenset[str], ...]
    config: SimilarityConfig


@cache
def lexicon() -> Lexicon:
    """Return the lookup tables of `configs/likeness.yaml`."""
    config = load_similarity()
    tail = r"[^.?!\n\d\\=^<>+{}]{0,150}"
    formats = "|".join(f"(?:{pattern}){tail}" for pattern in config.answer_formats)
    rounding = "|".join(f"(?:{pattern})" for pattern in config.rounding)
    neutral = frozenset(config.instructions) | frozenset(config.stop_words)
    synonyms = {form: stem(group[0]) for group in config.synonyms for word in group for form in (word, stem(word))}

    def stems(words: list[str]) -> frozenset[str]:
        return frozenset(synonyms.get(word) or stem(word) for word in words)

    def asked(words: list[str]) -> frozenset[str]:
        return frozenset(word if word in config.unstemmed else stem(word) for word in words)

    characters = {ord(c): to for to, these in config.unicode.items() for c in these}
    return Lexicon(
        commands={command: to for to, these in config.latex.items() for command in these},
        characters=characters,
        functions=frozenset(config.functions),
        names=frozenset(config.functions) | frozenset(config.symbols),
        neutral=neutral,
        asking=asked(config.instructions) - frozenset(map(stem, config.telling)),
        telling=frozenset(config.telling),
        unstemmed=frozenset(config.unstemmed),
        synonyms=synonyms,
        formats=re.compile(rf"\b(?:(?:{formats})(?=[.?!\n]|$)|{rounding})"),
        introductions=re.compile(rf"[\s*#>_]*(?:{'|'.join(config.introductions)})[\s*_]*[.:!,;]?"),
        meta=asked([*config.meta, *config.talk, *neutral]),
        talk=frozenset(map(stem, config.talk)),
        phrases=re.compile(rf"\b(?:{'|'.join(map(re.escape, config.phrases))})\b"),
        labels=stems(config.labels),
        presenting=stems(config.presenting),
        moving=stems(config.moving),
        opposites=tuple(map(stems, config.opposites)),
        restrictions=tuple(map(stems, config.restrictions)),
        config=config,
    )


def stem(word: str) -> str:
    """Return a word without its inflectional endings; the stem need not be a word."""
    word = word.partition("'")[0]
    if len(word) < 4:
        return word
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("s", "")):
        if word.endswith(ending) and not word.endswith(("ss", "us", "is")):
            word = word[: -len(ending)] + instead
            break
    for ending in ("ing", "ed", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
                word = word[:-1]
            break
    return word.removesuffix("e") if len(word) > 3 else word
