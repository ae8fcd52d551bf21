"""The PSG-GAN paper's claims, judged by recorded runs: every verdict is computed here from the numbers of a table.

THE RULES, fixed on 2026-11-24, before any run of the new queue was looked at (known by then: seed 0 of all four main
systems and seed 1 of SNGAN over 500 epochs). They replace those of 2026-11-21, which are in this file's history.

1. *Length.* The paper's runs were probably 500 epochs long, so its claims are judged at 500. A verdict names its data
   set, its epochs and its seeds, and is made of runs of that one data set and length: what is measured elsewhere has a
   verdict of its own and outvotes nothing.
2. *Seeds.* Three of each system at least. Effects are Welch's (``inference``); FID and the oscillations are compared by
   logarithms, as ratios.
3. *A curve that still moves has no final level.* Each claim about a level, a gap, an oscillation or a convergence epoch
   first asks for a trend in the second half of the runs (``inference.Trend``). Where one of the systems' curves has
   one, the verdict is "does not settle"; where none has, but the seeds of one cannot tell, it is "undecided". A
   convergence epoch counts only if cutting the run in half leaves it the same within five epochs. Quality is judged as
   it is at the last epoch: a sample sheet needs no final level.
4. *A reading is decided* when the effect differs from every border of the region in which the claim is true: with
   Holm's correction for all readings of that claim by that method, at 5 % for all together.
5. *Readings become one verdict.* Parts of a claim must all hold, and one that fails decides; conventions that the
   paper leaves open and that are decided both ways give "depends on the convention". A part that is not measured, has
   too few seeds or does not settle is not outvoted: its word is the whole's, also where another part fails.
6. *0.33* has two readings more than before, both of which give 1/3 to a discriminator that has won or to any
   discriminator at all: they are judged like the others, and ``stability.called_real`` and ``mean_answer`` say why
   they show no equilibrium.
7. *Oscillation* is compared with SNGAN, whose loss has a small range by construction, and with the GAN.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path

from helpers.evidence.comparison import (
    BANDS,
    BENCHMARK,
    COUNTED_MODES,
    MAIN,
    Table,
    convergence,
    seconds_per_epoch,
)
from helpers.evidence.inference import LEAST_SEEDS, LEVEL, Effect, Interval, holm

# The paper sees SNGAN converge at epoch 125. The final level is a mean over the last fifth of a run, and can only be
# compared with what comes before: that fifth has to begin after epoch 125.
LEAST_EPOCHS = 160
FEW_DIGITS = "mnist_1000"  # the data set on which a discriminator can remember every image
HOLDS, FAILS, OPEN, DEPENDS = "holds", "does not hold", "undecided", "depends on the convention"
NO_SEEDS, TOO_SHORT, NOT_MEASURED = "not enough seeds yet", "runs too short", "not measured"
UNSETTLED = "does not settle"
# What no other reading outvotes, in this order.
NOT_OUTVOTED = (NOT_MEASURED, NO_SEEDS, TOO_SHORT, UNSETTLED)


@dataclass(frozen=True)
class Finding:
    """One reading of a claim: the measured effect, and the region of effects in which the claim would be true.

    convention: which of the meanings that the paper leaves open; part: which of the things that must all be true
    settles: whether the curves behind it have a final level; None where the seeds cannot tell
    """

    method: str  # which reading of PSG-GAN
    effect: Effect | Interval
    region: tuple[float, float]
    where: str  # the data set and the length
    convention: str = ""
    part: str = ""
    settles: bool | None = True
    too_short: bool = False

    @property
    def reading(self) -> str:
        return ", ".join(filter(None, (self.convention, self.part)))

    @property
    def obstacle(self) -> str | None:
        """Why no effect can decide this reading, if anything speaks against it."""
        seeds = (self.effect.seeds,) if isinstance(self.effect, Interval) else self.effect.seeds
        if not min(seeds):
            return NOT_MEASURED
        if self.too_short:
            return TOO_SHORT
        if min(seeds) < LEAST_SEEDS:  # a benchmark's rounds, too
            return NO_SEEDS
        return UNSETTLED if self.settles is False else OPEN if self.settles is None else None

    @property
    def inside(self) -> bool:
        return self.region[0] < self.effect.mean < self.region[1]

    @property
    def p(self) -> float:
        """The p value of the border that would make the other answer right; from inside, of the likelier border."""
        p_values = [self.effect.p(border) for border in self.region if abs(border) < inf]
        if self.inside:
            return max(p_values)
        low, high = self.region
        return self.effect.p(low if self.effect.mean <= low else high)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the measure shown for each system, and its findings in one or more places."""

    text: str
    source: str
    how: str
    shown: dict[str, dict[str, Interval]]  # where -> each system's number
    findings: list[Finding]

    @cached_property
    def verdict_of(self) -> dict[Finding, str]:
        """The verdict of every single reading, with Holm's correction for those of one method in one place."""
        found = {finding: finding.obstacle for finding in self.findings}
        for method, where in {(f.method, f.where) for f in self.findings}:
            judged = [f for f in self.findings if (f.method, f.where) == (method, where) and not f.obstacle]
            for finding, p in zip(judged, holm([f.p for f in judged]), strict=True):
                found[finding] = OPEN if p >= LEVEL else HOLDS if finding.inside else FAILS
        return found

    @property
    def places(self) -> list[str]:
        """Where the claim is judged: the data set and length of its findings, the paper's own first."""
        return list(dict.fromkeys(finding.where for finding in self.findings))

    def verdicts(self, where: str | None = None) -> dict[str, str]:
        """Method -> verdict in one place, by default the first."""
        where = where or (self.places or [""])[0]
        here = [finding for finding in self.findings if finding.where == where]
        return {method: self._join(here, method) for method in dict.fromkeys(f.method for f in here)}

    def _join(self, findings: list[Finding], method: str) -> str:
        by_convention: dict[str, set[str]] = {}
        for finding in findings:
            if finding.method == method:
                by_convention.setdefault(finding.convention, set()).add(self.verdict_of[finding])
        verdicts = {_all_parts(each) for each in by_convention.values()}
        if len(verdicts) == 1:
            return verdicts.pop()
        if {HOLDS, FAILS} <= verdicts:
            return DEPENDS
        return next((word for word in NOT_OUTVOTED if word in verdicts), OPEN)

    def describe(self, method: str, where: str | None = None) -> str:
        """A method's verdict, and where it depends on the convention, what each of them gives."""
        where = where or (self.places or [""])[0]
        verdict = self.verdicts(where).get(method, NOT_MEASURED)
        mine = [f for f in self.findings if (f.method, f.where) == (method, where)]
        readings = [f"{f.reading} {self.verdict_of[f]}" for f in mine]
        return f"{verdict} ({', '.join(readings)})" if verdict == DEPENDS else verdict


