"""The benchmarks measure what they say: equal work in the three loops, the floor's products are the step's, and the
README's table is the one of the stored results. No test asserts a time.
"""

import json
import platform

import numpy as np
import pytest
import torch
from graph_replay import EmulatedCuda
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import bf16, scaling, table, waits
from benchmarks import floor as floor_module
from benchmarks.__main__ import main, measure_loops, parse
from benchmarks.cases import CASES, Case, Ours
from benchmarks.floor import Floor
from benchmarks.measure import alternate, machine_facts, ratios, summarise
from benchmarks.slides import slides_loop

BATCH = 8


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def images(count=40):
    pixels = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return pixels, pixels[:, None].float() / 127.5 - 1


class CountProducts(TorchDispatchMode):
    """torch's FlopCounterMode without its hooks on modules, which autograd.grad does not allow."""

    flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket in flop_registry:
            self.flops += flop_registry[function.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def product_flops(loop, batches: int) -> int:
    with CountProducts() as counter:
        loop.run(batches)
    return counter.flops


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_floor_has_the_products_of_our_step(case):
    assert product_flops(Ours(case, images()[1], BATCH), 5) == product_flops(Floor(case, BATCH), 5)


@pytest.mark.parametrize("case", (CASES[1], CASES[-1]), ids=lambda case: case.name)
def test_a_floor_as_cuda_graph_has_the_same_products(case, monkeypatch):
    """Else a graph of ours would be measured against Python's launching of the floor's kernels."""
    monkeypatch.setattr(floor_module, "Cuda", lambda stream: EmulatedCuda())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    floor, graph = Floor(case, BATCH), Floor(case, BATCH, cuda_graph=True)
    before = graph.generators[0].weights[0].clone()
    assert product_flops(floor, 5) == product_flops(graph, 5)
    assert not torch.equal(graph.generators[0].weights[0], before), "Adam is in it"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_usual_loop_trains_all_players(case):
    loop = slides_loop(case, images()[0], BATCH)
    players = [*loop.generators, loop.discriminator]
    before = [next(player.parameters()).clone() for player in players]
    loop.run(5)
    assert all(not torch.equal(old, next(player.parameters())) for old, player in zip(before, players, strict=True))
    assert all(next(player.parameters()).isfinite().all() for player in players)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_usual_loop_leaves_out_a_short_last_batch(case):
    loop = slides_loop(case, images(BATCH + 4)[0], BATCH)
    assert {len(next(loop.batches)[0]) for _ in range(4)} == {BATCH}
    loop.run(5)


def test_usual_loop_has_our_losses():
    """The same networks on the same images and latents: both loops minimise the same numbers."""
    case = Case("psg_2", "", CASES[3].objective, generators=2)
    loop, trainer = slides_loop(case, images()[0], BATCH), Ours(case, images()[1], BATCH).trainer
    real, fakes = images()[1][:BATCH], [fake.detach() for fake in trainer.generate(BATCH)]
    usual = loop.discriminator_loss(real, fakes)
    _, measures = trainer.discriminator_step(real, fakes)
    torch.testing.assert_close(usual, measures["d_loss"])
    torch.testing.assert_close(next(loop.batches)[0].aminmax(), images()[1].aminmax())


def test_contestants_take_turns():
    calls = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_summaries_and_ratios():
    measure = summarise("name", [4.0, 1.0, 2.0, 3.0, 5.0], "s")
    assert (measure.value, measure.low, measure.high) == (3.0, 1.5, 4.5)
    assert str(measure) == "name 3 s"
    assert ratios([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]


def test_machine_facts_name_no_host_and_no_path():
    facts = json.dumps(machine_facts())
    assert platform.node() not in facts or not platform.node()
    assert "/" not in facts


def test_loops_are_measured_with_both_ratios():
    measures = {m.name: m for m in measure_loops(*images(), rounds=1, batches=5, batch_size=BATCH)}
    for case in CASES:
        assert {f"{case.name}/{name}" for name in ("slides", "ours", "ours_bf16", "floor")} <= set(measures)
        usual, ours = measures[f"{case.name}/slides"].value, measures[f"{case.name}/ours"].value
        assert measures[f"{case.name}/slides_over_ours"].value == pytest.approx(usual / ours)
    assert "psg_2/ours_over_gan" in measures


def test_every_sweep_is_measured_and_drawn(monkeypatch):
    _, pixels = images()
    for sweep, value in (("batch_size", 4), ("width", 0.25), ("generators", 2), ("images", 20)):
        monkeypatch.setattr(scaling, "SWEEPS", {sweep: ((value,), sweep)})
        (point,) = scaling.measure_scaling(pixels, rounds=1, seconds=0.001)
        assert (point["sweep"], point["value"]) == (sweep, value)
        assert point["ours"] > 0 and point["floor"] > 0


def test_figure_states_the_growth():
    grown = {"batch_size": -0.5, "width": 2, "generators": 1, "images": 1}
    points = [
        {"sweep": sweep, "value": value, "ours": value ** grown[sweep], "floor": value ** grown[sweep] / 2}
        for sweep, (values, _) in scaling.SWEEPS.items()
        for value in values
    ]
    assert "8 generators cost 8.0 times" in scaling.growth(points)
    assert "4 times the width 16 times" in scaling.growth(points)
    assert "0.25 times" in scaling.growth(points)
    figure = scaling.draw(points, machine_facts())
    assert all(len(ax.lines) == 2 and ax.get_xscale() == "log" == ax.get_yscale() for ax in figure.axes)


def test_waits_come_from_a_process_of_their_own(monkeypatch):
    monkeypatch.setattr(waits, "load_images", lambda *_, **__: None)
    monkeypatch.setattr(waits, "PROGRAM", "import json; print(json.dumps({'wait/nothing s': 2.0}))")
    assert list(map(str, waits.measure_waits(2))) == ["wait/nothing 2 s"]
    monkeypatch.setattr(waits, "PROGRAM", "raise SystemExit('no such thing')")
    with pytest.raises(RuntimeError, match="no such thing"):
        waits.measure_waits(1)


def test_bfloat16_is_in_the_products_only():
    """The setting leaves weights float32, is undone afterwards, and changes no more than rounding does."""
    single, half = (Ours(CASES[0], images()[1], BATCH).trainer for _ in range(2))
    before = torch.get_float32_matmul_precision()
    a = single.step()["d_loss"]
    with bf16.bf16_products():
        assert torch.get_float32_matmul_precision() == "medium"
        b = half.step()["d_loss"]
    assert torch.get_float32_matmul_precision() == before
    assert a == pytest.approx(b.item(), abs=0.02)
    assert {p.dtype for p in (*half.generator_parameters, *half.discriminator.parameters())} == {torch.float32}


def test_curves_of_two_precisions_are_compared_by_hand():
    single = np.zeros((2, len(bf16.COLUMNS), 5))
    single[1] = 2.0  # mean 1, spread of the two seeds sqrt(2)
    line = bf16.compare(single, single + 0.5)[0]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [
        "1.0000",
        "1.5000",
        "0.5000",
        "1.4142",
        "1.4142",
        "0.35",
    ]


def test_what_is_refused():
    for wrong in (["--rounds", "0"], ["--images", "50"], ["--images", "799"], ["--batches", "7"]):
        with pytest.raises(SystemExit):
            parse(wrong)
    assert parse(["--images", "800"]).images == 800, "the largest batch of the sweep"


def test_the_folder_for_the_results_is_made_before_anything_is_measured(tmp_path, monkeypatch):
    class Measuring(Exception):
        pass

    def begin(*_):
        assert folder.is_dir()
        raise Measuring

    folder = tmp_path / "new" / "folder"
    monkeypatch.setattr("benchmarks.__main__.measure_waits", begin)
    with pytest.raises(Measuring):
        main(["--device", "cpu", "--output", str(folder)])


def test_stored_results_are_complete_and_the_readme_agrees():
    results = json.loads(table.RESULTS.read_text(encoding="utf-8"))
    for report in results.values():
        assert {"device", "threads", "torch", "date"} <= set(report["machine"])
        assert {point["sweep"] for point in report["scaling"]} == set(scaling.SWEEPS)
    readme = table.README.read_text(encoding="utf-8")
    assert table.between_markers(readme) == table.speed_table(results), "run `python -m benchmarks.table`"
