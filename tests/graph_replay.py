"""What a CUDA graph does, on the CPU: a list of operations on tensors that stay, run again without Python.

``EmulatedCuda`` stands in for ``helpers.gan.graphed.Cuda``. As on a GPU, recording has no effect of its own: whatever
it changed is put back. Reading a value is refused meanwhile, and every random generator has to be registered.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def tensors_in(*nest) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, torch.Tensor)]


def key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


class EmulatedCuda:
    def run(self, step):
        return step()

    def record(self, step, rng: torch.Generator):
        graph = EmulatedGraph(rng)
        default = torch.get_rng_state()  # CUDA registers its default generator by itself
        with graph, graph.functions:
            result = step()
        graph.put_back()
        torch.set_rng_state(default)
        return graph, result


class EmulatedGraph(TorchDispatchMode):
    def __init__(self, rng: torch.Generator):
        super().__init__()
        self.rng, self.rng_before = rng, rng.get_state()
        self.operations = []  # (operation, arguments, keywords, tensors that it makes)
        self.before = {}  # storage -> its content before the first operation that changes it
        self.made, self.alive = set(), []
        self.functions = _ReadsOnlyOnTheCPU()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for generator in (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Generator)):
            if generator._cdata != self.rng._cdata:
                raise RuntimeError(f"{operation}: this generator is not registered with the graph")
        if operation is torch.ops.aten._local_scalar_dense.default and not self.functions.reading:
            raise RuntimeError("operation not permitted when stream is capturing: a value is read")
        given = tensors_in(args, kwargs)
        self._keep_before(operation, args, given)
        result = operation(*args, **kwargs)
        known = {key(tensor) for tensor in given}
        fresh = [(place, tensor) for place, tensor in enumerate(tree_leaves(result))
                 if isinstance(tensor, torch.Tensor) and key(tensor) not in known]  # fmt: skip
        self.made |= {key(tensor) for _, tensor in fresh}
        if fresh or operation._schema.is_mutable:
            self.operations.append((operation, args, kwargs, fresh))
        self.alive.append((args, kwargs, result))  # else the memory of one tensor would become another's
        return result

    def _keep_before(self, operation, args, given) -> None:
        changed = given if operation._schema.is_mutable else []
        if operation is torch.ops.aten.native_batch_norm.default and args[5]:
            changed = [each for each in args[3:5] if each is not None]  # running statistics; its schema is silent
        for storage in (tensor.untyped_storage() for tensor in changed):
            if storage._cdata not in self.made | self.before.keys():
                self.before[storage._cdata] = storage, storage.clone()

    def put_back(self) -> None:
        for storage, content in self.before.values():
            storage.copy_(content)
        self.rng.set_state(self.rng_before)

    @torch.no_grad()
    def replay(self) -> None:
        with torch._C._AutoDispatchBelowAutograd():
            for operation, args, kwargs, fresh in self.operations:
                result = tree_leaves(operation(*args, **kwargs))
                for place, tensor in fresh:
                    torch.ops.aten.copy_.default(tensor, result[place])


class _ReadsOnlyOnTheCPU(TorchFunctionMode):
    """``one_hot`` reads its labels to check them, but not on CUDA."""

    reading = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.reading = getattr(function, "__name__", "") == "one_hot"
        try:
            return function(*args, **(kwargs or {}))
        finally:
            self.reading = False
