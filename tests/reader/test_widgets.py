"""The widgets without a browser: buttons are pressed and controls set as a reader would, and what they do is compared
with plain training. What a browser shows of them is tests/test_browser.py's affair.
"""

import base64
import io
import re
import threading
import time

import ipywidgets
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from helpers.data import ImageSet, ring_of_gaussians
from helpers.draw import figures
from helpers.gan.networks import Discriminator, Generator
from helpers.gan.objectives import GAN, WGAN
from helpers.gan.systems import make_trainer
from helpers.gan.training import Settings, Trainer
from helpers.reader import widgets
from helpers.reader.widgets import scrubbers
from helpers.reader.widgets.dashboard import REDRAW_SHARE

pytestmark = [
    pytest.mark.filterwarnings("error"),  # a reader would see them
    # ipywidgets 7, which Colab has, in a newer ipykernel; Python hides this one from readers.
    pytest.mark.filterwarnings("ignore:The `ipykernel.comm.Comm` class has been deprecated:DeprecationWarning"),
]

ALT = "What a reader who cannot see the picture is told."


def toy_trainer(epochs: int = 6, count: int = 1, per_epoch: int = 10, width: int = 32, seed: int = 0) -> Trainer:
    """Training on the ring, small enough for many epochs a second."""
    torch.manual_seed(seed)
    generators = [Generator(2, (2,), hidden=(width, width)) for _ in range(count)]
    settings = Settings(epochs=epochs, batch_size=64, seed=seed, grid_epochs=(1, 3, epochs))
    points = ring_of_gaussians(64 * per_epoch).images
    discriminator = Discriminator((2,), hidden=(width, width))
    return Trainer(generators, discriminator, GAN(), points, settings)


def noise_trainer(system: str = "psg_average", epochs: int = 3) -> Trainer:
    """Images of 28 x 28 noise: what the panels draw does not depend on what is learned."""
    images = torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return make_trainer(system, ImageSet("noise", images, torch.zeros(200).long()), epochs=epochs, grid_epochs=(1, 3))


@pytest.fixture(scope="module")
def history():
    return noise_trainer().fit(progress=False)


def weights(trainer: Trainer) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in (*trainer.generators.parameters(), *trainer.discriminator.parameters())]


def assert_same_run(one: Trainer, other: Trainer) -> None:
    assert one.history.status == other.history.status
    for a, b in zip(one.history.rows, other.history.rows, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    assert all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))
    assert one.history.grids.keys() == other.history.grids.keys()
    assert all(np.array_equal(one.history.grids[e], other.history.grids[e]) for e in one.history.grids)


def wait_until(good, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)


# ---- panels --------------------------------------------------------------------------------------------------------


def line(slope: float, shift: int = 0):
    fig, ax = figures.new_figure()
    ax.plot([0, 1], [shift, slope + shift])
    return fig


def test_a_control_changes_the_picture_and_brings_it_back():
    slope, shift = ipywidgets.FloatSlider(1.0, min=0, max=2), ipywidgets.Dropdown(options=[0, 1])
    panel = widgets.interactive_figure(line, ALT, slope=slope, shift=shift)
    first = panel.png
    for control, value in ((slope, 2.0), (shift, 1)):
        before = control.value
        control.value = value
        assert panel.png != first
        control.value = before
        assert panel.png == first


def test_what_is_stored_is_alt_text_and_picture_and_every_time_the_same():
    slope = ipywidgets.FloatSlider(1.0)
    data, metadata = InteractiveShell.instance().display_formatter.format(
        widgets.interactive_figure(line, ALT, slope=slope)
    )
    again, _ = InteractiveShell.instance().display_formatter.format(
        widgets.interactive_figure(line, ALT, slope=ipywidgets.FloatSlider(1.0))
    )
    view = data.pop("application/vnd.jupyter.widget-view+json")
    assert data == {"text/plain": ALT, "image/png": data["image/png"]}
    assert metadata == {"image/png": {"alt": ALT}}
    assert view["model_id"] and data["image/png"] == again["image/png"]
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 400


def test_the_live_picture_has_alt_text_even_with_quotes():
    panel = widgets.Panel(lambda: line(1), 'D says "real" & <is> wrong')
    assert 'alt="D says &quot;real&quot; &amp; &lt;is&gt; wrong"' in panel.image.value
    assert panel.png in panel.image.value


# ---- dashboard -----------------------------------------------------------------------------------------------------


def test_run_equals_plain_fit_bit_for_bit():
    plain, trainer = toy_trainer(), toy_trainer()
    plain.fit(progress=False)
    dashboard = widgets.TrainingDashboard(trainer, ALT)
    first = dashboard.png
    dashboard.buttons["Run"].click()
    dashboard.wait()
    assert_same_run(trainer, plain)
    assert dashboard.png != first and dashboard.status.value == "finished: epoch 6 of 6"


def at_steps(trainer: Trainer, actions: dict) -> None:
    """Do something right after the trainer's n-th step, in the thread that trains: however busy the machine is, the
    training has not ended by then.
    """
    step, count = trainer.step, 0

    def counted():
        nonlocal count
        measures, count = step(), count + 1
        actions.get(count, lambda: None)()
        return measures

    trainer.step = counted


def test_every_button_in_between_changes_nothing():
    plain, trainer = toy_trainer(9, per_epoch=30), toy_trainer(9, per_epoch=30)
    plain.fit(progress=False)
    dashboard = widgets.TrainingDashboard(trainer, ALT)
    press = {text: button.click for text, button in dashboard.buttons.items()}
    at_steps(trainer, {70: press["Pause"], 130: press["Stop"]})

    press["Step"]()
    dashboard.wait()
    assert len(trainer.history) == 1 and dashboard.status.value == "stopped: epoch 1 of 9"
    press["Run"]()
    wait_until(lambda: dashboard.status.value.startswith("paused"))
    held, then = weights(trainer), len(trainer.history)
    assert then == 2
    time.sleep(0.1)
    assert all(np.array_equal(a, b) for a, b in zip(held, weights(trainer), strict=True))
    press["Step"]()  # to the end of the epoch under way
    dashboard.wait()
    assert len(trainer.history) == then + 1
    press["Run"]()
    dashboard.wait()
    assert trainer.history.status == "interrupted" and len(trainer.history) == 5
    kept = list(trainer.history.rows)
    press["Run"]()
    dashboard.wait()
    assert trainer.history.rows[: len(kept)] == kept
    assert_same_run(trainer, plain)


def test_stop_ends_a_pause_and_keeps_the_epoch():
    trainer = toy_trainer(50, per_epoch=60)
    dashboard = widgets.TrainingDashboard(trainer, ALT)
    dashboard.run()
    dashboard.pause()
    wait_until(lambda: dashboard.status.value.startswith("paused"))
    before = len(trainer.history)
    dashboard.stop()
    dashboard.wait()
    assert len(trainer.history) == before + 1 and trainer.history.status == "interrupted"


def test_a_pause_does_not_count_as_training_time():
    trainer = toy_trainer(2, per_epoch=60)
    dashboard = widgets.TrainingDashboard(trainer, ALT)
    start = time.perf_counter()
    dashboard.run()
    dashboard.pause()
    wait_until(lambda: dashboard.status.value.startswith("paused"))
    time.sleep(2)
    dashboard.run()
    dashboard.wait()
    assert trainer.history["seconds"].sum() < time.perf_counter() - start - 2


def test_buttons_do_no_harm_when_nothing_runs_or_all_is_done():
    trainer = toy_trainer(1)
    dashboard = widgets.TrainingDashboard(trainer, ALT)
    for text in ("Pause", "Stop"):
        dashboard.buttons[text].click()
        assert dashboard.status.value == "ready: epoch 0 of 1"
    for text in ("Run", "Run", "Step"):
        dashboard.buttons[text].click()
        dashboard.wait()
        assert (len(trainer.history), trainer.history.status) == (1, "complete")


def test_an_error_while_training_is_shown(monkeypatch):
    trainer = toy_trainer()
    dashboard = widgets.TrainingDashboard(trainer, ALT)
    raised = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: raised.append(arguments.exc_type))
    monkeypatch.setattr(trainer, "step", lambda: 1 / 0)
    dashboard.run()
    dashboard.wait()
    assert dashboard.status.value == "training failed: division by zero" and raised == [ZeroDivisionError]
    assert trainer.history.status == "interrupted"


def test_what_training_notices_is_shown(monkeypatch):
    trainer = toy_trainer()
    dashboard = widgets.TrainingDashboard(trainer, ALT)
    trainer.history.events.append({"kind": "collapsed", "epoch": 1, "message": "collapse: all samples agree"})
    dashboard.step()
    dashboard.wait()
    assert dashboard.status.value == "stopped: epoch 1 of 6; collapse: all samples agree"


def test_redrawing_takes_less_than_a_twentieth_of_the_training_time(monkeypatch):
    """With a redraw that costs 20 ms and epochs of 10 ms, so that the machine's mood does not count."""
    trainer = toy_trainer(150)
    dashboard = widgets.TrainingDashboard(trainer, ALT)
    drawn, clock = [], [0.0]

    def redraw():
        clock[0] += 0.02
        drawn.append(clock[0])
        dashboard.redraw_seconds = 0.02

    def run_epoch(after_each_step):
        clock[0] += 0.01
        trainer.history.rows.append({"epoch": len(trainer.history) + 1, "seconds": 0.01})
        return trainer.history.rows[-1]

    redraw()
    monkeypatch.setattr(dashboard, "redraw", redraw)
    monkeypatch.setattr(trainer, "run_epoch", run_epoch)
    dashboard.run()
    dashboard.wait()
    assert len(drawn) >= 4, "it has to follow the training"
    assert 0.02 < dashboard.redraw_share <= REDRAW_SHARE


# ---- laboratory ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lab():
    return widgets.GanLab(ALT, steps=40)


@pytest.mark.parametrize(
    "button, moved", [("Play", [40, 40]), ("D alone", [20, 0]), ("G alone", [0, 20])], ids=lambda value: str(value)[:7]
)
def test_lab_moves_the_sides_it_says(lab, button, moved):
    trainer, before, first = lab.trainer, weights(lab.trainer), lab.png
    next(b for text, b in lab.buttons.items() if text.startswith(button)).click()
    lab.wait()
    count = len(list(trainer.generators.parameters()))
    changed = [not np.array_equal(a, b) for a, b in zip(before, weights(trainer), strict=True)]
    assert changed == [bool(moved[1])] * count + [bool(moved[0])] * (len(changed) - count)
    assert lab.moves == moved and lab.status.value.startswith(f"D took {moved[0]} steps, G {moved[1]}; ")
    assert lab.png != first


def test_moving_both_is_what_the_training_loop_does(lab):
    other = widgets.GanLab(ALT)
    lab.play()
    lab.wait()
    for _ in range(40):
        other.trainer.step()
    assert all(np.array_equal(a, b) for a, b in zip(weights(lab.trainer), weights(other.trainer), strict=True))
    assert [step for step, *_ in lab.frames] == [0, 20, 40]


def test_a_game_that_was_paused_goes_on_as_if_it_had_not_been():
    plain, lab = widgets.GanLab(ALT, steps=80), widgets.GanLab(ALT, steps=80)
    plain.move(steps=120)
    lab.buttons["Play 80 steps"].click()
    wait_until(lambda: len(lab.frames) >= 2)
    lab.buttons["Pause"].click()
    stood = lab.moves[0]
    assert stood in (20, 40, 60, 80) and not lab._thread.is_alive()
    lab.move(steps=120 - stood)
    assert all(np.array_equal(a, b) for a, b in zip(weights(lab.trainer), weights(plain.trainer), strict=True))


def test_every_button_ends_a_game_under_way_without_harm(lab):
    for text in (*lab.buttons, *lab.buttons):
        lab.play()
        lab.play()  # pressed twice
        lab.buttons[text].click()
    lab.wait()
    assert all(np.isfinite(w).all() for w in weights(lab.trainer))
    assert lab.frames[-1][0] == max(lab.moves), lab.moves


def test_an_error_while_playing_is_shown(lab, monkeypatch):
    raised = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: raised.append(arguments.exc_type))
    monkeypatch.setattr(lab.trainer, "next_batch", lambda: 1 / 0)
    lab.play()
    lab.wait()
    assert lab.status.value == "the game failed: division by zero" and raised == [ZeroDivisionError]


def test_looking_changes_nothing(lab):
    lab.spectral.value = True
    state = {name: value.clone() for name, value in lab.trainer.discriminator.state_dict().items()}
    rng, first = lab.trainer.rng.get_state(), lab.png
    lab.redraw()
    lab.still()
    assert lab.png == first and torch.equal(lab.trainer.rng.get_state(), rng)
    assert all(torch.equal(state[name], value) for name, value in lab.trainer.discriminator.state_dict().items())
    assert lab.trainer.discriminator.training


