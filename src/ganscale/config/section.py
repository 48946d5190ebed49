"""The base of every section of an experiment, and types that several sections share."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _fits(number: int) -> int:
    if number >= 1 << 63:
        raise ValueError("must be less than 2 to the power of 63")
    return number


PositiveInt = Annotated[int, Field(gt=0), AfterValidator(_fits)]
NonNegativeInt = Annotated[int, Field(ge=0), AfterValidator(_fits)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
UnitBelowOne = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of an experiment. It is immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )
