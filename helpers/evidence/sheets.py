"""Tables for the reader, made of records, comparisons and claims: each is shown as HTML and stored as text."""

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import log, nan

import torch

from helpers.evidence.claims import CONTRASTS, METHODS, direction, paper_claims
from helpers.evidence.comparison import (
    BY_LOGARITHMS,
    COUNTED_MODES,
    MAIN,
    Table,
    convergence,
    each_generator,
    one_digit_generators,
    tabulate,
    whole_runs,
)
from helpers.evidence.inference import Effect, Interval
from helpers.evidence.records import Record
from helpers.gan.systems import SYSTEMS
from helpers.measure.quality import entropy


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


def over_time_sheet(runs: dict[str, list[Record]], measures: dict[str, str], epochs) -> Sheet:
    """One row per system and measure: how the same runs stood after more and more epochs.

    runs: system -> runs that have all these epochs; measures: name in a ``Table`` -> words for the reader
    """
    tables = [tabulate(runs, epoch) for epoch in epochs]
    rows = [
        [label, words, *(table.interval(system, name).by_seed() for table in tables)]
        for system, label in tables[-1].labels.items()
        for name, words in measures.items()
    ]
    return Sheet(["system", "measure", *(f"epoch {table.epochs}" for table in tables)], rows)


def parts_sheet(runs: dict[str, list[Record]]) -> Sheet:
    """One row per run with several generators: what each of them draws, and how that differs."""
    found = [(run, generator_parts(run)) for each in runs.values() for run in each]
    rows = [[run.history.label, run.seed, len(run.history), *parts] for run, parts in found if parts]
    measures = [
        "FID of each generator",
        "FID of the mixture",
        "digits each covers",
        "divergence of their digits (nats)",
    ]
    return Sheet(["system", "seed", "epochs", *measures], rows)


def coverage_sheet(found: dict[str, dict[str, list[Record]]], modes: dict[str, int]) -> Sheet:
    """One row per data set and system: how many of its known modes the samples reach, and how evenly.

    found: data set -> what ``read_all`` finds there; modes: data set -> how many it has
    """
    rows = []
    for dataset, runs in found.items():
        for each in runs.values():
            last = [run.final_quality() for run in each if run.quality]
            name = COUNTED_MODES[dataset]
            numbers = [Interval.of([q.get(key, nan) for q in last]).by_seed() for key in (name, "high_quality", "kl")]
            length = min(len(run.history) for run in each)
            reached = f"{numbers[0]} of {modes[dataset]}"
            rows.append([dataset, each[0].history.label, len(each), length, reached, *numbers[1:]])
    header = ["data", "system", "seeds", "epochs", "modes", "share of samples near a mode", "KL from uniform (nats)"]
    return Sheet(header, rows)


def runs_sheet(runs: dict[str, list[Record]], table: Table) -> Sheet:
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


def describe_origin(run: Record) -> str:
    """Where a run was made, when, and from which state of the code."""
    made = run.provenance
    return f"{made['date']}, revision {made['revision'][:7]}, {made['device']}, torch {made['torch']}"


def generator_parts(record: Record) -> list[str] | None:
    """FID of each generator, FID of the mixture, the digits each covers, and the divergence of their class histograms.

    The divergence (nats) is Jensen-Shannon's for K generators: entropy of the mean histogram less the mean entropy, at
    most ln K. None for a single generator.
    """
    parts = each_generator(record)
    if len(parts) < 2:
        return None
    shares = torch.tensor([[part[f"share_{digit}"] for digit in range(10)] for part in parts])
    divergence = entropy(shares.mean(0)) - sum(map(entropy, shares)) / len(parts)
    mixture = record.final_quality()
    fid, covered = (", ".join(f"{part[name]:.3g}" for part in parts) for name in ("fid", "modes_covered"))
    return [fid, f"{mixture['fid']:.3g}", covered, f"{divergence:.3f} of {log(len(parts)):.3f}"]


