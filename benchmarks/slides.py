"""The usual loop, as the slides' listing begins it and most tutorials write it: the first of the three contestants.

A DataLoader turns one Pillow image after another into a tensor; D scores the real batch and each fake batch in a pass
of its own; the generators draw new latents for their step, which also computes D's gradients; Adam is torch's default.
"""

from itertools import chain

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.cases import Case


class PillowImages(Dataset):
    """(N, 28, 28) uint8 images, handed out one by one as torchvision.datasets.MNIST does it."""

    def __init__(self, images: Tensor, transform):
        self.images, self.transform = images, transform
        self.labels = torch.zeros(len(images), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


class SlidesLoop:
    """The usual loop for GAN, SNGAN and PSG-GAN on (N, 28, 28) uint8 images."""

    def __init__(self, case: Case, images: Tensor, batch_size: int = 100, device="cpu"):
        from torchvision import transforms

        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
        # A short last batch is left out, as in our loop: WGAN-GP could not mix it with a whole batch of fakes.
        self.loader = DataLoader(PillowImages(images, transform), batch_size, shuffle=True, drop_last=True)
        self.batches = self.endless_batches()
        self.device, self.batch_size, self.criterion = device, batch_size, nn.BCEWithLogitsLoss()
        generators, discriminator = case.networks()
        self.generators, self.discriminator = [g.to(device) for g in generators], discriminator.to(device)
        settings = case.settings(batch_size)
        self.critic_steps, adam = settings.critic_steps, (settings.learning_rate, settings.betas)
        self.optimizer_g = torch.optim.Adam(chain(*(g.parameters() for g in generators)), *adam)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), *adam)
        self.d_loss = self.g_loss = 0.0

    def endless_batches(self):
        while True:
            yield from self.loader

    def run(self, batches: int) -> None:
        """Train on this many batches of real images."""
        for step in range(max(batches // self.critic_steps, 1) * self.critic_steps):
            real, _ = next(self.batches)
            self.discriminator_step(real.to(self.device))
            if (step + 1) % self.critic_steps == 0:
                self.generator_step()

    def discriminator_step(self, real: Tensor) -> None:
        self.optimizer_d.zero_grad()
        loss = self.discriminator_loss(real, [self.fake_images(g).detach() for g in self.generators])
        loss.backward()
        self.optimizer_d.step()
        self.d_loss += loss.item()

    def generator_step(self) -> None:
        self.optimizer_g.zero_grad()
        outputs = [self.discriminator(self.fake_images(g)) for g in self.generators]
        loss = sum(self.generator_loss(output) for output in outputs) / len(outputs)
        loss.backward()
        self.optimizer_g.step()
        self.g_loss += loss.item()

    def fake_images(self, generator: nn.Module) -> Tensor:
        return generator(torch.randn(self.batch_size, 100, device=self.device))

    def discriminator_loss(self, real: Tensor, fakes: list[Tensor]) -> Tensor:
        outputs = [self.discriminator(fake) for fake in fakes]
        output_real = self.discriminator(real)
        loss_fake = sum(self.criterion(output, torch.zeros_like(output)) for output in outputs) / len(outputs)
        return self.criterion(output_real, torch.ones_like(output_real)) + loss_fake

    def generator_loss(self, output: Tensor) -> Tensor:
        return self.criterion(output, torch.ones_like(output))


class SlidesWassersteinLoop(SlidesLoop):
    """The same loop with the losses of WGAN-GP."""

    def discriminator_loss(self, real, fakes):
        (fake,) = fakes
        alpha = torch.rand(len(real), 1, 1, 1, device=self.device)
        between = (alpha * real + (1 - alpha) * fake).requires_grad_()
        output = self.discriminator(between)
        (gradient,) = torch.autograd.grad(output, between, torch.ones_like(output), create_graph=True)
        penalty = ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        return self.discriminator(fake).mean() - self.discriminator(real).mean() + 10 * penalty

    def generator_loss(self, output):
        return -output.mean()


def slides_loop(case: Case, images: Tensor, batch_size: int = 100, device="cpu") -> SlidesLoop:
    """The usual loop of a case."""
    return (SlidesWassersteinLoop if case.penalty else SlidesLoop)(case, images, batch_size, device)