def _all_parts(verdicts: set[str]) -> str:
    """The verdict of a whole whose parts must all be true."""
    if len(verdicts) == 1:
        return next(iter(verdicts))
    return next((word for word in NOT_OUTVOTED if word in verdicts), FAILS if FAILS in verdicts else OPEN)


METHODS = {"psg_average": "average", "psg_algorithm1": "Algorithm 1"}
OTHERS = {"sngan": "against SNGAN", "gan": "against the GAN"}


def paper_claims(
    table: Table,
    others: dict[str, Table] | None = None,
    benchmark: Path = BENCHMARK,
    methods: dict[str, str] = METHODS,
) -> list[Claim]:
    """Every claim of the paper about PSG-GAN, against the runs in the table; its cost against the benchmark.

    others: further data sets -> the tables of their runs: those with modes that can be counted, and one of few images;
    methods: the systems that are judged -> their names
    """
    others = others or {}
    few = others.get(FEW_DIGITS, Table(0, dataset=FEW_DIGITS))

    def against(other, name, region, unit, curve=None, **words):
        """One finding for each reading of PSG-GAN: its effect against another system."""
        return [
            Finding(
                method,
                table.effect(system, other, name, unit),
                region,
                table.where,
                settles=table.settles((system, other), curve) if curve else True,
                **words,
            )
            for system, method in methods.items()
        ]

    def earlier(curve, region):
        """How many epochs before SNGAN a curve converges, in every band."""
        findings = []
        for band in BANDS:
            name = convergence(curve, band)
            for system, method in methods.items():
                pair = (system, "sngan")
                same = all(table.same_when_halved(each, name) for each in pair)
                findings.append(
                    Finding(
                        method,
                        table.effect(*pair, name, "earlier"),
                        region,
                        table.where,
                        f"band {band:.0%}",
                        settles=table.settles(pair, curve) if same else False,
                        too_short=table.epochs < LEAST_EPOCHS,
                    )
                )
        return findings

    def more_modes(dataset):
        """More modes than the plain GAN's, on a set where they can be counted."""
        counts, name = others[dataset], COUNTED_MODES[dataset]
        return [
            Finding(method, counts.effect(system, "gan", name), (0, inf), counts.where, part="counted modes")
            for system, method in methods.items()
        ]

    def shown(name, of=table):
        return {of.where: {system: of.interval(system, name) for system in MAIN}}

    def flat(lists):
        return [finding for findings in lists for finding in findings]

    modes_shown = {}
    for dataset, name in COUNTED_MODES.items():
        if dataset in others:
            modes_shown |= shown(name, others[dataset])
    gaps = {"gap": "L_D", "gap_halved": "L_D/2"}
    third = (1 / 3 - 0.05, 1 / 3 + 0.05)
    levels = {
        "pick_accuracy": "pick",
        "binary_accuracy": "threshold 1/2",
        "d_real": "mean D(x)",
        "called_real": "share called real",
        "mean_answer": "mean of all answers",
    }
    oscillations = {"oscillation_d": ("L_D", "d_loss"), "oscillation_g": ("L_G", "g_loss")}
    found = [
        Claim(
            "PSG-GAN's losses have a smaller gap than SNGAN's",
            "abstract, 4.2",
            "final |L_D - L_G| minus SNGAN's; true below 0",
            shown("gap"),
            flat(against("sngan", n, (-inf, 0), "difference", n, convention=words) for n, words in gaps.items()),
        ),
        Claim(
            "PSG-GAN's gap is smaller by about 40 %",
            "abstract, 4.2",
            "1 - final |L_D - L_G| / SNGAN's; true from 20 % to 60 %",
            shown("gap"),
            flat(against("sngan", n, (0.2, 0.6), "reduction", n, convention=words) for n, words in gaps.items()),
        ),
        Claim(
            "PSG-GAN's losses converge earlier than SNGAN's (epoch 75 against 125)",
            "4.2, Fig. 3",
            "how many epochs earlier L_D stays in a band around its final level; true above 0",
            shown(convergence("d_loss", 0.1)),
            earlier("d_loss", (0, inf)),
        ),
        Claim(
            "PSG-GAN's accuracy converges earlier, by 10 % of a run of 500 epochs",
            "4.3, Fig. 4",
            "the same for the pick accuracy; true from 25 to 75 epochs",
            shown(convergence("pick_accuracy", 0.1)),
            earlier("pick_accuracy", (25, 75)),
        ),
        Claim(
            "PSG-GAN's accuracy settles near 0.33",
            "4.3, Fig. 4",
            "final level; true within 0.05 of 1/3",
            shown("pick_accuracy"),
            [
                Finding(
                    method,
                    table.level(system, name),
                    third,
                    table.where,
                    words,
                    settles=table.settles((system,), name),
                )
                for name, words in levels.items()
                for system, method in methods.items()
            ],
        ),
        Claim(
            "PSG-GAN's losses run without large or sudden changes",
            "4.2, Fig. 3",
            "ratio of the epoch-to-epoch oscillation to the other's; true below 1 for both losses",
            shown("oscillation_d"),
            flat(
                against(other, name, (0, 1), "ratio", curve, convention=words, part=loss)
                for other, words in OTHERS.items()
                for name, (loss, curve) in oscillations.items()
            ),
        ),
        Claim(
            "PSG-GAN's digits are better than SNGAN's",
            "abstract, 4.4, Fig. 5",
            "FID (shown) of the mixture against SNGAN's, ratio true below 1; coverage, precision, recall: true above 0",
            shown("fid"),
            against("sngan", "fid", (0, 1), "ratio", part="FID")
            + flat(
                against("sngan", name, (0, inf), "difference", part=name)
                for name in ("coverage", "precision", "recall")
            ),
        ),
        Claim(
            "PSG-GAN overcomes mode collapse",
            "abstract, 3.2",
            "against the plain GAN: divergence of the digits' shares, true below 0; coverage (shown), true above 0; "
            "elsewhere: counted modes, true above 0",
            shown("coverage") | modes_shown,
            against("gan", "class_js", (-inf, 0), "difference", part="digits' shares")
            + against("gan", "coverage", (0, inf), "difference", part="coverage")
            + flat(more_modes(dataset) for dataset in COUNTED_MODES if dataset in others),
        ),
        Claim(
            "PSG-GAN eases overfitting",
            "abstract, 3.2",
            "trained on 1,000 digits: share of pairs in which D finds a training digit more real than an unseen one "
            "(1/2: nothing remembered), minus the other's; true below 0",
            shown("membership_auc", few),
            [
                Finding(method, few.effect(system, other, "membership_auc"), (-inf, 0), few.where, words)
                for other, words in OTHERS.items()
                for system, method in methods.items()
            ],
        ),
    ]
    return found + ([_cost(benchmark)] if table.dataset == "mnist" and "psg_average" in methods else [])


