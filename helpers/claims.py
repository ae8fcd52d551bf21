"""The PSG-GAN paper's claims, judged by recorded runs: every number and every verdict is computed here from records.

A ``Table`` holds one number per system, seed and measure, all after the same epoch. Claims compare systems in it,
paired by seed, and each reading of a claim gets a verdict by one rule: its 95 % interval lies inside the region in
which the claim would be true (holds), outside of it (does not hold), or across its border (undecided). ``Claim`` says
how the verdicts of its readings become one for each reading of PSG-GAN.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from math import exp, inf, isnan, log, nan
from pathlib import Path

import numpy as np

from helpers import metrics, records
from helpers.history import History

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "results.json"
BENCHMARKED = {"gan": "gan", "sngan": "sngan", "psg_average": "psg_2"}  # system -> the benchmark's name

MAIN = ("gan", "sngan", "psg_average", "psg_algorithm1")
LEAST_SEEDS = 3  # fewer give no verdict: an interval from two seeds is wider than anything worth saying
BANDS = (0.05, 0.1, 0.2)
# The paper sees SNGAN converge at epoch 125. The final level is a mean over the last fifth of a run, and can only be
# compared with what comes before: that fifth has to begin after epoch 125.
LEAST_EPOCHS = 160
HOLDS, FAILS, OPEN, DEPENDS = "holds", "does not hold", "undecided", "depends on the convention"
NO_SEEDS, TOO_SHORT, NOT_MEASURED = "not enough seeds yet", "runs too short", "not measured"


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval (Student's t); low and high are NaN for a single seed."""

    mean: float
    low: float
    high: float
    seeds: int
    values: tuple[float, ...] = ()  # one per seed

    @classmethod
    def of(cls, values) -> "Interval":
        values = [float(value) for value in values if not isnan(value)]
        return cls(*metrics.across_seeds(values), len(values), tuple(values)) if values else cls(nan, nan, nan, 0)

    def map(self, function: Callable[[float], float]) -> "Interval":
        """The interval of an increasing or decreasing function of the mean."""
        low, high = sorted((function(self.low), function(self.high)))
        return Interval(function(self.mean), low, high, self.seeds, tuple(map(function, self.values)))

    def by_seed(self) -> str:
        """The mean and every seed's own number: no interval of three can say more than these."""
        return f"{self.mean:.3g} ({', '.join(f'{value:.3g}' for value in self.values)})" if self.values else str(self)

    def __str__(self) -> str:
        if not self.seeds:
            return "—"
        shown = f"{self.mean:.3g}"
        return shown if isnan(self.low) else f"{shown} [{self.low:.3g}, {self.high:.3g}]"


# ---- from records to one number per system, seed and measure --------------------------------------------------------


def read_all(dataset: str = "mnist", systems=None, runs=records.RUNS) -> dict[str, list[records.Record]]:
    """All readable records of a data set: system -> records by seed. Systems without any are left out.

    systems: by default the main methods and their controls
    """
    found = {system: records.load_runs(system, dataset, runs=runs) for system in systems or (*MAIN, *CONTROLS)}
    return {system: each for system, each in found.items() if each}


def common_epochs(runs: dict[str, list[records.Record]], systems=MAIN, seeds: int = LEAST_SEEDS) -> int:
    """The most epochs that ``seeds`` runs of each of these systems have (or all its runs, where it has fewer).

    Runs that diverged do not shorten the comparison; ``tabulate`` counts them.
    """
    whole = ([len(run.history) for run in runs.get(s, ()) if run.history.status != "diverged"] for s in systems)
    return min((sorted(lengths, reverse=True)[:seeds][-1] for lengths in whole if lengths), default=0)


def first_epochs(history: History, epochs: int) -> History:
    """The history as it stood after so many epochs."""
    events = [event for event in history.events if event["epoch"] <= epochs]
    return History(history.settings, history.rows[:epochs], history.grids, history.status, events)


def diverged(run: records.Record, epochs: int) -> bool:
    """Whether a run had ended in NaN by then."""
    return run.history.status == "diverged" and len(run.history) <= epochs


