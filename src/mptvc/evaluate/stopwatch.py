"""What the stages of coding take: their seconds, or their operations and the bytes that these touch."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mptvc.codec.stages import observed

#: All of the time of a call whose stages are done one by one, and of one whose stages overlap where they may.
SUM, TOTAL = "one by one", "total"
#: Operations that read no more of their first tensor than they give.
_GATHERING = {"aten::index", "aten::gather", "aten::index_select", "aten::take", "aten::embedding"}


@dataclass
class Stage:
    """One stage of encoding or decoding.

    Attributes:
        seconds: Time spent.
        flops: Operations of its matrix products, where tensors do the work and not compiled kernels.
        touched: Bytes that operations on tensors read and write then, which says more where there are few
            matrix products; the entropy coder's own are not among them.
        bytes: Size of what goes in and comes out.
        floor_s: Time below which the stage cannot be on this machine.
    """

    seconds: float = 0.0
    flops: int = 0
    touched: int = 0
    bytes: int = 0
    floor_s: float = 0.0


class Stopwatch:
    """Observes the stages of a call: keeps the time of each, or counts its operations instead.

    Args:
        device: Where the stages compute.

    Attributes:
        stages: Those of the last run, by name.
        counting: Whether to count.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.stages: dict[str, Stage] = {}
        self.counting = False

    def __call__(self, stage: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a stage's work."""
        found = self.stages.setdefault(stage, Stage())
        if not self.counting:
            with self._clock(found):
                return work(*args, **kwargs)
        with _Counter() as counter:
            result = work(*args, **kwargs)
        found.flops += counter.flops
        found.touched += counter.bytes
        found.bytes += counter.bytes_in + sum(map(_num_bytes, _tensors(result)))
        return result

    def run(self, work: Callable[[], Any]) -> tuple[Any, dict[str, Stage]]:
        """Call a function and return what its stages took, with all of its time as ``SUM``.

        Stages that are observed are done one by one. Unless it counts, the function is called once more to
        time it as it is without an observer: as ``TOTAL``.
        """
        self.stages, whole, alone = {}, Stage(), Stage()
        with observed(self), self._clock(whole):
            result = work()
        stages = {**self.stages, SUM: whole}
        if not self.counting:
            with self._clock(alone):
                work()
        return result, {**stages, TOTAL: alone}

    @contextmanager
    def _clock(self, stage: Stage) -> Iterator[None]:
        started = self._now()
        yield
        stage.seconds += self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def take_counts(timed: dict[str, Stage], counted: dict[str, Stage]) -> None:
    """Put what was counted beside the times of stages, and sums beside the total."""
    parts = [name for name in timed if name not in (SUM, TOTAL)]
    for count in ("flops", "touched", "bytes"):
        for name in parts:
            setattr(timed[name], count, getattr(counted[name], count))
        for whole in (SUM, TOTAL):
            setattr(timed[whole], count, sum(getattr(timed[name], count) for name in parts))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what operations on tensors do; a view of a tensor costs nothing.

    Attributes:
        flops: Operations of matrix products.
        bytes: Of the tensors that all operations read and write.
        bytes_in: What operations read first of each tensor that they did not make.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.bytes = self.bytes_in = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        count_flops = flop_registry.get(func.overloadpacket)
        if count_flops is None and _is_composite(func):
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if count_flops is not None:
            self.flops += count_flops(*args, **kwargs, out_val=result)
        if not _is_view(func):
            self._count_bytes([args, *kwargs.values()], result, gathers=func._schema.name in _GATHERING)
        return result

    def _count_bytes(self, given: Any, result: Any, *, gathers: bool) -> None:
        written = list(_tensors(result))
        most = sum(map(_num_bytes, written))
        for number, tensor in enumerate(_tensors(given)):
            size = _num_bytes(tensor)
            size = min(most, size) if gathers and not number else size
            self.bytes += size
            self.bytes_in += size * self._is_new(tensor)
        for tensor in written:
            self.bytes += _num_bytes(tensor)
            self._is_new(tensor)

    def _is_new(self, tensor: Tensor) -> bool:
        """Whether no operation has read or made the tensor before."""
        place, seen = tensor.untyped_storage().data_ptr(), len(self._seen)
        self._seen.add(place)
        return len(self._seen) > seen


@cache
def _is_view(func: Any) -> bool:
    aliases = [value.alias_info for value in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


@cache
def _is_composite(func: Any) -> bool:
    """Whether an operation is made of others, which count instead."""
    return bool(func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors of a value: itself, or those in sequences and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_tensors, value))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from chain.from_iterable(_tensors(getattr(value, field.name)) for field in fields(value))
