"""The floor: the matrix products of a training step and the fused optimiser on preallocated tensors, nothing else.

No activation, loss, random number, batch or autograd: whoever computes these networks' gradients with matrix products
in float32 cannot be faster with the same library. tests/test_benchmarks.py counts that the products are the step's.
"""

from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.cases import Case
from helpers.gan.graphed import PLAIN_STEPS, Cuda

PIXELS, LATENT_DIM = 784, 100


class Products:
    """The matrix products of one fully connected network, each written to a tensor that is there already."""

    def __init__(self, widths: tuple[int, ...], rows: int, device):
        sizes = list(pairwise(widths))
        self.weights = [torch.randn(n_out, n_in, device=device) / n_in**0.5 for n_in, n_out in sizes]
        self.biases = [torch.zeros(n_out, device=device) for _, n_out in sizes]
        self.outputs = [torch.zeros(rows, n_out, device=device) for _, n_out in sizes]
        self.input_gradients = [torch.zeros(rows, n_in, device=device) for n_in, _ in sizes]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases]

    def forward(self, inputs: Tensor) -> Tensor:
        for weight, bias, output in zip(self.weights, self.biases, self.outputs, strict=True):
            inputs = torch.addmm(bias, inputs, weight.T, out=output[: len(inputs)])
        return inputs

    def backward(self, inputs: Tensor, gradient: Tensor, weights: bool, first_inputs: bool) -> Tensor:
        """Gradients of the weights and of each layer's inputs; those of the first layer only where asked for."""
        rows = len(inputs)
        for layer in reversed(range(len(self.weights))):
            if weights:
                layer_inputs = self.outputs[layer - 1][:rows] if layer else inputs
                torch.mm(gradient.T, layer_inputs, out=self.weights[layer].grad)
            if layer or first_inputs:
                gradient = torch.mm(gradient, self.weights[layer], out=self.input_gradients[layer][:rows])
        return gradient

    def backward_of_gradients(self, gradient: Tensor, score_gradient: Tensor) -> None:
        """What a penalty on ``backward``'s answer adds: the products of differentiating it once more."""
        rows = len(gradient)
        for layer, weight in enumerate(self.weights):
            last = layer == len(self.weights) - 1
            output_gradient = score_gradient if last else self.input_gradients[layer + 1][:rows]
            torch.addmm(weight.grad, output_gradient.T, gradient, out=weight.grad)
            if not last:
                gradient = torch.mm(gradient, weight.T, out=self.outputs[layer][:rows])

    def power_iteration(self) -> None:
        """The three matrix-vector products that torch's spectral norm adds to every forward pass of a layer."""
        for layer, weight in enumerate(self.weights):
            left, right = self.biases[layer], self.input_gradients[layer][0]
            for matrix, vector in ((weight, right), (weight.T, left), (weight, right)):
                torch.mv(matrix, vector)


class Floor:
    """The products of one case's training steps and its fused optimisers."""

    def __init__(self, case: Case, batch_size: int = 100, device="cpu", cuda_graph: bool = False):
        self.case, self.size, self.count = case, batch_size, case.generators
        first, second = case.hidden()
        fake_rows = self.count * batch_size
        widths = (LATENT_DIM, first, second, PIXELS)
        self.generators = [Products(widths, batch_size, device) for _ in range(self.count)]
        self.discriminator = Products((PIXELS, second, first, 1), batch_size + fake_rows, device)
        self.latents = torch.randn(batch_size, LATENT_DIM, device=device)
        self.images = torch.randn(batch_size + fake_rows, PIXELS, device=device)
        self.score_gradients = torch.ones(batch_size + fake_rows, 1, device=device) / batch_size
        self.critic_steps = case.settings(batch_size).critic_steps
        # The rate keeps the numbers finite over any number of steps; it does not change the time.
        generator_parameters = [p for generator in self.generators for p in generator.parameters]
        adam = {"lr": 1e-9, "fused": True, "capturable": cuda_graph}
        self.optimizer_g = torch.optim.Adam(generator_parameters, **adam)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters, **adam)
        self.take_step = replayed(self.step, device) if cuda_graph else self.step

    @torch.no_grad()
    def run(self, batches: int) -> None:
        """As many training steps as this many batches of real images give."""
        for _ in range(max(batches // self.critic_steps, 1)):
            self.take_step()

    def step(self) -> None:
        for _ in range(self.critic_steps):
            for generator in self.generators:
                generator.forward(self.latents)
            self.discriminator_step()
        self.generator_step()

    def discriminator_step(self) -> None:
        discriminator, fakes = self.discriminator, self.images[self.size :]
        self.score(self.images)
        discriminator.backward(self.images, self.score_gradients, weights=True, first_inputs=False)
        if self.case.penalty:
            discriminator.forward(fakes)  # points between real and fake, as many as fakes
            score_gradient = self.score_gradients[: len(fakes)]
            gradient = discriminator.backward(fakes, score_gradient, weights=False, first_inputs=True)
            discriminator.backward_of_gradients(gradient, score_gradient)
        self.optimizer_d.step()

    def generator_step(self) -> None:
        fakes = self.images[self.size :]
        self.score(fakes)
        gradient = self.discriminator.backward(fakes, self.score_gradients[: len(fakes)], False, first_inputs=True)
        for generator, part in zip(self.generators, gradient.split(self.size), strict=True):
            generator.backward(self.latents, part, weights=True, first_inputs=False)
        self.optimizer_g.step()

    def score(self, images: Tensor) -> None:
        if self.case.spectral:
            self.discriminator.power_iteration()
        self.discriminator.forward(images)


def replayed(step, device):
    """The step as a CUDA graph, so that not only our loop is spared launching its kernels one by one."""
    cuda = Cuda(torch.cuda.Stream(device))
    with torch.no_grad():
        for _ in range(PLAIN_STEPS):
            cuda.run(step)
        graph, _ = cuda.record(step, torch.Generator(device))
    return graph.replay