def whole_runs(each: list[records.Record], epochs: int) -> list[records.Record]:
    """The runs that can be compared after so many epochs: long enough, and still well then."""
    return [run for run in each if len(run.history) >= epochs and not diverged(run, epochs)]


def curves(runs: dict[str, list[records.Record]], epochs: int, systems=MAIN) -> dict[str, list[History]]:
    """The first so many epochs of every run that can be compared: the system's label -> histories by seed."""
    found = {s: [run.history for run in whole_runs(runs.get(s, []), epochs)] for s in systems}
    return {each[0].label: [first_epochs(history, epochs) for history in each] for each in found.values() if each}


def measure(record: records.Record, epochs: int) -> dict[str, float]:
    """Every number of a run's history after so many epochs; "final" values are means over the last fifth of them."""
    history, final = first_epochs(record.history, epochs), metrics.final_level
    has, k = set(history.columns), history.generators
    numbers = {
        "final_d_loss": final(history["d_loss"]),
        "final_g_loss": final(history["g_loss"]),
        "d_loss - g_loss": final(history["d_loss"] - history["g_loss"]),
        "gap": final(metrics.gap(history)),
        "gap_halved": final(metrics.gap(history, halved=True)),
        "distance": final(metrics.distance_to_equilibrium(history)),
        "oscillation_d": metrics.oscillation(history["d_loss"]),
        "oscillation_g": metrics.oscillation(history["g_loss"]),
        "pick_accuracy": final(history["pick_accuracy"]),
        "d_real": final(history["d_real"]) if "d_real" in has else nan,
        "collapsed": float(any(event["kind"] == "collapsed" for event in history.events)),
        "won": float(any(event["kind"] == "discriminator_won" for event in history.events)),
    }
    if {"accuracy_real", "accuracy_fake"} <= has:
        numbers["binary_accuracy"] = final(history["accuracy_real"] + history["accuracy_fake"]) / 2
        numbers["accuracy_of_all"] = final(history["accuracy_real"] + k * history["accuracy_fake"]) / (1 + k)
    for curve in ("d_loss", "pick_accuracy"):
        for band in BANDS:
            epoch = metrics.convergence_epoch(history[curve], band)
            # A run that never settles counts as settling after its end: a bound, and no run is left out.
            numbers[f"convergence of {curve}, band {band:.0%}"] = float(epoch or epochs + 1)
    return numbers


def each_generator(record: records.Record) -> list[dict[str, float]]:
    """The quality of every generator alone after a run's last epoch; empty where it was not measured."""
    last = record.quality.get(max(record.quality, default=0), {})
    return [numbers for name, numbers in last.items() if name != "mixture"] or list(last.values())


def one_digit_generators(record: records.Record) -> int:
    """How many generators drew nine tenths of their samples from one class.

    The event "collapsed" cannot see them: it looks at the samples of all generators together, and at their pixels.
    """
    shares = [[part[key] for key in part if key.startswith("share_")] for part in each_generator(record)]
    return sum(max(each, default=0) >= 0.9 for each in shares)


def generator_parts(record: records.Record) -> list[str] | None:
    """FID of each generator, FID of the mixture, the digits each covers, and the divergence of their class histograms.

    The divergence (nats) is Jensen-Shannon's for K generators: entropy of the mean histogram less the mean entropy.
    None for a single generator.
    """
    parts = each_generator(record)
    if len(parts) < 2:
        return None
    shares = np.array([[part[f"share_{digit}"] for digit in range(10)] for part in parts])
    divergence = _entropy(shares.mean(0)) - np.mean([_entropy(each) for each in shares])
    mixture = record.final_quality()
    fid, covered = (", ".join(f"{part[name]:.3g}" for part in parts) for name in ("fid", "modes_covered"))
    return [fid, f"{mixture['fid']:.3g}", covered, f"{divergence:.3f}"]


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


