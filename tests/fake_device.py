"""A GPU that is not there: runs code for CUDA or Apple's MPS on the CPU, and reports what a real one would refuse.

Every tensor really lies on the CPU. Where it *would* lie is a tag on its storage, so that views and what autograd keeps
carry it along. Two modes of torch do the work: ``_Functions`` sees what Python calls and answers ``.device``, moves and
the ``device=`` of factories; ``_Operations`` sees every single operation, a backward pass's too, and compares tags.

Reported: two devices in one operation; a random generator of another device; numpy from a device; operations that the
device has no kernel for; products of integers; float64 on MPS. The run goes on after a finding, so that one run finds
all. ``counting()`` counts the kernels that a stretch of code launches and how often it waits for the device.
``skim()`` is for long trainings: what is the same at every step is looked at now and then.

What it does not see: devices in hooks and backward passes that are written in Python. What it cannot know: whether
the numbers are right, how fast a device is, and what torch decides by itself there.
"""

import functools
import re
import threading
import traceback
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock
from weakref import WeakKeyDictionary

import torch
import torch._dynamo  # before anything is patched: it looks at the functions themselves
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

FOLDERS = {"helpers", "benchmarks", "tests", "tools"}  # whose files are named in a report, beside notebooks' cells
KINDS = ("cuda", "mps")
CELL = re.compile(r"ipykernel_\d")
ANYWHERE = "anywhere"  # made inside torch, where Python does not say for which device
WIDE = (torch.float64, torch.complex128)
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "addr", "_addmm_activation", "addbmm"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
COPYING = {"copy_", "_to_copy", "_local_scalar_dense", "is_same_size", "set_"}
ANSWERS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"}  # the host waits for these
NO_KERNELS = {"empty", "empty_like", "new_empty", "new_empty_strided", "empty_strided", "_unsafe_view", *ANSWERS}
Generator = torch.Generator


def tensors_in(*nest) -> list[torch.Tensor]:
    """All tensors in tuples, lists and dictionaries. (torch's own tree_leaves took most of a watched step's time.)"""
    found = []
    for each in nest:
        if isinstance(each, torch.Tensor):
            found.append(each)
        elif isinstance(each, (tuple, list)):
            found += tensors_in(*each)
        elif isinstance(each, dict):
            found += tensors_in(*each.values())
    return found


def tag(tensor: torch.Tensor) -> str | None:
    """ "cpu", "cuda:0", "mps:0" or ANYWHERE; None where nothing was said, which means the CPU."""
    return getattr(tensor.untyped_storage(), "would_lie_on", None)


def set_tag(tensor: torch.Tensor, where: str) -> None:
    tensor.untyped_storage().would_lie_on = where


def place(tensor: torch.Tensor) -> str:
    return tag(tensor) or "cpu"


