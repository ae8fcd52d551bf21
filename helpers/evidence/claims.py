"""The PSG-GAN paper's claims, judged by recorded runs: every verdict is computed here from the numbers of a table.

Claims compare systems paired by seed, and each reading of a claim gets a verdict by one rule: its 95 % interval lies
inside the region in which the claim would be true (holds), outside of it (does not hold), or across its border
(undecided). ``Claim`` says how the verdicts of its readings become one for each reading of PSG-GAN.
"""

from dataclasses import dataclass
from math import inf
from pathlib import Path

from helpers.evidence.comparison import (
    BANDS,
    BENCHMARK,
    COUNTED_MODES,
    LEAST_SEEDS,
    MAIN,
    Interval,
    Table,
    seconds_per_epoch,
)

# The paper sees SNGAN converge at epoch 125. The final level is a mean over the last fifth of a run, and can only be
# compared with what comes before: that fifth has to begin after epoch 125.
LEAST_EPOCHS = 160
FEW_DIGITS = "mnist_1000"  # the data set on which a discriminator can remember every image
HOLDS, FAILS, OPEN, DEPENDS = "holds", "does not hold", "undecided", "depends on the convention"
NO_SEEDS, TOO_SHORT, NOT_MEASURED = "not enough seeds yet", "runs too short", "not measured"


@dataclass(frozen=True)
class Finding:
    """One reading of a claim: the measured effect, and the region of effects in which the claim would be true."""

    method: str  # which reading of PSG-GAN
    reading: str  # which convention, or which part of the claim
    effect: Interval
    region: tuple[float, float]
    too_short: bool = False

    @property
    def verdict(self) -> str:
        low, high = self.region
        if not self.effect.seeds:
            return NOT_MEASURED
        if self.too_short:
            return TOO_SHORT
        if self.effect.seeds < LEAST_SEEDS:
            return NO_SEEDS
        if low < self.effect.low and self.effect.high < high:
            return HOLDS
        return FAILS if self.effect.high <= low or high <= self.effect.low else OPEN


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the measure shown for each system, and its findings.

    Findings of one method are either *conventions*, between which the paper leaves the choice, or *parts*, which must
    all be true for the claim to be.
    """

    text: str
    source: str
    how: str
    shown: dict[str, Interval]  # each system's number
    findings: list[Finding]
    parts: bool = False

    @property
    def verdicts(self) -> dict[str, str]:
        """Method -> verdict: the one of all its findings; else a part that fails decides, and conventions that are
        for and against make it depend on them; else undecided."""
        found: dict[str, set[str]] = {}
        for finding in self.findings:
            found.setdefault(finding.method, set()).add(finding.verdict)
        return {method: self._join(each) for method, each in found.items()}

    def _join(self, verdicts: set[str]) -> str:
        if len(verdicts) == 1:
            return next(iter(verdicts))
        if self.parts and FAILS in verdicts:
            return FAILS
        return DEPENDS if not self.parts and {HOLDS, FAILS} <= verdicts else OPEN

    def describe(self, method: str) -> str:
        """A method's verdict, and where it depends on the convention, what each of them gives."""
        verdict = self.verdicts.get(method, NOT_MEASURED)
        readings = [f"{f.reading} {f.verdict}" for f in self.findings if f.method == method]
        return f"{verdict} ({', '.join(readings)})" if verdict == DEPENDS else verdict


METHODS = {"psg_average": "average", "psg_algorithm1": "Algorithm 1"}