@dataclass
class Table:
    """One number per system, seed and measure after ``epochs`` epochs; runs that diverged are counted, not averaged.

    Quality is that after epoch ``judged``, the last up to there at which all of these runs were measured.
    """

    epochs: int
    labels: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    diverged: dict[str, list[int]] = field(default_factory=dict)
    judged: int = 0

    def seeds(self, system: str) -> list[int]:
        return sorted(self.numbers.get(system, {}))

    def value(self, system: str, seed: int, name: str) -> float:
        return self.numbers[system][seed].get(name, nan)

    def interval(self, system: str, name: str) -> Interval:
        return Interval.of([self.value(system, seed, name) for seed in self.seeds(system)])

    def describe(self, *names: str, systems=None) -> str:
        """These systems (by default all) with their numbers in words, for a figure's alternative text."""
        systems = [system for system in systems or self.labels if self.seeds(system)]
        return "; ".join(
            f"{self.labels[s]} {', '.join(str(self.interval(s, name)) for name in names)}" for s in systems
        )

    def intervals(self, name: str) -> dict[str, Interval]:
        """The label of every system with runs of this length -> its interval of one measure."""
        return {label: self.interval(system, name) for system, label in self.labels.items() if self.seeds(system)}

    def compare(self, system: str, other: str, name: str, how: str = "difference") -> Interval:
        """Over the seeds that both have: system - other; with "ratio" system / other by logarithms; with "reduction"
        1 - system / other seed by seed, for a measure of the system that may come near 0."""
        seeds = [seed for seed in self.seeds(system) if seed in self.seeds(other)]
        pairs = [(self.value(system, seed, name), self.value(other, seed, name)) for seed in seeds]
        if name.startswith("convergence"):  # two that never settle cannot be told apart
            pairs = [(nan, nan) if min(pair) > self.epochs else pair for pair in pairs]
        if how == "difference":
            return Interval.of([a - b for a, b in pairs])
        if how == "reduction":
            return Interval.of([1 - a / b if b else nan for a, b in pairs])
        return Interval.of([log(a / b) if a > 0 and b > 0 else nan for a, b in pairs]).map(exp)


def tabulate(runs: dict[str, list[records.Record]], epochs: int) -> Table:
    """The table at ``epochs``; runs that are shorter (and did not diverge) are left out."""
    compared = {system: whole_runs(each, epochs) for system, each in runs.items()}
    measured = [set(run.quality) for each in compared.values() for run in each]
    judged = max((epoch for epoch in set.intersection(*measured) if epoch <= epochs), default=0) if measured else 0
    table = Table(epochs, judged=judged)
    for system, each in runs.items():
        table.labels[system] = each[0].history.label
        table.diverged[system] = [run.seed for run in each if diverged(run, epochs)]
        table.numbers[system] = {
            run.seed: measure(run, epochs) | run.quality.get(judged, {}).get("mixture", {}) for run in compared[system]
        }
    return table


