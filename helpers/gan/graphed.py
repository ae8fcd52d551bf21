"""The training step as a CUDA graph: recorded once, then launched as a whole with ``Settings(cuda_graph=True)``.

A step of these small networks is 100 to 200 kernels of some microseconds each, and Python takes longer to launch one
than a GPU to run it. A graph is what a step has launched, to be launched again at one go. No Python runs then: the same
kernels read and write the same memory. So whatever differs from step to step has to differ inside that memory:

- the batch: before each replay its places in the order are copied to where the recorded step looks for them
- the random numbers: the trainer's generator is registered with the graph, and each replay draws on from it
- what an objective remembers (BEGAN's k) and optimisers count: changed in place

What Python decides once (learning rates, training mode, where each tensor lies) is compared before every epoch, and the
step recorded anew where it has changed. tests/gan/test_graphed.py proves on an emulation that weights, histories and
random numbers are those of the plain loop, and on a GPU where there is one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PLAIN_STEPS = 3  # before recording: libraries and optimisers set themselves up in their first steps


def can_be_replayed(trainer) -> bool:
    """Whether it is asked for, all lies on CUDA, and the steps are alike."""
    on_cuda = trainer.device.type == trainer.images.device.type == "cuda"
    return trainer.settings.cuda_graph and on_cuda and steps_are_alike(trainer)


def steps_are_alike(trainer) -> bool:
    """Whether Python decides nothing from one step to the next: who takes part, and when the images are shuffled."""
    fits_an_epoch = _images_of_a_step(trainer) <= len(trainer.images)  # else they are shuffled in the midst of a step
    return fits_an_epoch and not trainer.objective.may_skip_players


def _images_of_a_step(trainer) -> int:
    return trainer.settings.batch_size * trainer.settings.critic_steps


@dataclass
class Cuda:
    """What is asked of CUDA here; the tests put an emulation in its place."""

    stream: "torch.cuda.Stream"

    def run(self, step) -> dict[str, Tensor]:
        """The step run as usual, but on the stream on which it will be recorded."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            measures = step()
        torch.cuda.current_stream().wait_stream(self.stream)
        return measures

    def record(self, step, rng: torch.Generator):
        """(graph, measures) of the step, which is recorded and not run; ``graph.replay()`` runs it."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(rng)
        # Other threads may use the GPU meanwhile, such as a notebook's beside the dashboard's.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            measures = step()
        return graph, measures


class ReplayedStep:
    """In place of ``trainer.step``: a few plain steps, then replays. The next replay overwrites the measures."""

    def __init__(self, trainer, cuda=None):
        self.trainer, self.cuda = trainer, cuda or Cuda(torch.cuda.Stream(trainer.device))
        self.places = torch.zeros(_images_of_a_step(trainer), dtype=torch.int64, device=trainer.images.device)
        self.graph, self.measures, self.fixed, self.plain_steps = None, None, None, 0

    def __call__(self) -> dict[str, Tensor]:
        trainer = self.trainer
        if trainer._order is None or trainer._position + len(self.places) > len(trainer._order):  # a new epoch
            trainer.shuffle()
            if self.graph is not None and self.fixed != _what_python_decided(trainer):
                self.graph, self.plain_steps = None, 0
        if self.graph is None and self.plain_steps < PLAIN_STEPS:
            if self.plain_steps == 0:
                _make_capturable(trainer.optimizer_g, trainer.optimizer_d)
            self.plain_steps += 1
            return self.cuda.run(trainer.step)
        if self.graph is None:
            self._record()
        end = trainer._position + len(self.places)
        self.places.copy_(trainer._order[trainer._position : end])
        trainer._position = end
        self.graph.replay()
        return self.measures

    def _record(self) -> None:
        """Record a step that takes its batches from ``places``."""
        trainer = self.trainer
        order, position = trainer._order, trainer._position
        trainer._order, trainer._position = self.places, 0
        try:
            self.graph, self.measures = self.cuda.record(trainer.step, trainer.rng)
        except RuntimeError as error:
            raise RuntimeError(f"this step cannot be a CUDA graph ({error}); train with cuda_graph=False") from error
        finally:
            trainer._order, trainer._position = order, position
        self.fixed = _what_python_decided(trainer)


def _make_capturable(*optimizers) -> None:
    """Let optimisers count their steps on the GPU, else a graph would repeat one count for ever."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["capturable"] = True
        for parameter, state in optimizer.state.items():
            state["step"] = state["step"].to(parameter.device)


def _what_python_decided(trainer) -> tuple:
    """Everything that a recorded step has taken for granted, to be compared with what is the case later."""
    players = (trainer.generators, trainer.discriminator)
    optimizers = (trainer.optimizer_g, trainer.optimizer_d)
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    kept = [*(player.state_dict() for player in players), *states, trainer.objective.state_dict()]
    tensors = [value for part in kept for value in part.values() if isinstance(value, Tensor)]
    return (
        [tensor.data_ptr() for tensor in (trainer.images, trainer.labels, *tensors) if tensor is not None],
        [
            {name: group[name] for name in group if name != "params"}
            for each in optimizers
            for group in each.param_groups
        ],
        [module.training for player in players for module in player.modules()],
        (id(trainer.objective), trainer.objective.describe()),
    )
