"""What the files of `configs/` hold beside models and fields: words, rules, thresholds. Read by config/load.py."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

import msgspec


class CleaningLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How short and how long a problem may be, and how much of a sample is looked at; in characters."""

    fewest_characters: int
    most_characters: int
    looked_at: int


class Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verbs that ask, by what they ask for."""

    closed: str
    proof: str
    open: str


class Cleaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/cleaning.yaml`: limits, and lists of words separated by commas."""

    limits: CleaningLimits
    asking: Asking
    interjections: str
    answer_headings: str
    problem_headings: str
    still_problem: str
    we_state: str
    no_verbs: str
    announces: str
    explains: str
    mathematics: str

    @property
    def vocabulary(self) -> frozenset[str]:
        """The words that make a text mathematics."""
        return _words(self.mathematics)


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))


class TagTasks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each mission of a language model asks, and what the judge of clean_ins.py is asked."""

    difficulty: str
    quality: str
    classification: str
    domain: str
    judge: str


class TagPrompts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/tags.yaml`: the frame of a question ({task}, {labels}, {shape}, {problem}) and the task of each mission.

    A problem of more than `most_characters` is shown up to there, with `cut_note` behind it.
    """

    most_characters: int
    cut_note: str
    question: str
    missions: TagTasks


Operator = (
    Literal["eq", "ne", "in", "not_in", "at_least", "at_most", "above", "below"]
    | Literal["exists", "contains", "not_contains", "ends_with", "not_ends_with"]
)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of `configs/filters`: what holds for a record that is kept.

    `field`: a key, a dotted path (`gen_response_configs.temperature`), or either with `|length` (characters of a text, entries
    of a list) or `|count` (entries that are not null). `reason`: what a record that the rule drops has as its `drop_reason`.
    `missing`: what becomes of a record without the field (null, too, unless `value` speaks of null). `made_by`: the stage that
    adds the field, for the error that says it is missing.
    """

    field: str
    op: Operator
    reason: str
    missing: Literal["error", "drop", "keep"]
    value: Any = msgspec.UNSET
    made_by: str = ""


class FilterPreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/filters`: a record is kept if every rule holds, and dropped for the first that does not."""

    rules: list[Rule]


class LikenessThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When two texts are the same problem; what each number is for is said in `configs/likeness.yaml`."""

    near_words: float
    least_cosine: float
    paraphrase: float
    paraphrase_few: float
    cosine_share: float
    formula_words: float


class NumberWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers in words, by what they do in a phrase."""

    units: dict[str, int]
    tens: dict[str, int]
    scales: dict[str, int]
    multiples: dict[str, int]
    fractions: dict[str, int]
    ordinals: dict[str, int]
    never_parts: list[str]


class Likeness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What tells whether two texts are the same problem. Lists of words in lower case; patterns are regular expressions."""

    thresholds: LikenessThresholds
    latex: dict[str, list[str]]
    unicode: dict[str, str]
    functions: list[str]
    symbols: list[str]
    answer_formats: list[str]
    rounding: list[str]
    introductions: list[str]
    meta: list[str]
    instructions: list[str]
    stop_words: list[str]
    unstemmed: list[str]
    synonyms: list[list[str]]
    phrases: dict[str, str]
    labels: list[str]
    symbol_names: dict[str, str]
    contrasts: list[str]
    soft_contrasts: list[str]
    numbers: NumberWords


class AnswerWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/verify/answers.yaml`: words that matter in an answer, and those that do not."""

    units: list[list[str]]
    nothing: list[str]
    stop_words: list[str]
    negations: list[str]
    quantifiers: list[str]
    narrowing: frozenset[str]
    synonyms: dict[str, str]


class DifficultyLevel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of `configs/verify/difficulty.yaml`: a label and the least pass rate that earns it."""

    label: str
    least: float


class SameAnswerPrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/prompts/same_answer.yaml`: what a judge of two answers is asked, and characters of the problem at most."""

    question: str
    most_characters: int


class BenchmarkEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A test set on the hub; what each key is for is said in `configs/benchmarks.yaml`."""

    repo: str
    columns: list[str]
    revision: str | None = None
    configs: list[str] = []
    split: str = "test"
    gated: bool = False
    private: bool = False


class BenchmarkList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/benchmarks.yaml`."""

    canaries: list[str]
    columns: list[str]
    benchmarks: dict[str, BenchmarkEntry]


class NGramRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule of `configs/contamination.yaml`: `size` in words and symbols, `share` 0 to 1."""

    size: Annotated[int, msgspec.Meta(ge=1)]
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    source: str


class LikenessWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each likeness of two texts adds to the score."""

    cosine: float
    numbers: float
    words: float
    formulas: float


class NeighbourRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the nearest problems by embedding are checked."""

    count: Annotated[int, msgspec.Meta(ge=1)]
    least_cosine: float
    least_score: Annotated[float, msgspec.Meta(ge=0, le=1)]
    intercept: float
    weights: LikenessWeights


class ContaminationRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/contamination.yaml`: when a problem counts as one of a benchmark's."""

    ngrams: list[NGramRule]
    neighbours: NeighbourRule


class DomainCues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/tagging/domains.yaml`: LaTeX command → what it is read as; field → its words, separated by commas."""

    commands: dict[str, str]
    cues: dict[str, str]


Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class PairSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of `configs/pairs`, where each setting is explained; a strategy leaves out those that it has no use for."""

    longest_ratio: Annotated[float, msgspec.Meta(ge=1)]
    least_votes: Annotated[int, msgspec.Meta(ge=2)] = 3
    least_agreement: Share = 0.0
    least_margin: Share = 0.0
    least_reward_margin: float | None = None
    chosen: Literal["reward", "shortest"] = "reward"
    rejected: Literal["tempting", "least"] = "tempting"
    rejected_by_vote: Literal["tempting", "least"] = "least"
    rejected_without_answer: bool = False
    longer_wins_limit: Share = 0.6


class Assumption(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure that plans are made with: its unit, and where it is from."""

    value: Annotated[float, msgspec.Meta(gt=0)]
    unit: str
    source: str


class PlannedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is assumed of some models, by their hub ids."""

    names: list[str]
    assumptions: dict[str, Assumption]


class Planning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`configs/planning.yaml`."""

    assumptions: dict[str, Assumption]
    models: list[PlannedModel]