# ---- verdicts ------------------------------------------------------------------------------------------------------


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
        return {method: self._join(each) for method, each in found.items()} or {"": NOT_MEASURED}

    def _join(self, verdicts: set[str]) -> str:
        if len(verdicts) == 1:
            return next(iter(verdicts))
        if self.parts and FAILS in verdicts:
            return FAILS
        return DEPENDS if not self.parts and {HOLDS, FAILS} <= verdicts else OPEN

    @property
    def verdict(self) -> str:
        """The verdict in words, with what the findings say where they differ."""
        return "; ".join(self._describe(methods, verdict) for verdict, methods in self._methods().items())

    def _methods(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for method, verdict in self.verdicts.items():
            found.setdefault(verdict, []).append(method)
        return found

    def _describe(self, methods: list[str], verdict: str) -> str:
        prefix = "" if len(methods) == len(self.verdicts) else f"{' and '.join(methods)}: "
        groups: dict[str, list[str]] = {}
        for finding in self.findings:
            if finding.method in methods:
                name = finding.reading if len(methods) == 1 else f"{finding.method}'s {finding.reading}"
                groups.setdefault(finding.verdict, []).append(name)
        listed = "; ".join(f"{each}: {', '.join(names)}" for each, names in groups.items())
        return f"{prefix}{verdict} ({listed})" if len(groups) > 1 else f"{prefix}{verdict}"


def seconds_per_epoch(benchmark: Path = BENCHMARK) -> dict[str, dict[str, Interval]]:
    """device -> system -> seconds per epoch of MNIST in the benchmark; the interval is from quartile to quartile.

    Recorded runs have seconds, too, but other work ran beside them: one system differs there by a factor of four.
    """
    if not Path(benchmark).exists():
        return {}
    found = {}
    for device, report in json.loads(Path(benchmark).read_text(encoding="utf-8")).items():
        measures, rounds = {m["name"]: m for m in report["measures"]}, report["settings"]["rounds"]
        chosen = {system: measures[f"{case}/ours"] for system, case in BENCHMARKED.items()}
        found[device] = {s: Interval(m["value"], m["low"], m["high"], rounds) for s, m in chosen.items()}
    return found


METHODS = {"psg_average": "average", "psg_algorithm1": "Algorithm 1"}


def paper_claims(table: Table, modes: dict[str, Table] | None = None, benchmark: Path = BENCHMARK) -> list[Claim]:
    """Every claim of the paper about PSG-GAN, against the runs in the table; its cost against the benchmark.

    modes: data set with modes that can be counted -> the table of its runs
    """

    def each(measures: dict[str, str], region, how="difference", other="sngan", change=None, short=False):
        """One finding for each reading of PSG-GAN and each measure (name -> its words)."""
        findings = []
        for system, method in METHODS.items():
            for name, words in measures.items():
                effect = table.compare(system, other, name, how)
                effect = effect.map(change) if change else effect
                findings.append(Finding(method, words, effect, region, short))
        return findings

    def counted():
        """More modes than the plain GAN's, on each set where they can be counted."""
        findings = []
        for dataset, counts in (modes or {}).items():
            name = "modes_reached" if dataset == "stacked_mnist" else "modes_covered"
            for system, method in METHODS.items():
                if counts.seeds(system):
                    findings.append(Finding(method, f"modes, {dataset}", counts.compare(system, "gan", name), (0, inf)))
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
            "The gap between its losses is smaller than SNGAN's",
            "abstract, 4.2",
            "final |L_D - L_G| minus SNGAN's; true below 0",
            shown("gap"),
            each(gaps, (-inf, 0)),
        ),
        Claim(
            "The gap is smaller by about 40 %",
            "abstract, 4.2",
            "1 - final |L_D - L_G| / SNGAN's; true from 20 % to 60 %",
            shown("gap"),
            each(gaps, (0.2, 0.6), "reduction"),
        ),
        Claim(
            "Its losses converge earlier than SNGAN's (epoch 75 against 125)",
            "4.2, Fig. 3",
            "how many epochs earlier L_D stays in a band around its final level; true above 0",
            shown("convergence of d_loss, band 10%"),
            each(convergence("d_loss"), (0, inf), change=lambda epochs: -epochs, short=short),
        ),
        Claim(
            "Its accuracy converges earlier, by 10 % of a run of 500 epochs",
            "4.3, Fig. 4",
            "the same for the pick accuracy; true from 25 to 75 epochs",
            shown("convergence of pick_accuracy, band 10%"),
            each(convergence("pick_accuracy"), (25, 75), change=lambda epochs: -epochs, short=short),
        ),
        Claim(
            "Its accuracy settles near 0.33",
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
            "Its losses run without large or sudden changes",
            "4.2, Fig. 3",
            "ratio of the epoch-to-epoch oscillation to SNGAN's; true below 1 for both losses",
            shown("oscillation_d"),
            each({"oscillation_d": "L_D", "oscillation_g": "L_G"}, (0, 1), "ratio"),
            parts=True,
        ),
        Claim(
            "Its digits are better than SNGAN's",
            "abstract, 4.4, Fig. 5",
            "FID (shown) of the mixture minus SNGAN's, true below 0; coverage, precision, recall: true above 0",
            shown("fid"),
            each({"fid": "FID"}, (-inf, 0))
            + each({name: name for name in ("coverage", "precision", "recall")}, (0, inf)),
            parts=True,
        ),
        Claim(
            "It overcomes mode collapse",
            "abstract, 3.2",
            "against the plain GAN: divergence of the digits' shares, true below 0; recall (shown) and counted modes, "
            "true above 0",
            shown("recall"),
            each({"class_js": "digits' shares"}, (-inf, 0), other="gan")
            + each({"recall": "recall"}, (0, inf), other="gan")
            + counted(),
            parts=True,
        ),
        Claim(
            "It eases overfitting",
            "abstract, 3.2",
            "not at all: the records hold no answers of D to images that it was not trained on",
            {},
            [],
        ),
        Claim(
            "It needs no large extra computation as spectral norm does",
            "2, 3.1",
            "seconds per epoch in the benchmark (quartiles), ratio to SNGAN's; true below 1",
            next(iter(cost.values()), {}),
            [Finding("average", device, ratio(each), (0, 1)) for device, each in cost.items()]
            or [Finding("average", "time", Interval.of([]), (0, 1))],
        ),
    ]


