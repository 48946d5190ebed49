"""Where the time of some profiled steps went, from the events of `torch.profiler`.

On a CPU a part of a step takes the time that Python spends in its mark. A GPU works later than it
is told to: there a part takes the time of the kernels that were launched within its mark, and time
that no kernel fills is idle, or data if the host was waiting for a batch meanwhile.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from torch._C._autograd import DeviceType

from ganscale.profiling.marks import DATA, FORWARD, PREFIX, REDUCTIONS, STEP

PENALTIES, IDLE, REST = "penalties", "idle", "between these"
ENGINE = "autograd::engine::evaluate_function"
COLLECTIVES = ("c10d::", "nccl:", "gloo:")
LAUNCHES = ("cuda", "cu", "hip")  # calls of the GPU's runtime, which share an id with their kernel


class Span(NamedTuple):
    """A part of the host's time, in microseconds."""

    part: str
    start: float
    end: float


class Kernel(NamedTuple):
    """Work of a GPU: when it was launched, and from when to when it ran, in microseconds."""

    launched: float
    start: float
    end: float


def seconds_by_part(spans: Sequence[Span], kernels: Sequence[Kernel]) -> dict[str, float]:
    """Return the seconds of each part, and of what is in none; they add up to those of the steps.

    Where spans overlap, the one that started last counts. Without kernels it is the host's time.
    """
    steps = [span for span in spans if span.part == STEP]
    parts = _innermost([span for span in spans if span.part != STEP])
    seconds: dict[str, float] = defaultdict(float)
    total = sum(step.end - step.start for step in steps)
    if kernels:
        starts = [part.start for part in parts]
        for kernel in kernels:
            i = bisect_right(starts, kernel.launched) - 1
            within = i >= 0 and kernel.launched <= parts[i].end
            seconds[parts[i].part if within else REST] += kernel.end - kernel.start
        seconds[DATA] += _length(_minus([part for part in parts if part.part == DATA], kernels))
    else:
        for part in parts:
            seconds[part.part] += part.end - part.start
    seconds[IDLE if kernels else REST] += max(0.0, total - sum(seconds.values()))
    return {part: duration / 1e6 for part, duration in seconds.items()}


def _innermost(spans: Iterable[Span]) -> list[Span]:
    """Divide overlapping spans into disjoint ones, each of the part that started last."""
    disjoint: list[Span] = []
    open_spans: list[Span] = []
    now = 0.0

    def advance(until: float) -> None:
        nonlocal now
        while open_spans and now < until:
            innermost = open_spans[-1]
            end = min(innermost.end, until)
            if end > now:
                disjoint.append(Span(innermost.part, now, end))
                now = end
            if innermost.end <= now:
                open_spans.pop()
        now = max(now, until)

    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        advance(span.start)
        open_spans.append(span)
    advance(max((span.end for span in open_spans), default=now))
    return disjoint


def _minus(spans: Iterable[Span], kernels: Iterable[Kernel]) -> list[Span]:
    """Return what of the spans no kernel fills."""
    busy = sorted((kernel.start, kernel.end) for kernel in kernels)
    left = []
    for part, start, end in spans:
        for first, last in busy:
            if last <= start or first >= end:
                continue
            if first > start:
                left.append(Span(part, start, first))
            start = max(start, last)
        if start < end:
            left.append(Span(part, start, end))
    return left


def _length(spans: Iterable[Span]) -> float:
    return sum(span.end - span.start for span in spans)


def read_events(events: Sequence[Any]) -> tuple[list[Span], list[Kernel]]:
    """Return the spans and kernels in the events of a `torch.profiler.profile`."""
    on_host = [event for event in events if event.device_type == DeviceType.CPU]
    spans = [
        Span(event.name.removeprefix(PREFIX), event.time_range.start, event.time_range.end)
        for event in on_host
        if event.name.startswith(PREFIX)
    ]
    spans += [
        Span(REDUCTIONS, event.time_range.start, event.time_range.end)
        for event in on_host
        if event.name.startswith(COLLECTIVES)
    ]
    spans += _penalties(on_host, spans)
    return spans, _kernels(events, on_host)


def _penalties(on_host: Sequence[Any], spans: Sequence[Span]) -> list[Span]:
    """Return when a penalty was differentiated: the only derivatives within a loss's own forward.

    In the backward pass it is what PyTorch's engine evaluates for operations of that derivative.
    """
    in_forward = _within(span for span in spans if span.part.endswith(FORWARD))
    evaluated = [event for event in on_host if event.name.startswith(ENGINE)]
    first = [event for event in evaluated if in_forward(event)]
    in_derivative = _within(Span("", e.time_range.start, e.time_range.end) for e in first)
    made = {(e.thread, e.sequence_nr) for e in on_host if e.sequence_nr >= 0 and in_derivative(e)}
    second = [event for event in evaluated if (event.fwd_thread, event.sequence_nr) in made]
    return [Span(PENALTIES, e.time_range.start, e.time_range.end) for e in [*first, *second]]


def _within(spans: Iterable[Span]) -> Callable[[Any], bool]:
    """Return a function that tells whether an event lies within one of the spans."""
    disjoint = _innermost(spans)
    starts = [span.start for span in disjoint]

    def holds(event: Any) -> bool:
        i = bisect_right(starts, event.time_range.start) - 1
        return i >= 0 and event.time_range.end <= disjoint[i].end

    return holds


def _kernels(events: Sequence[Any], on_host: Sequence[Any]) -> list[Kernel]:
    launched = {e.id: e.time_range.start for e in on_host if e.name.startswith(LAUNCHES)}
    return [
        Kernel(
            launched.get(event.id, event.time_range.start),
            event.time_range.start,
            event.time_range.end,
        )
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]