def paper_claims(table: Table, others: dict[str, Table] | None = None, benchmark: Path = BENCHMARK) -> list[Claim]:
    """Every claim of the paper about PSG-GAN, against the runs in the table; its cost against the benchmark.

    others: further data sets -> the tables of their runs: those with modes that can be counted, and one of few images
    """
    others = others or {}
    few = others.get(FEW_DIGITS, Table(0))

    def each(measures: dict[str, str], region, how="difference", other="sngan", change=None, short=False):
        """One finding for each reading of PSG-GAN and each measure (name -> its words)."""
        findings = []
        for system, method in METHODS.items():
            for name, words in measures.items():
                effect = table.effect(system, other, name, how)
                effect = effect.map(change) if change else effect
                findings.append(Finding(method, words, effect, region, short))
        return findings

    def counted():
        """More modes than the plain GAN's, on each set where they can be counted."""
        findings = []
        for dataset, name in COUNTED_MODES.items():
            counts = others.get(dataset, Table(0))
            for system in filter(counts.seeds, METHODS):
                effect = counts.effect(system, "gan", name)
                findings.append(Finding(METHODS[system], f"modes, {dataset}", effect, (0, inf)))
        return findings

    def shown(name):
        return {system: table.interval(system, name) for system in MAIN}

    def convergence(curve):
        return {f"convergence of {curve}, band {band:.0%}": f"band {band:.0%}" for band in BANDS}

    def ratio(seconds):
        """The widest ratio that the quartiles allow."""
        psg, sngan = seconds["psg_average"], seconds["sngan"]
        return Interval(psg.mean / sngan.mean, psg.low / sngan.high, psg.high / sngan.low, psg.seeds)

    cost = seconds_per_epoch(benchmark)
    gaps = {"gap": "L_D", "gap_halved": "L_D/2"}
    short = table.epochs < LEAST_EPOCHS
    third = (1 / 3 - 0.05, 1 / 3 + 0.05)
    levels = {"pick_accuracy": "pick", "binary_accuracy": "threshold 1/2", "d_real": "mean D(x)"}
    return [
        Claim(
            "PSG-GAN's losses have a smaller gap than SNGAN's",
            "abstract, 4.2",
            "final |L_D - L_G| minus SNGAN's; true below 0",
            shown("gap"),
            each(gaps, (-inf, 0)),
        ),
        Claim(
            "PSG-GAN's gap is smaller by about 40 %",
            "abstract, 4.2",
            "1 - final |L_D - L_G| / SNGAN's; true from 20 % to 60 %",
            shown("gap"),
            each(gaps, (0.2, 0.6), "reduction"),
        ),
        Claim(
            "PSG-GAN's losses converge earlier than SNGAN's (epoch 75 against 125)",
            "4.2, Fig. 3",
            "how many epochs earlier L_D stays in a band around its final level; true above 0",
            shown("convergence of d_loss, band 10%"),
            each(convergence("d_loss"), (0, inf), change=lambda epochs: -epochs, short=short),
        ),
        Claim(
            "PSG-GAN's accuracy converges earlier, by 10 % of a run of 500 epochs",
            "4.3, Fig. 4",
            "the same for the pick accuracy; true from 25 to 75 epochs",
            shown("convergence of pick_accuracy, band 10%"),
            each(convergence("pick_accuracy"), (25, 75), change=lambda epochs: -epochs, short=short),
        ),
        Claim(
            "PSG-GAN's accuracy settles near 0.33",
            "4.3, Fig. 4",
            "final level; true within 0.05 of 1/3",
            shown("pick_accuracy"),
            [
                Finding(method, words, table.interval(system, name), third)
                for system, method in METHODS.items()
                for name, words in levels.items()
            ],
        ),
        Claim(
            "PSG-GAN's losses run without large or sudden changes",
            "4.2, Fig. 3",
            "ratio of the epoch-to-epoch oscillation to SNGAN's; true below 1 for both losses",
            shown("oscillation_d"),
            each({"oscillation_d": "L_D", "oscillation_g": "L_G"}, (0, 1), "ratio"),
            parts=True,
        ),
        Claim(
            "PSG-GAN's digits are better than SNGAN's",
            "abstract, 4.4, Fig. 5",
            "FID (shown) of the mixture minus SNGAN's, true below 0; coverage, precision, recall: true above 0",
            shown("fid"),
            each({"fid": "FID"}, (-inf, 0))
            + each({name: name for name in ("coverage", "precision", "recall")}, (0, inf)),
            parts=True,
        ),
        Claim(
            "PSG-GAN overcomes mode collapse",
            "abstract, 3.2",
            "against the plain GAN: divergence of the digits' shares, true below 0; coverage (shown) and counted "
            "modes, true above 0",
            shown("coverage"),
            each({"class_js": "digits' shares"}, (-inf, 0), other="gan")
            + each({"coverage": "coverage"}, (0, inf), other="gan")
            + counted(),
            parts=True,
        ),
        Claim(
            "PSG-GAN eases overfitting",
            "abstract, 3.2",
            "trained on 1,000 digits: share of pairs in which D finds a training digit more real than an unseen one "
            "(1/2: nothing remembered), minus SNGAN's or the GAN's; true below 0",
            {system: few.interval(system, "membership_auc") for system in MAIN},
            [
                Finding(method, f"against {other}", few.effect(system, name, "membership_auc"), (-inf, 0))
                for system, method in METHODS.items()
                for name, other in (("sngan", "SNGAN"), ("gan", "the GAN"))
            ],
        ),
        Claim(
            "PSG-GAN needs less computation than SNGAN",
            "2, 3.1",
            "seconds per epoch in the benchmark (quartiles), ratio to SNGAN's; true below 1",
            next(iter(cost.values()), {}),
            [Finding("average", device, ratio(each), (0, 1)) for device, each in cost.items()]
            or [Finding("average", "time", Interval.of([]), (0, 1))],
        ),
    ]


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
    ("SNGAN with the hinge loss?", "sngan_hinge", "sngan"),
)
BETTER = {"fid": -1, "precision": 1, "recall": 1, "coverage": 1}  # the sign of an improvement
CONTROLS = tuple(dict.fromkeys(s for _, *pair in CONTRASTS for s in pair if s not in MAIN))