# The first four divide PSG-GAN's whole effect into its parts.
CONTRASTS = (
    ("All together?", "psg_average", "gan"),
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
CONTROLS = tuple(dict.fromkeys(s for _, *pair in CONTRASTS for s in pair if s not in MAIN))


def direction(effect: Interval) -> str:
    """What an interval of a difference says in a word."""
    if not effect.seeds:
        return NOT_MEASURED
    if effect.seeds < LEAST_SEEDS:
        return NO_SEEDS
    return "higher" if effect.low > 0 else "lower" if effect.high < 0 else "no clear difference"


def discussion(table: Table, controls: Table | None = None, modes: dict[str, Table] | None = None) -> str:
    """The result in a few sentences (Markdown), to be read and cited together with the limits beside it.

    controls: the table that the controls are compared in, where theirs is another number of epochs; modes: as above
    """
    controls, found = controls or table, paper_claims(table, modes)
    counts = [len(table.seeds(system)) for system in MAIN if system in table.labels]
    seeds = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    failed = sum(len(table.diverged.get(system, ())) for system in MAIN)
    lines = [
        f"After {table.epochs} epochs, over {seeds} seeds for each of the main methods ({failed} runs diverged; "
        "the cost is from the benchmark):",
        "",
    ]
    lines += [f"- {claim.text}: **{claim.verdict}**." for claim in found]
    lines += ["", f"What makes the difference, after {controls.epochs} epochs:", ""]
    measures = {"distance": "distance to equilibrium", "fid": "FID", "recall": "recall"}
    for question, system, other in CONTRASTS[:4]:
        effects = {words: controls.compare(system, other, name) for name, words in measures.items()}
        listed = ", ".join(f"{words}: {direction(each)} ({each})" for words, each in effects.items())
        lines.append(f"- {question} {listed}.")
    findings = [finding for claim in found for finding in claim.findings]
    judged = sum(finding.verdict in (HOLDS, FAILS) for finding in findings)
    lines += [
        "",
        f"{judged} of {len(findings)} readings got a verdict. An interval misses its true value in 5 % of repetitions, "
        "if seeds vary as a normal distribution does; the readings share runs, so errors come together, and nothing is "
        "corrected for their number.",
    ]
    return "\n".join(lines)


# ---- what the reader sees --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sheet:
    """A table that a notebook shows as HTML and stores as text, too."""

    header: list[str]
    rows: list[list]

    def __repr__(self) -> str:
        return "\n".join(" | ".join(map(str, row)) for row in (self.header, *self.rows))

    def _repr_html_(self) -> str:
        def line(cells, tag):
            style = ' style="text-align: left; vertical-align: top"'
            return "<tr>" + "".join(f"<{tag}{style}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

        return "<table>" + line(self.header, "th") + "".join(line(row, "td") for row in self.rows) + "</table>"


def claims_sheet(table: Table, modes: dict[str, Table] | None = None) -> Sheet:
    """One row per claim: where, how measured, each method's mean and its seeds' numbers, the verdict."""
    methods = [table.labels.get(system, system) for system in MAIN]
    header = ["claim", "paper", "measured here", *methods, f"verdict after {table.epochs} epochs"]
    unknown = Interval.of([])
    rows = [
        [c.text, c.source, c.how, *(c.shown.get(system, unknown).by_seed() for system in MAIN), c.verdict]
        for c in paper_claims(table, modes)
    ]
    return Sheet(header, rows)


def findings_sheet(table: Table, modes: dict[str, Table] | None = None) -> Sheet:
    """One row per reading of each claim: the effect with its interval, and the verdict."""
    rows = [
        [claim.text, f"{f.method} ({f.reading})", f.effect, f.effect.seeds, f.verdict]
        for claim in paper_claims(table, modes)
        for f in claim.findings
    ]
    return Sheet(["claim", "reading", "effect", "seeds (cost: rounds)", "verdict"], rows)


def contrasts_sheet(table: Table, measures: dict[str, str]) -> Sheet:
    """One row per control: the paired difference in each measure (name -> its words) and what it says."""
    rows = []
    for question, system, other in CONTRASTS:
        effects = [table.compare(system, other, name) for name in measures]
        rows.append([question, f"{system} - {other}", *(f"{e}: {direction(e)}" for e in effects)])
    return Sheet(["question", "difference", *measures.values()], rows)


def coverage_sheet(found: dict[str, dict[str, list[records.Record]]], modes: dict[str, int]) -> Sheet:
    """One row per data set and system: how many of its known modes the samples reach, and how evenly.

    found: data set -> what ``read_all`` finds there; modes: data set -> how many it has
    """
    rows = []
    for dataset, runs in found.items():
        for each in runs.values():
            last = [run.final_quality() for run in each if run.quality]
            name = "modes_covered" if last and "modes_covered" in last[0] else "modes_reached"
            numbers = [Interval.of([q.get(key, nan) for q in last]) for key in (name, "high_quality", "kl")]
            length = min(len(run.history) for run in each)
            reached = f"{numbers[0]} of {modes[dataset]}"
            rows.append([dataset, each[0].history.label, len(each), length, reached, *numbers[1:]])
    header = ["data", "system", "seeds", "epochs", "modes", "share of samples near a mode", "KL from uniform (nats)"]
    return Sheet(header, rows)


def runs_sheet(runs: dict[str, list[records.Record]], table: Table) -> Sheet:
    """One row per system: which runs there are, how they ended, and where they were made."""
    rows = []
    for system, each in runs.items():
        made = sorted({describe_origin(run) for run in each})
        counted = [
            sum(table.value(system, seed, event) for seed in table.seeds(system)) for event in ("collapsed", "won")
        ]
        rows.append(
            [
                table.labels[system],
                ", ".join(f"{run.seed} ({len(run.history)})" for run in each),
                len(table.diverged[system]),
                *(f"{number:.0f}" for number in counted),
                sum(map(one_digit_generators, each)),
                "; ".join(made),
            ]
        )
    header = ["system", "seeds (epochs)", "diverged", "collapsed", "D has won", "generators of one digit", "made"]
    return Sheet(header, rows)


def describe_origin(run: records.Record) -> str:
    """Where a run was made, when, and from which state of the code."""
    made = run.provenance
    return f"{made['date']}, revision {made['revision'][:7]}, {made['device']}, torch {made['torch']}"


def demonstration(image_set, epochs: int = 3, seeds: int = 2) -> dict[str, list[records.Record]]:
    """Short runs in place of records where nothing is recorded, so that a notebook can still show its figures.

    They have no quality numbers, and too few seeds for any verdict.
    """
    from helpers.systems import make_trainer

    provenance = records.describe_environment(str(image_set.images.device)) | {"command": "demonstration, not recorded"}
    runs = {}
    for system in MAIN:
        trainers = [make_trainer(system, image_set, epochs=epochs, seed=s, grid_epochs=(epochs,)) for s in range(seeds)]
        runs[system] = [records.Record(records.RUNS, trainer.fit(False), provenance, {}) for trainer in trainers]
    return runs
