"""The systems that are timed, and our own loop for each: ``Ours(case, images).run(batches)``."""

from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.gan import objectives
from helpers.gan.networks import Discriminator, Generator
from helpers.gan.systems import SYSTEMS
from helpers.gan.training import Settings, Trainer


@dataclass(frozen=True)
class Case:
    """One system: K generators against a discriminator that may have spectral norm or a gradient penalty."""

    name: str
    label: str
    objective: type[objectives.Objective] = objectives.GAN
    generators: int = 1
    spectral: bool = False
    width: float = 1.0  # of all hidden layers, in multiples of the slides'

    @property
    def penalty(self) -> bool:
        return self.objective is objectives.WGANGP

    def settings(self, batch_size: int, cuda_graph: bool = False) -> Settings:
        of_system = SYSTEMS["wgan_gp"].settings if self.penalty else {}
        return Settings(batch_size=batch_size, cuda_graph=cuda_graph, **of_system)

    def hidden(self) -> tuple[int, int]:
        return round(256 * self.width), round(512 * self.width)

    def networks(self) -> tuple[list[Generator], Discriminator]:
        torch.manual_seed(0)
        generators = [Generator(hidden=self.hidden()) for _ in range(self.generators)]
        return generators, Discriminator(hidden=self.hidden()[::-1], spectral=self.spectral)


CASES = (
    Case("gan", "GAN"),
    Case("sngan", "SNGAN", spectral=True),
    Case("psg_1", "PSG-GAN, K = 1", objectives.PSG),
    Case("psg_2", "PSG-GAN, K = 2", objectives.PSG, generators=2),
    Case("psg_4", "PSG-GAN, K = 4", objectives.PSG, generators=4),
    Case("wgan_gp", "WGAN-GP", objectives.WGANGP),
)


class Ours:
    """Our loop: the helpers' Trainer, together with the sums over an epoch's measures that it keeps."""

    def __init__(self, case: Case, images: Tensor, batch_size: int = 100, cuda_graph: bool = False):
        generators, discriminator = case.networks()
        settings = case.settings(batch_size, cuda_graph)
        self.trainer = Trainer(generators, discriminator, case.objective(), images, settings)
        self.total = 0

    def run(self, batches: int) -> None:
        """Train on this many batches of real images."""
        for _ in range(max(batches // self.trainer.settings.critic_steps, 1)):
            self.total = self.total + torch.stack(list(self.trainer.take_step().values()))
