"""Where time went, against intervals written by hand."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from ganscale.profiling.marks import PREFIX, mark
from ganscale.profiling.timeline import (
    IDLE,
    PENALTIES,
    REST,
    Kernel,
    Span,
    read_events,
    seconds_by_part,
)

S = 1e6  # microseconds


def seconds(spans: list[Span], kernels: list[Kernel]) -> dict[str, float]:
    return {part: pytest.approx(value) for part, value in seconds_by_part(spans, kernels).items()}


def test_an_inner_part_is_not_counted_twice() -> None:
    spans = [
        Span("step", 0, 10 * S),
        Span("data", 0, 1 * S),
        Span("backward", 2 * S, 9 * S),
        Span("reductions", 4 * S, 6 * S),
        Span("deeper", 5 * S, 5.5 * S),
    ]
    found = {"data": 1, "backward": 5, "reductions": 1.5, "deeper": 0.5, REST: 2}
    assert seconds(spans, []) == found


def test_steps_that_are_apart_do_not_count_what_lies_between() -> None:
    spans = [Span("step", 0, 2 * S), Span("EMA", 0, 1 * S), Span("step", 5 * S, 6 * S)]
    assert seconds(spans, []) == {"EMA": 1, REST: 2}


def test_a_gpu_part_takes_the_time_of_what_it_launched() -> None:
    """The host is done with a part long before the GPU is."""
    spans = [
        Span("step", 0, 10 * S),
        Span("data", 0, 2 * S),
        Span("forward", 2 * S, 3 * S),
        Span("backward", 3 * S, 4 * S),
    ]
    kernels = [
        Kernel(launched=2.5 * S, start=2.5 * S, end=5 * S),
        Kernel(launched=3.5 * S, start=5 * S, end=9 * S),
    ]
    found = {"forward": 2.5, "backward": 4, "data": 2, IDLE: 1.5}
    assert seconds(spans, kernels) == found


def test_data_that_is_loaded_while_the_gpu_works_costs_nothing() -> None:
    spans = [Span("step", 0, 10 * S), Span("data", 4 * S, 8 * S)]
    kernels = [Kernel(launched=0, start=0, end=5 * S), Kernel(launched=0, start=7 * S, end=10 * S)]
    assert seconds(spans, kernels) == {"data": 2, REST: 8, IDLE: 0}


def step_with_penalty(weight: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 1))
    x = torch.randn(400, 300, requires_grad=True)
    with mark("step"):
        with mark("discriminator, forward"):
            loss = network(x.detach()).mean()
            if weight:
                (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
                loss = loss + weight * gradient.square().sum()
        with mark("discriminator, backward"):
            loss.backward()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_penalties_are_found_by_their_derivatives(weight: float) -> None:
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step_with_penalty(weight)
    spans, kernels = read_events(profiled.events() or [])
    parts = seconds_by_part(spans, kernels)
    assert not kernels
    assert (parts.get(PENALTIES, 0) > 0) == bool(weight)
    inside = [span for span in spans if span.part == PENALTIES]
    names = {span.part for span in spans}
    assert names >= {"step", "discriminator, forward", "discriminator, backward"}
    (backward,) = (span for span in spans if span.part == "discriminator, backward")
    second = [span for span in inside if span.start > backward.start]
    assert bool(second) == bool(weight)


def event(name: str, start: float, end: float, **more: Any) -> Any:
    plain = {
        "device_type": torch._C._autograd.DeviceType.CPU,
        "id": 0,
        "thread": 1,
        "fwd_thread": 0,
        "sequence_nr": -1,
        "is_user_annotation": False,
    }
    time_range = SimpleNamespace(start=start, end=end)
    return SimpleNamespace(name=name, time_range=time_range, **{**plain, **more})


def test_a_kernel_belongs_to_the_call_that_launched_it() -> None:
    """An operation may have the same number as another's launch."""
    gpu = torch._C._autograd.DeviceType.CUDA
    events = [
        event(f"{PREFIX}step", 0, 100),
        event("aten::mm", 5, 9, id=7),
        event("cudaLaunchKernel", 20, 21, id=7),
        event("gemm", 50, 80, id=7, device_type=gpu),
        event(f"{PREFIX}step", 0, 90, device_type=gpu, is_user_annotation=True),
        event("c10d::allreduce_", 30, 31),
    ]
    spans, kernels = read_events(events)
    assert kernels == [Kernel(launched=20, start=50, end=80)]
    assert [span.part for span in spans] == ["step", "reductions"]


def test_without_a_profiler_a_mark_is_nothing() -> None:
    from contextlib import nullcontext

    assert isinstance(mark("step"), nullcontext)
