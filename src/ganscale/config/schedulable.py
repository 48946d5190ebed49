"""Types for numbers that may be schedules in an experiment, and how schedules are read."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema
from typing_extensions import TypeAliasType

from ganscale.config.schedules import Finite, Hold, Number, Pace, Ramp, Schedule, mistake
from ganscale.config.section import NonNegativeFloat, PositiveFloat, Probability, UnitBelowOne

EXAMPLE = "{from: 2.0e-4, to: 5.0e-5, by: cosine, until: 20M images}"
FLOAT = TypeAdapter[float](Finite)


WrittenSchedule = TypeAliasType("WrittenSchedule", Ramp | tuple[Ramp | Hold | Finite, ...])


@dataclass(frozen=True)
class OrSchedule:
    """Annotation for a number that may also be a schedule, whose values have their own bounds."""

    plain: Any
    """Type of the number if it is not a schedule."""
    most: float = math.inf
    """Maximum value of a schedule; the minimum is 0."""
    below: float = math.inf
    """Value that a schedule must stay below."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        written = handler.generate_schema(self.plain | WrittenSchedule)
        return core_schema.no_info_plain_validator_function(
            self._read,
            json_schema_input_schema=written,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.written() if isinstance(value, Schedule) else value
            ),
        )

    def _read(self, value: Any) -> Number:
        if isinstance(value, Schedule):
            return value
        if not isinstance(value, dict | list | tuple):
            return TypeAdapter[float](self.plain).validate_python(value)
        schedule = read_schedule(value)
        for reached in schedule.values():
            if reached < 0:
                raise mistake(f"reaches {reached:g}, and must be at least 0")
            if reached > self.most:
                raise mistake(f"reaches {reached:g}, and must be at most {self.most:g}")
            if reached >= self.below:
                raise mistake(f"reaches {reached:g}, and must be less than {self.below:g}")
        return schedule


LearningRate = Annotated[Number, OrSchedule(PositiveFloat)]
Beta = Annotated[Number, OrSchedule(UnitBelowOne, below=1.0)]
PenaltyWeight = Annotated[Number, OrSchedule(PositiveFloat)]
ScheduledProbability = Annotated[Number, OrSchedule(Probability, most=1.0)]
ScheduledSize = Annotated[Number, OrSchedule(NonNegativeFloat)]


def read_schedule(value: dict[Any, Any] | Sequence[Any]) -> Schedule:
    """Read one ramp, or a list of pieces, from the values of an experiment file.

    Raises `PydanticCustomError` if the schedule as a whole is invalid, and `ValidationError` if one
    of its keys is.
    """
    if isinstance(value, dict):
        if "hold" in value:
            raise mistake("hold is only allowed in a list; for a constant, write the number itself")
        return _joined([_read_piece(value)], None)
    pieces: list[Ramp | Hold] = []
    for place, part in enumerate(value):
        try:
            if isinstance(part, dict):
                pieces.append(_read_piece(part))
                continue
            number = FLOAT.validate_python(part)
        except ValidationError as error:
            raise _found_at(place, error) from None
        except PydanticCustomError as error:
            raise mistake(f"piece {place + 1}: {error.message()}") from None
        if place < len(value) - 1:
            raise mistake(
                f"piece {place + 1} is the number {number:g}, which lasts to the end of the run, "
                f"so it must come last; to end it earlier, write {{hold: {number:g}, until: …}}"
            )
        return _joined(pieces, number)
    return _joined(pieces, None)


def _read_piece(value: dict[Any, Any]) -> Ramp | Hold:
    if "hold" in value:
        for key in value:
            if key not in ("hold", "until"):
                raise mistake(f"hold goes with until alone, not with {key}")
        return Hold.model_validate(value)
    for key in value:
        if key not in ("from", "to", "by", "until"):
            raise mistake(
                f"unknown key {key}; a schedule has from, to, by and until, as in {EXAMPLE}"
            )
    return Ramp.model_validate(value)


def _joined(pieces: Sequence[Ramp | Hold], final: float | None) -> Schedule:
    """Return the schedule; a ramp without `from` starts where the piece before it ended."""
    if not pieces:
        raise mistake(f"write one number, or a schedule such as {EXAMPLE}")
    joined: list[Ramp | Hold] = []
    for piece in pieces:
        if isinstance(piece, Ramp):
            if piece.start is None and not joined:
                raise mistake(f"the first value is missing; add from, as in {EXAMPLE}")
            start = joined[-1].end if piece.start is None else piece.start
            assert start is not None
            if piece.by == "exponential" and not (start > 0 and piece.end > 0):
                raise mistake(
                    "by: exponential multiplies by the same factor at each step, so it cannot go "
                    f"from {start:g} to {piece.end:g}; both must be above 0"
                )
            piece = piece.model_copy(update={"start": start})
        joined.append(piece)
    return Schedule(tuple(joined), joined[-1].end if final is None else final)


def _found_at(place: int, error: ValidationError) -> ValidationError:
    """Return the errors of a piece with their locations in the list."""
    details = []
    for found in error.errors():
        kind, context = found["type"], found.get("ctx", {})
        details.append(
            InitErrorDetails(
                type=mistake(context["problem"]) if "problem" in context else kind,
                loc=(place, *found["loc"]),
                input=found["input"],
                ctx=context,
            )
        )
    return ValidationError.from_exception_data(error.title, details)


# -- schedules of a whole experiment -----------------------------------------------------------


def schedules_in(part: object, key: str = "") -> Iterator[tuple[str, Schedule]]:
    """Yield each schedule in an experiment, or in a part of one, with its dotted key."""
    prefix = f"{key}." if key else ""
    if isinstance(part, Schedule):
        yield key, part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from schedules_in(getattr(part, name), prefix + name)
    elif isinstance(part, tuple):
        for place, item in enumerate(part):
            yield from schedules_in(item, f"{prefix}{place}")


def refuse_backward_pieces(key: str, schedule: Schedule, pace: Pace) -> None:
    """Raise `ValueError` if a piece does not end after the one before it, in steps of this run."""
    for number, (before, piece) in enumerate(pairwise(schedule.pieces), start=1):
        begin, end = before.until.in_steps(pace), piece.until.in_steps(pace)
        if end <= begin:
            raise ValueError(
                f"{key}: piece {number + 1} ends at {piece.until} (step {end:,.0f}), not after "
                f"piece {number}, which ends at {before.until} (step {begin:,.0f}); train.steps is "
                f"{pace.steps:,} and train.batch_size {pace.batch_size:,}"
            )