def test_lab_leaves_the_readers_random_numbers_alone(lab):
    before = torch.get_rng_state()
    lab.buttons["Start again"].click()
    lab.move()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name, value", [("data", "grid of 25"), ("count", 4), ("loss", "hinge"), ("spectral", True)])
def test_each_choice_changes_the_picture_and_brings_it_back(lab, name, value):
    control, first = getattr(lab, name), lab.png
    before = control.value
    lab.move()
    control.value = value
    assert lab.png != first and lab.moves == [0, 0]
    control.value = before
    assert lab.png == first


def test_the_pace_changes_the_game_under_way(lab):
    lab.move()
    first = lab.png
    lab.pace.value = 5.0
    assert lab.moves == [20, 20] and lab.png != first
    rates = [o.param_groups[0]["lr"] for o in (lab.trainer.optimizer_d, lab.trainer.optimizer_g)]
    assert rates == pytest.approx([5e-3, 1e-3])
    lab.pace.value = 1.0
    assert lab.png == first and lab.trainer.optimizer_d.param_groups[0]["lr"] == pytest.approx(1e-3)


def test_presets_set_every_control_and_are_named_when_they_are_met(lab):
    for name, values in lab.PRESETS.items():
        lab.preset.value = name
        assert lab._chosen() == lab.DEFAULTS | values
        again = widgets.GanLab(ALT, preset=name, steps=40)
        assert again._chosen() == lab._chosen() and again.preset.value == name and again.png == lab.png
    lab.loss.value = "hinge"
    assert lab.preset.value == "my own" and lab.spectral.value
    lab.loss.value = "GAN"
    assert lab.preset.value == "spectral norm"
    lab.spectral.value, lab.pace.value = False, 5.0
    assert lab.preset.value == "quick D"
    assert widgets.GanLab(ALT, pace=5.0).preset.value == "quick D"
    assert widgets.GanLab(ALT, "quick D", count=2)._chosen() == lab.DEFAULTS | {"pace": 5.0, "count": 2}
    with pytest.raises(ValueError, match="preset='none'; allowed: 'collapse', 'quick D'"):
        widgets.GanLab(ALT, preset="none")
    with pytest.raises(ValueError, match=r"choices=\['speed'\]; allowed: 'data', 'count'"):
        widgets.GanLab(ALT, speed=2)
    with pytest.raises(ValueError, match="count=3; allowed: 1, 2, 4"):
        widgets.GanLab(ALT, count=3)
    with pytest.raises(ValueError, match="loss='lsgan'; allowed: 'GAN', .*'LSGAN'"):
        widgets.GanLab(ALT, loss="lsgan")


def test_a_preset_starts_one_new_game(lab, monkeypatch):
    started = []
    make = lab._new_players
    monkeypatch.setattr(lab, "_new_players", lambda: started.append(lab._chosen()) or make())
    lab.preset.value = "four generators"
    assert started == [lab.DEFAULTS | {"count": 4}] and len(lab.trainer.generators) == 4


@pytest.mark.parametrize("preset, least, most", [("collapse", 0, 4), ("quick D", 6, 8), ("four generators", 5, 8)])
def test_presets_show_what_their_names_say(preset, least, most):
    lab = widgets.GanLab(ALT, preset=preset)
    lab.move(steps=300)
    assert least <= lab.frames[-1][2] <= most


def test_what_remains_without_a_kernel_are_six_moments(lab):
    lab.move(steps=200)
    *fields, _bar, course = lab.strip().axes
    assert [ax.get_title().split(":")[0] for ax in fields] == [f"step {step}" for step in (0, 40, 80, 120, 160, 200)]
    np.testing.assert_array_equal(course.lines[0].get_xdata(), range(0, 201, 20))
    np.testing.assert_array_equal(course.lines[0].get_ydata(), [covered for *_, covered in lab.frames])
    data, metadata = lab._repr_mimebundle_()
    assert data["image/png"] == lab.still() != lab.png and metadata["image/png"]["alt"] == ALT


@pytest.mark.parametrize("loss", widgets.GanLab.LOSSES)
def test_every_loss_trains_with_any_number_of_generators(lab, loss):
    lab.loss.value = loss
    for count in (1, 2, 4):
        lab.count.value = count
        lab.move()
        assert all(np.isfinite(w).all() for w in weights(lab.trainer))
        assert len(lab.trainer.generators) == count