def _cost(benchmark: Path) -> Claim:
    """The one claim that needs no record; its intervals are the quartiles of the benchmark's rounds."""

    def ratio(seconds):
        """The widest ratio that the quartiles allow."""
        psg, sngan = seconds["psg_average"], seconds["sngan"]
        return Interval(psg.mean / sngan.mean, psg.low / sngan.high, psg.high / sngan.low, psg.seeds)

    cost = seconds_per_epoch(benchmark)
    return Claim(
        "PSG-GAN needs less computation than SNGAN",
        "2, 3.1",
        "seconds per epoch of MNIST in the benchmark (quartiles), ratio to SNGAN's; true below 1",
        {f"benchmark on {device}": each for device, each in cost.items()},
        [Finding("average", ratio(each), (0, 1), f"benchmark on {device}") for device, each in cost.items()]
        or [Finding("average", Interval.of([]), (0, 1), "benchmark")],
    )


# The first is the sum of the next two.
CONTRASTS = (
    ("PSG-GAN's whole effect?", "psg_average", "gan"),
    ("Merely more fakes?", "gan_double_fakes", "gan"),
    ("Two generators, with as many fakes?", "psg_average", "gan_double_fakes"),
    ("Averaging rather than summing?", "psg_average", "psg_sum"),
    ("Two generators of half the width, with as many fakes?", "psg_half_width", "gan_double_fakes"),
    ("Four generators rather than two?", "psg_4", "psg_average"),
    ("Algorithm 1 rather than the average loss?", "psg_algorithm1", "psg_average"),
    ("Algorithm 1 per batch rather than per triple?", "psg_algorithm1_batch", "psg_algorithm1"),
    ("D at rest when x wins?", "psg_algorithm1_fooled", "psg_algorithm1"),
    ("Spectral norm instead?", "sngan", "gan"),
    ("Spectral norm as well?", "psg_sn", "psg_average"),
    ("Two generators, with spectral norm?", "psg_sn", "sngan"),
    ("SNGAN with the hinge loss?", "sngan_hinge", "sngan"),
)
BETTER = {"fid": -1, "precision": 1, "recall": 1, "coverage": 1}  # the sign of an improvement
CONTROLS = tuple(dict.fromkeys(s for _, *pair in CONTRASTS for s in pair if s not in MAIN))


def direction(effect: Effect, name: str = "") -> str:
    """What an effect says in a word (one test, uncorrected): better or worse where the measure has a good side."""
    if not min(effect.seeds):
        return NOT_MEASURED
    if not effect.enough:
        return NO_SEEDS
    low, high = effect.ends
    nothing = 1 if effect.unit == "ratio" else 0
    sign = (low > nothing) - (high < nothing)
    if name in BETTER:
        sign *= BETTER[name]
        return {1: "better", -1: "worse"}.get(sign, "no clear difference")
    return {1: "higher", -1: "lower"}.get(sign, "no clear difference")