def direction(effect: Interval, name: str = "") -> str:
    """What an interval of a difference says in a word; better or worse where the measure's name has a good side."""
    if not effect.seeds:
        return NOT_MEASURED
    if effect.seeds < LEAST_SEEDS:
        return NO_SEEDS
    sign = (effect.low > 0) - (effect.high < 0)
    if name in BETTER:
        sign *= BETTER[name]
        return {1: "better", -1: "worse"}.get(sign, "no clear difference")
    return {1: "higher", -1: "lower"}.get(sign, "no clear difference")


def discussion(
    table: Table,
    controls: Table | None = None,
    others: dict[str, Table] | None = None,
    later: Table | None = None,
) -> str:
    """The result in a few sentences (Markdown), to be read and cited together with the limits beside it.

    controls: the table that the controls are compared in, where theirs is another number of epochs; others: as above;
    later: the table of the longest runs
    """
    controls, found = controls or table, paper_claims(table, others)
    counts = [len(table.seeds(system)) for system in MAIN if system in table.labels]
    seeds = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    failed = sum(len(table.diverged.get(system, ())) for system in MAIN)
    lines = [
        f"After {table.epochs} epochs, over {seeds} seeds for each of the main methods ({failed} runs diverged; "
        "the cost is from the benchmark):",
        "",
    ]
    for claim in found:
        each = {method: claim.describe(method) for method in METHODS.values() if method in claim.verdicts}
        same = set(each.values()) if len(each) > 1 else set()
        listed = "; ".join(f"{method} **{verdict}**" for method, verdict in each.items())
        lines.append(f"- {claim.text}: {f'**{same.pop()}**' if len(same) == 1 else listed or f'**{NOT_MEASURED}**'}.")
    lines += ["", f"What makes the difference, after {controls.epochs} epochs:", ""]
    measures = {"distance": "distance to equilibrium", "fid": "FID", "coverage": "coverage", "recall": "recall"}
    for question, system, other in CONTRASTS[:4]:
        effects = {name: controls.effect(system, other, name) for name in measures}
        listed = ", ".join(f"{measures[name]}: {direction(each, name)} ({each})" for name, each in effects.items())
        lines.append(f"- {question} {listed}.")
    if later and later.epochs > table.epochs:
        judged = "" if later.judged == later.epochs else f" (quality: to epoch {later.judged})"
        lines += ["", f"How the longest runs went on, from epoch {table.epochs} to epoch {later.epochs}{judged}:", ""]
        measures |= {"pick_accuracy": "pick accuracy"}
        for system in filter(later.seeds, later.labels):
            seeds = later.seeds(system)
            changes = (
                f"{words} from {Interval.of([table.value(system, seed, name) for seed in seeds])} "
                f"to {later.interval(system, name)}"
                for name, words in measures.items()
            )
            lines.append(f"- {later.labels[system]} (seeds: {', '.join(map(str, seeds))}): {', '.join(changes)}.")
    findings = [finding for claim in found for finding in claim.findings]
    decided = sum(finding.verdict in (HOLDS, FAILS) for finding in findings)
    lines += [
        "",
        f"{decided} of {len(findings)} readings are decided. An interval misses its true value in 5 % of repetitions, "
        "if seeds vary as a normal distribution does; the readings share runs, so errors come together, and nothing is "
        "corrected for their number.",
    ]
    return "\n".join(lines)