def same_storage(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def named(device) -> str | None:
    """The tag for whatever names a device: a text, a number, a torch.device; None for anything else."""
    if isinstance(device, bool) or not isinstance(device, (str, int, torch.device)):
        return None
    try:
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except RuntimeError:
        return None
    return f"{device.type}:{device.index or 0}" if device.type in KINDS else device.type


class FakeGenerator(Generator):
    """A CPU generator that says it belongs to another device."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.would_lie_on = named(device)
        return made

    def __init__(self, device="cpu"):
        pass

    @property
    def device(self):
        return torch.device(self.would_lie_on)


class Move(torch.autograd.Function):
    """A copy on another device; its gradient comes back."""

    @staticmethod
    def forward(ctx, tensor, target):
        ctx.source = place(tensor)
        moved = tensor.detach().clone()
        set_tag(moved, target)
        return moved

    @staticmethod
    def backward(ctx, gradient):
        moved = gradient.clone()
        set_tag(moved, ctx.source)
        return moved, None


@functools.cache
def listed_operations() -> dict[str, dict]:
    """Every operation of torch by its name, from the list that torch itself is built from."""
    import torchgen
    import yaml

    path = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # written in C where there is one: 0.5 s, not 8
    return {entry["func"].split("(")[0]: entry for entry in yaml.load(path.read_text(encoding="utf-8"), loader)}


@functools.cache
def operations_of(kind: str) -> set[str]:
    """The names of all operations that run on a kind of device: by kernels of its own or composed of others."""
    entries = listed_operations()
    everywhere = {"CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}
    found = set()
    for name, entry in entries.items():
        both = (entry, entries.get(entry.get("structured_delegate"), entry))
        keys = {key.strip() for each in both for group in each.get("dispatch") or () for key in group.split(",")}
        keys |= {"CPU", "CUDA"} if any("ufunc_inner_loop" in each for each in both) else set()  # made for both by torch
        if not keys or keys & {kind.upper(), *everywhere}:
            found |= {name, *(other.strip() for other in entry.get("autogen", "").split(",") if other)}
    return found


@dataclass
class Finding:
    kind: str
    text: str
    frames: list[traceback.FrameSummary]  # of the project and of notebooks, the innermost last

    @property
    def place(self) -> tuple:
        """One line of code is reported once for each kind of finding."""
        return (self.kind, *((self.frames[-1].filename, self.frames[-1].lineno) if self.frames else (self.text,)))

    def __str__(self) -> str:
        return f"[{self.kind}] {self.text}" + "".join(f"\n    {shown(frame)}" for frame in self.frames[-3:])


def shown(frame) -> str:
    name = "a cell" if CELL.search(frame.filename) else "/".join(Path(frame.filename).parts[-3:])
    return f"{name}, line {frame.lineno}: {frame.line}"


def is_ours(filename: str) -> bool:
    ours = FOLDERS & set(Path(filename).parts) and "site-packages" not in filename
    return bool(CELL.search(filename) or ours) and filename != __file__


@dataclass
class Count:
    kernels: Counter = field(default_factory=Counter)
    waits: Counter = field(default_factory=Counter)


# Older releases (2.9 was tried) replace the parameters of a layer with spectral norm in ways that are not seen here:
# the fake then reports operations on two devices where there are none.
IS_FAITHFUL = hasattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check")


class _Thread(threading.local):
    """Whether a thread is in a trainer's step."""

    in_step = False


class FakeDevice:
    """``with FakeDevice("cuda") as gpu: ...`` and then ``gpu.findings``."""

    def __init__(self, kind: str, memory=(60 * 10**9, 80 * 10**9)):
        self.kind, self.memory, self.operations = kind, memory, operations_of(kind)
        self.findings: list[Finding] = []
        self.count: Count | None = None
        self.thread = _Thread()

    def __enter__(self):
        self._stack = ExitStack()
        fake, run = self, threading.Thread.run

        def run_on_fake(thread):
            with fake._modes():
                run(thread)

        replaced = {
            "torch.Generator": FakeGenerator,
            "torch.cuda.is_available": lambda: self.kind == "cuda",
            "torch.backends.mps.is_available": lambda: self.kind == "mps",
            "torch.cuda.get_device_name": lambda *_: "a GPU that is not there",
            "torch.cuda.mem_get_info": lambda *_: self.memory,
            "torch.cuda.is_current_stream_capturing": lambda: False,
            "torch.optim.Optimizer._accelerator_graph_capture_health_check": lambda _: None,
            "threading.Thread.run": run_on_fake,
        }
        for module in (f"torch.{kind}" for kind in KINDS):
            replaced |= {f"{module}.synchronize": lambda *_: None}
            replaced |= {f"{module}.{name}": getattr(torch, name) for name in ("get_rng_state", "set_rng_state")}
        for name, replacement in replaced.items():
            self._stack.enter_context(mock.patch(name, replacement))
        self._stack.enter_context(self._modes())
        return self

    def __exit__(self, *error):
        self._stack.close()

    @contextmanager
    def _modes(self):
        with _Operations(self), _Functions(self):
            yield

    @contextmanager
    def counting(self):
        """Yields the Count of what happens inside."""
        self.count = Count()
        try:
            yield self.count
        finally:
            self.count = None

    def skim(self, trainer_class, first: int = 4, every: int = 200, only: int = 1) -> None:
        """From now on watch of each trainer's steps the first few and then one in many; the others are the same code.

        Single operations are what costs: a step on points takes four times as long when they are watched. A skimmed
        step is one on the CPU, and what it makes and keeps has no tags; they are put on afterwards.

        only: of the others take one in so many; the measures of one that is not taken are those of the last one
        """
        for name in ("step", "discriminator_step"):
            skimmed = self._now_and_then(getattr(trainer_class, name), first, every, only)
            self._stack.enter_context(mock.patch.object(trainer_class, name, skimmed))

    def _now_and_then(self, method, first, every, only):
        fake, taken, last = self, WeakKeyDictionary(), WeakKeyDictionary()

        @functools.wraps(method)
        def sometimes_watched(trainer, *args):
            if fake.thread.in_step:  # a part of a step is watched or skimmed as the whole is
                return method(trainer, *args)
            taken[trainer] = count = taken.get(trainer, 0) + 1
            skims = count > first and count % every and fake.count is None
            if skims and count % only:
                return last[trainer]
            fake.thread.in_step = True
            try:
                made = fake._unwatched(method, trainer, *args) if skims else method(trainer, *args)
            finally:
                fake.thread.in_step = False
            last[trainer] = made
            return made

        return sometimes_watched

    @staticmethod
    def _unwatched(method, trainer, *args):
        device, trainer.device = trainer.device, torch.device("cpu")
        try:
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                made = method(trainer, *args)
                for tensor in tensors_in(made, *kept_by(trainer)):
                    if tag(tensor) is None:
                        set_tag(tensor, named(device))
            return made
        finally:
            trainer.device = device

    def found(self, kind: str, text: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if is_ours(frame.filename)]
        finding = Finding(kind, text, frames)
        if finding.place not in {each.place for each in self.findings}:
            self.findings.append(finding)

    def waits(self, why: str) -> None:
        if self.count is not None:
            self.count.waits[why] += 1

    def report(self) -> str:
        return "\n".join(map(str, self.findings)) or "no findings"


def kept_by(trainer):
    """Every tensor that a trainer holds between its steps."""
    for player in (trainer.generators, trainer.discriminator):
        yield from player.buffers()
        for parameter in player.parameters():
            yield from (parameter, parameter.grad)
    for optimizer in (trainer.optimizer_d, trainer.optimizer_g):
        yield from tensors_in(*optimizer.state.values())
    yield from tensors_in(vars(trainer), vars(trainer.objective))


class _Functions(TorchFunctionMode):
    """What Python calls. While a call is handled, what torch calls inside it is not seen here but by _Operations."""

    def __init__(self, fake: FakeDevice):
        super().__init__()
        self.fake = fake

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if name == "__get__":
            return self._attribute(function, *args)
        given = tensors_in(args, kwargs)
        on_device = bool(given) and place(given[0]).split(":")[0] in KINDS
        if name in ("to", "cpu", *KINDS) and given:
            return self._move(name, args, kwargs)
        if name in ("numpy", "__array__") and on_device:
            self.fake.found("numpy", f"can't convert a {place(given[0])} tensor to numpy; .cpu() is missing")
        if name == "tolist" and on_device:
            self.fake.waits(name)
        if name == "one_hot":  # what it reads of its labels, it reads on the CPU alone
            counted, self.fake.count = self.fake.count, None
            try:
                return function(*args, **kwargs)
            finally:
                self.fake.count = counted
        return self._make(function, name, args, kwargs, given)

    def _attribute(self, function, tensor, *rest):
        attribute = function.__self__.__name__
        where = place(tensor) if isinstance(tensor, torch.Tensor) and place(tensor) != ANYWHERE else "cpu"
        if attribute == "device":
            return torch.device(where)
        if attribute in ("is_cuda", "is_mps", "is_cpu"):
            return where.startswith(attribute[3:])
        return function(tensor, *rest)

    def _make(self, function, name, args, kwargs, given):
        """Calls the function and tags what it makes where Python says for which device."""
        target = named(kwargs["device"]) if kwargs.get("device") is not None else None
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        where = target or (place(given[0]) if given else "cpu")
        if isinstance(generator := kwargs.get("generator"), Generator):
            whose = getattr(generator, "would_lie_on", "cpu")
            if whose != where:
                self.fake.found("generator", f"{name}: expected a {where} generator but found one of {whose}")
        made = function(*args, **kwargs)
        if target is None and name.startswith("new_") or name == "__deepcopy__":
            target = where
        if target is None and not given:
            target = "cpu"
        if target is not None:
            if name in ("as_tensor", "asarray") and given and target != place(given[0]):
                made = made.clone()  # else the tag would change where the original lies
            for tensor in tensors_in(made):
                if not any(same_storage(tensor, other) for other in given):
                    set_tag(tensor, target)
                    check_width(self.fake, name, tensor)
        return made

    def _move(self, name, args, kwargs):
        tensor, target, dtype = args[0], named(name) if name != "to" else None, kwargs.get("dtype")
        for value in (*args[1:], kwargs.get("device"), kwargs.get("other")):
            if isinstance(value, torch.Tensor):
                target, dtype = place(value), value.dtype
            elif isinstance(value, torch.dtype):
                dtype = value
            elif named(value):
                target = named(value)
        moved = tensor
        if target not in (None, place(tensor)):
            self.fake.waits(f"copy from {place(tensor)} to {target}")
            moved = Move.apply(tensor, target)
            check_width(self.fake, name, moved)
        if dtype not in (None, moved.dtype):
            moved = moved.type(dtype)
        return moved.clone() if kwargs.get("copy") and moved is tensor else moved


class _Operations(TorchDispatchMode):
    """Every single operation, forward and backward."""

    def __init__(self, fake: FakeDevice):
        super().__init__()
        self.fake = fake

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return self._run(operation, args, kwargs or {})

    def _run(self, operation, args, kwargs):
        traits, given = traits_of(operation), tensors_in(args, kwargs)
        places = [place(each) for each in given]
        device = next((each for each in places if each.startswith(KINDS)), None)
        if device is not None:
            self._check(operation, traits, args, given, places, device)
            if self.fake.count is not None and traits.launches:
                self.fake.count.kernels[traits.name] += 1
            if traits.name in ANSWERS or traits.name == "copy_" and set(places[:2]) - {device, ANYWHERE}:
                self.fake.waits(traits.name)
        made = operation(*args, **kwargs)
        for tensor in tensors_in(made):
            if tag(tensor) in (None, ANYWHERE):
                self._tag(tensor, given, device, operation)
        return made

    def _tag(self, tensor, given, device, operation) -> None:
        if not given or device is None and all(tag(each) == ANYWHERE for each in given):
            set_tag(tensor, ANYWHERE)
        elif device is not None and not any(same_storage(tensor, each) and place(each) == "cpu" for each in given):
            set_tag(tensor, device)
            check_width(self.fake, str(operation), tensor)

    def _check(self, operation, traits, args, given, places, device) -> None:
        name = traits.name
        strangers = []
        if "cpu" in places and name not in COPYING:
            strangers = [each for each, where in zip(given, places, strict=True) if where == "cpu"]
        if name in INDEXING and places[0] == device:  # a tensor on a device may be indexed from the CPU
            indices = tensors_in(args[1])
            strangers = [each for each in strangers if not any(each is index for index in indices)]
        # Single numbers may come from the CPU; one that lies there may not be changed by a device's.
        if traits.takes_numbers and not (traits.changes and places[0] == "cpu"):
            strangers = [each for each in strangers if each.dim()]
        if strangers:
            shapes = ", ".join(f"{where} {tuple(each.shape)}" for each, where in zip(given[:6], places, strict=False))
            self.fake.found("two devices", f"{operation}: expected all tensors on one device, got {shapes}")
        if name in PRODUCTS and not any(each.is_floating_point() or each.is_complex() for each in given):
            self.fake.found("integer product", f"{operation} is not implemented for {given[0].dtype} on a GPU")
        if traits.full_name not in self.fake.operations and operation.namespace == "aten":
            self.fake.found("no kernel", f"{traits.full_name} is not implemented for {device}")


@dataclass(frozen=True)
class Traits:
    """What is asked of an operation each time that it runs."""

    name: str
    full_name: str  # with its overload
    launches: bool  # a kernel
    changes: bool  # one of its arguments
    takes_numbers: bool  # single ones, from the CPU


@functools.cache
def traits_of(operation) -> Traits:
    schema = operation._schema
    name, overload = schema.name.removeprefix("aten::"), schema.overload_name
    is_view = any(each.alias_info and not each.alias_info.is_write for each in schema.returns)
    return Traits(
        name=name,
        full_name=name + (f".{overload}" if overload else ""),
        launches=not is_view and name not in NO_KERNELS,
        changes=schema.is_mutable,
        takes_numbers=torch.Tag.pointwise in operation.tags
        or name.startswith(("fill", "masked_fill", "_foreach", "_fused")),
    )


def check_width(fake: FakeDevice, name: str, tensor: torch.Tensor) -> None:
    if place(tensor).startswith("mps") and tensor.dtype in WIDE:
        fake.found("float64", f"{name}: MPS has no {tensor.dtype}; first .cpu(), then .double()")
