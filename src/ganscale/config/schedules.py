"""Schedules, which may replace numbers in an experiment file: their syntax and meaning.

    lr: {from: 2.0e-4, to: 5.0e-5, by: cosine, until: 20M images}

The pieces of a list follow one another: here a warm-up, then a cosine over the rest of the run.

    lr:
      - {from: 0, to: 2.0e-4, until: 1000 steps}
      - {to: 5.0e-5, by: cosine, until: end of run}

`schedulable.py` reads and checks schedules; `ganscale/gan/schedules.py` has the formulas.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from ganscale.config.inline import inline_yaml
from ganscale.config.section import Section

UNTIL_EXAMPLES = "2000 steps, 20M images, 50% of run or end of run"
UNTIL = re.compile(
    r"(?P<count>\d[\d_]*(\.\d+)?(e\d+)?) ?(?P<scale>[kM]?) (?P<unit>steps?|images?)"
    r"|(?P<percent>\d+(\.\d+)?) ?% of( the)? run"
    r"|end of( the)? run"
)
SCALES = {"": 1, "k": 10**3, "M": 10**6}


def mistake(problem: str) -> PydanticCustomError:
    """Return an error that pydantic reports for the value that is being read."""
    return PydanticCustomError("schedule", "{problem}", {"problem": problem})


class Pace(NamedTuple):
    """The numbers that convert a position in a run to steps."""

    batch_size: int
    """Images in one step."""
    steps: int
    """Steps in the whole run."""


@dataclass(frozen=True)
class Position:
    """A position in a run, counted from its start."""

    count: float
    """Steps, images, or percent of the run."""
    unit: Literal["steps", "images", "% of run"]

    @classmethod
    def parse(cls, text: object) -> "Position":
        """Read `2000 steps`, `20M images`, `50% of run` or `end of run`."""
        if isinstance(text, Position):
            return text
        found = UNTIL.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise mistake(f"write a number and its unit: {UNTIL_EXAMPLES}")
        if found["unit"] is None:
            percent = float(found["percent"] or 100)
            if not 0 < percent <= 100:
                raise mistake("a share of the run is more than 0% and at most 100%")
            return cls(int(percent) if percent == int(percent) else percent, "% of run")
        count = float(found["count"]) * SCALES[found["scale"]]
        if not (1 <= count < 2**53 and count == int(count)):
            raise mistake("the number of steps or images must be a whole number, 1 or more")
        return cls(int(count), "steps" if found["unit"].startswith("step") else "images")

    def __str__(self) -> str:
        if self.unit != "% of run":
            return f"{self.count:_} {self.unit}"
        return "end of run" if self.count == 100 else f"{self.count}% of run"

    def in_steps(self, pace: Pace) -> float:
        """Return the position as a number of steps, which need not be whole."""
        if self.unit == "steps":
            return float(self.count)
        if self.unit == "images":
            return self.count / pace.batch_size
        return self.count / 100 * pace.steps


Until = Annotated[
    Position,
    PlainValidator(Position.parse),
    PlainSerializer(str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^({re.sub(r'[?]P<[a-z]+>', '', UNTIL.pattern)})$",
            "examples": ["2000 steps", "20M images", "50% of run", "end of run"],
        }
    ),
]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Piece(Section):
    model_config = ConfigDict(serialize_by_alias=True)


class Ramp(_Piece):
    """A number that moves from one value to another and then stays there."""

    start: Finite | None = Field(None, alias="from")
    """Value at the start of the piece; required for the first piece. By default a later piece
    starts at the final value of the piece before it."""
    end: Finite = Field(alias="to")
    """Value at the end of the piece."""
    by: Literal["linear", "cosine", "exponential"] = "linear"
    """Shape of the change: a straight line, half a cosine period, or a constant factor per step."""
    until: Until
    """Position at which the piece ends, counted from the start of the run."""


class Hold(_Piece):
    """A piece of a list during which the number stays constant."""

    hold: Finite
    """Value during the piece."""
    until: Until
    """Position at which the next piece starts, counted from the start of the run."""

    @property
    def start(self) -> float:
        """The value at the start of the piece."""
        return self.hold

    @property
    def end(self) -> float:
        """The value at the end of the piece."""
        return self.hold


@dataclass(frozen=True)
class Schedule:
    """Pieces that follow one another; after the last piece the number stays at `final`."""

    pieces: tuple[Ramp | Hold, ...]
    final: float
    """The value after the last piece."""

    @property
    def first(self) -> float:
        """The value at the start of the run."""
        start = self.pieces[0].start
        assert start is not None, "reading a schedule fills in the start of each piece"
        return start

    @property
    def spans_run(self) -> bool:
        """True if the schedule depends on the number of steps in the run."""
        return any(piece.until.unit == "% of run" for piece in self.pieces)

    def values(self) -> Iterator[float]:
        """Yield the start and end of each piece, and the final value."""
        for piece in self.pieces:
            yield from (value for value in (piece.start, piece.end) if value is not None)
        yield self.final

    def written(self) -> dict[str, Any] | list[Any]:
        """Return the schedule in the form that an experiment file uses."""
        pieces: list[Any] = [piece.model_dump(mode="json") for piece in self.pieces]
        if self.final != self.pieces[-1].end:
            pieces.append(self.final)
        if len(pieces) == 1 and isinstance(self.pieces[0], Ramp):
            return dict(pieces[0])
        return pieces

    def __str__(self) -> str:
        return inline_yaml(self.written())


Number = float | Schedule
"""A number in an experiment that may vary during the run."""


def first_value(number: Number) -> float:
    """Return the value at the start of the run."""
    return number.first if isinstance(number, Schedule) else number


def is_written_schedule(value: object) -> bool:
    """Return whether a value of an experiment file is a schedule with one piece."""
    return isinstance(value, dict) and "until" in value
