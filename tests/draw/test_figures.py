"""Figures: what they draw, that they can be read, and that the same figure gives the same bytes."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.draw import diagrams, figures
from helpers.evidence.comparison import Interval
from helpers.gan.history import History
from helpers.gan.networks import Discriminator
from helpers.gan.objectives import GAN, WGAN


def history_of(objective=None, epochs=4, generators=1, shift=0.0) -> History:
    course = np.linspace(1.0, 0.5, epochs) + shift
    columns = {"d_loss": course, "g_loss": course, "pick_accuracy": course / 2, "accuracy_real": course / 2}
    columns |= {f"g{k}_loss": course + 0.1 * k for k in range(1, generators + 1)}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    settings = {"objective": (objective or GAN()).describe(), "generators": generators, "label": "test"}
    grids = {epoch: np.full((generators, 25, 1, 4, 4), 20 * epoch, np.uint8) for epoch in (1, epochs)}
    return History(settings, rows, grids, "complete")


def lines_of(ax) -> dict:
    return {line.get_label(): line for line in ax.lines}


def texts_of(ax) -> str:
    return " ".join(text.get_text() for text in ax.texts)


def relative_luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_lines_differ_without_colour_too():
    styles = [figures.line_style(index) for index in range(7)]
    assert len({str(style["linestyle"]) for style in styles}) == 7
    assert len({style["color"] for style in styles}) == 7


def test_the_first_colours_stand_out_from_white():
    for colour in figures.COLOURS[:3]:
        assert 1.05 / (relative_luminance(colour) + 0.05) >= 3, colour  # WCAG 2.2, 1.4.11: graphical objects


def test_loss_curves_show_the_data_and_the_equilibrium():
    history = history_of(generators=2)
    ax = figures.loss_curves(history, "a finding").axes[0]
    lines = lines_of(ax)
    assert ax.get_title(loc="left") + ax.get_title() == "a finding"
    np.testing.assert_array_equal(lines["discriminator"].get_ydata(), history["d_loss"])
    np.testing.assert_array_equal(lines["generator 2"].get_ydata(), history["g2_loss"])
    np.testing.assert_array_equal(lines["generator 1"].get_xdata(), [1, 2, 3, 4])
    assert "D: 1.386" in texts_of(ax) and "G: 0.693" in texts_of(ax) and "equilibrium" in lines_of(ax)
    assert ax.get_xlabel() == "epoch" and "nats" in ax.get_ylabel()


@pytest.mark.parametrize("shift", [1, 30])
def test_the_names_of_the_equilibria_do_not_cover_each_other(shift):
    ax = figures.loss_curves(history_of(shift=shift), "t").axes[0]
    ax.figure.canvas.draw()
    first, second = (text.get_window_extent() for text in ax.texts)
    assert not first.overlaps(second)


def test_the_names_of_the_equilibria_stand_beside_the_axes_where_no_curve_crosses_them():
    ax = figures.loss_curves(history_of(), "t").axes[0]
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.texts] == ["G: 0.693", "D: 1.386"]
    for text in ax.texts:
        box = text.get_window_extent()
        assert box.x0 > ax.bbox.x1 and box.x1 < ax.figure.bbox.x1


def test_no_equilibrium_is_drawn_where_none_is_known():
    ax = figures.loss_curves(history_of(WGAN()), "t").axes[0]
    assert "G: " not in texts_of(ax)


def test_several_seeds_show_each_run_their_mean_and_who_is_the_outlier():
    runs = [history_of(shift=shift) for shift in (0.0, 0.1, 0.9)]
    ax = figures.compare_curves({"a": runs, "b": runs[0]}, "d_loss", "t", "loss").axes[0]
    np.testing.assert_allclose(lines_of(ax)["a"].get_ydata(), np.mean([run["d_loss"] for run in runs], axis=0))
    np.testing.assert_allclose(lines_of(ax)["b"].get_ydata(), runs[0]["d_loss"])
    assert len(ax.lines) == 3 + 1 + 1 and not ax.collections
    assert "seed 2" in texts_of(ax) and "seed 0" not in texts_of(ax)
    near = figures.compare_curves({"a": runs[:2] + [history_of(shift=0.2)]}, "d_loss", "t", "loss").axes[0]
    assert "seed" not in texts_of(near)


def test_compare_curves_takes_a_function_and_levels():
    ax = figures.compare_curves(
        {"a": history_of()}, lambda run: 2 * run["d_loss"], "t", "y", levels={"here": 1.5}
    ).axes[0]
    np.testing.assert_allclose(lines_of(ax)["a"].get_ydata(), 2 * history_of()["d_loss"])
    assert "here" in texts_of(ax)


def test_accuracy_curves_name_the_equilibrium_of_the_pick():
    ax = figures.accuracy_curves(history_of(generators=2), "t").axes[0]
    assert "0.333" in texts_of(ax) and "fake called fake" not in lines_of(ax)  # a column this history lacks


def test_tile_puts_images_in_rows():
    images = np.stack([np.full((1, 2, 2), value, np.uint8) for value in (10, 20, 30)])
    sheet = figures.tile(images, columns=2, gap=1)
    assert sheet.shape == (5, 5)
    assert (sheet[:2, :2] == 10).all() and (sheet[:2, 3:] == 20).all() and (sheet[3:, :2] == 30).all()
    assert (sheet[2] == 255).all() and (sheet[3:, 3:] == 255).all()


def test_tile_takes_floats_in_minus_one_to_one_and_colour():
    sheet = figures.tile(torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand(3, 3, 2, 2), columns=3, gap=0)
    assert sheet.shape == (2, 6, 3) and sheet[0, ::2, 0].tolist() == [0, 128, 255]


def test_grids_over_epochs_has_one_sheet_an_epoch_in_order():
    fig = figures.grids_over_epochs(history_of(epochs=10), "t")
    assert [ax.get_title(loc="left") + ax.get_title() for ax in fig.axes] == ["epoch 1", "epoch 10"]


def test_landscape_shows_the_probability_the_right_way_round():
    class Right(Discriminator):
        def forward(self, points, labels=None):
            return 10 * points[:, 0]  # real on the right

    fig, ax = figures.new_figure()
    figures.landscape(ax, Right((2,)), "t", resolution=20)
    values = ax.collections[0].get_array().reshape(20, 20)
    assert (values[:, -1] > 0.99).all() and (values[:, 0] < 0.01).all()


def test_same_figure_gives_the_same_bytes():
    first, second = (figures.to_png(figures.loss_curves(history_of(), "t")) for _ in range(2))
    assert first == second and first.startswith(b"\x89PNG")


def test_with_a_palette_rare_colours_survive_and_greys_stay_grey():
    fig, ax = figures.new_figure()
    ax.imshow(np.random.default_rng(0).random((200, 200)), cmap="gray", vmin=0, vmax=1)  # all greys
    ax.imshow(np.random.default_rng(1).random((200, 200)), cmap="viridis", extent=(300, 500, 0, 200))
    ax.plot([250], [100], "s", color="#FF00FF", markersize=4)  # some twenty pixels
    ax.set(xlim=(0, 500), ylim=(0, 200))
    drawn = figures.to_png(fig)
    kept = figures.with_palette(drawn)
    assert len(kept) < len(drawn) / 2 and figures.with_palette(kept) == kept
    picture = np.asarray(Image.open(io.BytesIO(kept)).convert("RGB")).astype(int)
    assert (np.abs(picture - [255, 0, 255]).max(2) < 30).sum() >= 4
    left = picture[50:-60, 60 : picture.shape[1] // 3]
    assert np.ptp(left, axis=2).mean() < 3


def test_show_stores_picture_and_alt_text(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = {}
    monkeypatch.setattr(display, "display", lambda data, raw, metadata: shown.update(data=data, metadata=metadata))
    figures.show(figures.loss_curves(history_of(), "t"), alt="Two falling lines.")
    assert shown["data"]["text/plain"] == "Two falling lines."
    assert shown["metadata"] == {"image/png": {"alt": "Two falling lines."}} and shown["data"]["image/png"]


def test_figures_stay_out_of_pyplot():
    import matplotlib.pyplot

    before = matplotlib.pyplot.get_fignums()
    figures.loss_curves(history_of(), "t")
    assert matplotlib.pyplot.get_fignums() == before


def test_interval_axes_span_the_seeds_and_the_floor_and_not_the_interval():
    groups = {"a": Interval.of([1.0, 2.0, 9.0]), "b": Interval.of([3.0]), "c": Interval.of([])}
    ax = diagrams.intervals(groups, "FID", floor=0.5).axes[0]
    low, high = ax.get_xlim()
    assert groups["a"].low < low < 0.5 and 9 < high < groups["a"].high
    assert ax.get_title() == "Lowest mean: b" and "0.5" in ax.get_xlabel()
    drawn = [x for line in ax.lines if line.get_marker() == "|" for x in line.get_xdata()]
    assert drawn == [1, 2, 9, 3]  # every seed is there


def test_quality_is_drawn_at_the_epochs_that_all_runs_of_a_group_have():
    def run(*epochs):
        return SimpleNamespace(
            history=history_of(), quality={epoch: {"mixture": {"fid": 100.0 / epoch}} for epoch in epochs}
        )

    groups = {"a": [run(1, 2, 5), run(1, 5)], "b": [run(1, 2)], "not measured": [run()]}
    ax = figures.quality_curves(groups, "fid", "t", "FID", levels={"real": 1.0}).axes[0]
    lines = lines_of(ax)
    assert list(lines["a"].get_xdata()) == [1, 5] and list(lines["a"].get_ydata()) == [100, 20]
    assert list(lines["b"].get_xdata()) == [1, 2] and "not measured" not in lines and "real" in texts_of(ax)


def test_names_of_late_epochs_have_room_on_a_logarithmic_axis():
    measured = {epoch: {"mixture": {"fid": 1000 / epoch}} for epoch in (1, 2, 100, 200, 300, 400, 500)}
    ax = figures.quality_curves(
        {"a": [SimpleNamespace(history=history_of(), quality=measured)]}, "fid", "t", "FID"
    ).axes[0]
    assert list(ax.get_xticks()) == sorted(measured)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "100", "", "300", "", "500"]


@pytest.mark.parametrize(
    ("values", "scale", "expected"),
    [([1, 1.1, 5], 5, 2), ([1, 2, 3], 5, None), ([1, 1.1], 5, None), ([1, 1.0001, 1.01], 5, None), ([0, 9, 9.5], 9, 0)],
)
def test_an_outlier_lies_far_from_all_others_and_far_enough_to_be_seen(values, scale, expected):
    assert figures.outlier(values, scale) == expected


def test_a_specification_curve_shows_every_outcome_and_its_choices():
    from helpers.evidence.specifications import Outcome

    outcomes = [
        Outcome(name, ratio, 0.4, -1.0, 0.7, {}, 1) for name, ratio in (("pb12", 0.8), ("centre", 2.0), ("pb01", 3.0))
    ]
    choices = {"d_dropout": ("dropout in D", "0", "0.3"), "beta1": ("beta1", "0.5", "0.9")}
    high = {name: {"d_dropout": name == "pb01", "beta1": name != "pb12"} for name in ("pb12", "centre", "pb01", "pb02")}
    top, middle, bottom = diagrams.specification_curve(outcomes, high, choices, "title").axes
    assert top.lines[0].get_ydata().tolist() == [0.8, 2.0, 3.0] and top.get_yscale() == "log"
    assert [tick.get_text() for tick in bottom.get_xticklabels()] == ["pb12", "centre", "pb01", "pb02"]
    assert [text.get_text() for text in top.texts] == ["not recorded"]
    squares = {(line.get_xdata()[0], line.get_ydata()[0]): line.get_markerfacecolor() for line in bottom.lines}
    assert len(squares) == 6, "the centre has levels of its own"
    assert squares[0, 0] == squares[0, 1] == squares[3, 0] == "white"
    assert squares[2, 0] == squares[2, 1] == squares[3, 1] == "#000000"


def test_effects_show_each_factor_with_its_interval_and_fill_the_clear_ones():
    from helpers.evidence.inference import Effect

    found = {"beta1": Effect("ratio", np.log(8), 0.1, 5, (6, 6)), "batch_size": Effect("ratio", 0.0, 0.1, 5, (6, 6))}
    labels = {"batch_size": "batch", "beta1": "momentum"}
    left, right = diagrams.effects({"SNGAN": found, "GAN": found}, {"SNGAN": ["beta1"], "GAN": []}, labels, "t").axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["batch", "momentum"]
    lines = [line for line in left.lines if line.get_linestyle() == "-"]
    assert [tuple(line.get_ydata()) for line in lines] == [(0, 0), (1, 1)]
    assert tuple(lines[1].get_xdata()) == pytest.approx(found["beta1"].ends)
    faces = [[line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"] for ax in (left, right)]
    assert faces == [["white", "#000000"], ["white", "white"]]


def test_dumbbells_join_two_numbers_of_every_seed():
    ax = diagrams.dumbbells({"a": ([100, 200], [10, 20]), "b": ([4], [3])}, ("before", "after"), "t", "FID", 1.1).axes[
        0
    ]
    joined = [
        tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"
    ]
    assert joined == [(100, 10), (200, 20), (4, 3)]
    assert ax.get_xscale() == "log" and {"before", "after", "real: 1.1"} <= set(lines_of(ax))