# ---- recorded runs -------------------------------------------------------------------------------------------------


def test_scrubber_moves_over_the_kept_epochs_of_every_run(history):
    scrubber = widgets.epoch_scrubber({"one": history, "same": history}, ALT)
    run, epoch = scrubber.controls
    assert epoch.options == (1, 3) and epoch.value == 3
    last = scrubber.png
    epoch.value = 1
    assert scrubber.png != last
    epoch.value, run.value = 3, "same"
    assert scrubber.png == last
    assert len(widgets.epoch_scrubber({"one": history}, ALT).controls) == 1


def test_drawn_epoch_names_its_numbers(history):
    fig = scrubbers.draw_epoch(history, 3)
    losses, scores, *sheets = fig.axes
    assert losses.get_title() == "Loss of " + ", ".join(
        f"{who}: {history[column][2]:.2f}" for who, column in (("D", "d_loss"), ("G1", "g1_loss"), ("G2", "g2_loss"))
    )
    assert scores.get_title() == f"D(x) = {history['d_real'][2]:.2f}, D(G(z)) = {history['d_fake'][2]:.2f}"
    assert [ax.get_title() for ax in sheets] == ["G1 after epoch 3", "G2 after epoch 3"]
    shown = [ax.images[0].get_array() for ax in sheets]
    assert all(np.array_equal(a, figures.tile(g[:36], 6)) for a, g in zip(shown, history.grids[3], strict=True))
    assert losses.lines[-1].get_xdata()[0] == 3


def test_points_before_training_and_critics_can_be_scrubbed():
    trainer = toy_trainer(3)
    trainer.history.grids[0] = trainer.fixed_samples()
    trainer.objective = WGAN()
    trainer.history.settings["objective"] = trainer.objective.describe()
    trainer.fit(progress=False)
    scrubber = widgets.epoch_scrubber({"toy": trainer.history}, ALT)
    assert scrubber.controls[0].options == (1, 3)


def test_kernel_free_scrubber_is_whole_and_small(history, monkeypatch):
    page = scrubbers.scrubber_html(history)
    assert not re.search(r"https?://", page), "it must not need a network"
    assert 'sandbox="allow-scripts"' in page and "Trust Notebook" in page and "title=" in page
    frames = re.findall(r"(UklGR[\w+/=]+)", page)
    assert len(frames) == 2
    sizes = {Image.open(io.BytesIO(base64.b64decode(frame))).size for frame in frames}
    assert len(sizes) == 1 and len(page) < 300_000

    messages = []
    monkeypatch.setattr(scrubbers, "display", lambda data, **_: messages.append(data))
    monkeypatch.setattr(figures, "show", lambda fig, alt, dpi: messages.append(alt))
    widgets.show_kernel_free_scrubber(history, ALT)
    assert messages[0] == ALT and messages[1]["text/html"] == page and "2 epochs" in messages[1]["text/plain"]


# ---- latents -------------------------------------------------------------------------------------------------------


def test_walk_shows_every_generator_and_returns():
    generators = dict(zip(("G1", "G2"), noise_trainer().generators, strict=True))
    walk = widgets.latent_walk(generators, ALT)
    position, end = walk.controls
    start = walk.png
    end.value = 5  # at the start it does not matter where the walk leads to
    at_start = walk.draw().axes[0].images[0].get_array()
    end.value = 1
    assert np.array_equal(walk.draw().axes[0].images[0].get_array(), at_start) and walk.png == start
    position.value = 100
    assert walk.png != start
    position.value = 0
    assert walk.png == start
    assert [ax.get_title() for ax in walk.draw().axes] == ["G1", "G2"]


def test_great_circle_keeps_length_and_meets_both_ends():
    start, end = torch.randn(2, 5, 100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scrubbers.great_circle(start, end, 0.0), start)
    torch.testing.assert_close(scrubbers.great_circle(start, end, 1.0), end)
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(scrubbers.great_circle(a, b, 1 / 3), torch.tensor([[3**0.5 / 2, 0.5]]))
    torch.testing.assert_close(scrubbers.great_circle(start, start, 0.5), start)
    torch.testing.assert_close(scrubbers.great_circle(start, 3 * start, 0.5), 2 * start)