def claims_sheet(table: Table, others: dict[str, Table] | None = None) -> Sheet:
    """One row per claim and place: how and on what it is measured, each system's seeds, each method's verdict.

    What a claim's further rows would repeat is left empty.
    """
    unknown = Interval.of([])
    rows = [
        [claim.text, claim.source, claim.how, where]
        + [claim.shown.get(where, {}).get(system, unknown).by_seed() for system in MAIN]
        + [claim.describe(method, where) for method in METHODS.values()]
        for claim in paper_claims(table, others)
        for where in claim.places
    ]
    systems = [SYSTEMS[system].label for system in MAIN]
    verdicts = [f"verdict on {method}" for method in METHODS.values()]
    return Sheet(["claim", "paper", "measured here", "on", *systems, *verdicts], _say_once(rows, 3))


def findings_sheet(table: Table, others: dict[str, Table] | None = None) -> Sheet:
    """One row per reading of each claim: the effect with its interval, from how many seeds, and the verdict.

    A claim and a place that the row above has already are left empty.
    """
    rows = [
        [claim.text, f.where, f"{f.method}: {f.reading}", f.effect, _seeds(f.effect), verdict]
        for claim in paper_claims(table, others)
        for f, verdict in claim.verdict_of.items()
    ]
    return Sheet(["claim", "on", "reading", "effect", "seeds", "verdict"], _say_once(rows, 2))


def _say_once(rows: list[list], columns: int) -> list[list]:
    """The rows, with their first ``columns`` cells left empty as far as they repeat the row above."""
    said = rows[:1]
    for above, row in pairwise(rows):
        same = next((place for place in range(columns) if row[place] != above[place]), columns)
        said.append([""] * same + row[same:])
    return said


def _seeds(effect: Effect | Interval) -> str:
    return f"{effect.seeds} rounds" if isinstance(effect, Interval) else " and ".join(map(str, effect.seeds))


def trends_sheet(table: Table, curves: dict[str, str]) -> Sheet:
    """One row per main system: whether its curves (name -> words) have a final level at all."""
    rows = [
        [table.labels[system], *(str(table.trends[system].get(name, "—")) for name in curves)]
        for system in MAIN
        if system in table.trends
    ]
    return Sheet(["system", *curves.values()], rows)


def length_sheet(runs: dict[str, list[Record]], lengths, system: str = "psg_average", other: str = "sngan") -> Sheet:
    """What the same runs would have said had they ended earlier: the gap's reduction and the epoch of convergence.

    lengths: epochs; only seeds that have the longest of them are used, so that every row is about the same runs
    """
    whole = {name: whole_runs(runs.get(name, []), max(lengths)) for name in (system, other)}
    rows = []
    for epochs in lengths:
        table = tabulate(whole, epochs)
        gaps = [table.interval(name, "gap") for name in (system, other)]
        halved = [table.interval(name, "gap_halved") for name in (system, other)]
        converged = [table.interval(name, convergence("d_loss", 0.1)) for name in (system, other)]
        rows.append(
            [
                epochs,
                *(
                    f"{1 - mine.mean / theirs.mean:.0%}" if len(table.labels) == 2 else "—"
                    for mine, theirs in (gaps, halved)
                ),
                *(each.by_seed() for each in converged),
            ]
        )
    names = [SYSTEMS[name].label for name in (system, other)]
    return Sheet(
        ["epochs", "gap's reduction, L_D", "L_D/2", *(f"L_D of {name} converges at epoch" for name in names)], rows
    )


def contrasts_sheet(table: Table, measures: dict[str, str]) -> Sheet:
    """One row per control: its effect on each measure (name -> its words), and what that says.

    An effect is a difference, or for the measures of ``BY_LOGARITHMS`` a ratio.
    """
    units = {name: "ratio" if name in BY_LOGARITHMS else "difference" for name in measures}
    rows = []
    for question, system, other in CONTRASTS:
        effects = {name: table.effect(system, other, name, unit) for name, unit in units.items()}
        pair = f"{SYSTEMS[system].label} against {SYSTEMS[other].label}"
        rows.append([question, pair, *(f"{each}: {direction(each, name)}" for name, each in effects.items())])
    return Sheet(["question", "compared", *(f"{words} ({units[name]})" for name, words in measures.items())], rows)
