"""The section of Weights & Biases, and its short form."""

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ganscale.config.section import PositiveInt, Section

FORMER_KEYS = {"wandb_project": "project", "wandb_timeout": "timeout"}
"""Keys of `monitoring` in files of earlier versions, and what the section calls them."""


class WeightsAndBiases(Section):
    """What Weights & Biases is told about the run. Its environment variables, such as
    `WANDB_PROJECT`, take priority over these values."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """Where the run is logged: `auto` is online if the user is logged in, else offline. In place of
    the section, `wandb: offline` says the same."""
    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] = "ganscale"
    """Project of the run."""
    entity: str | None = None
    """User or team that the project belongs to; empty for the default one of the account."""
    group: str | None = None
    """Group that the run belongs to, such as the name of a series of runs."""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    """Tags by which runs can be filtered."""
    notes: str | None = None
    """Description of the run."""
    job_type: str | None = None
    """Kind of the run within its group, such as `train`."""
    artifacts: Literal["none", "final", "checkpoints"] = "none"
    """What is uploaded as artifacts: the `final` generator with its card, or that and all
    `checkpoints`."""
    registry: Annotated[str, Field(pattern=r"^[A-Za-z0-9_. -]{1,113}$")] | None = None
    """Registry in which the final generator is linked, under the run's name; empty for none."""
    timeout: PositiveInt = 30
    """Seconds to wait for the server before the run continues offline."""

    @model_validator(mode="after")
    def _check_registry(self) -> "WeightsAndBiases":
        if self.registry is not None and self.artifacts == "none":
            raise ValueError(
                f"registry={self.registry} links the final generator, and artifacts=none uploads "
                "none; set monitoring.wandb.artifacts=final"
            )
        return self


class OrMode:
    """Annotation for the section in the schema: a mode alone is accepted too."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the alternatives that an editor offers."""
        section = handler(schema)
        mode = handler.resolve_ref_schema(section)["properties"]["mode"]
        return {"anyOf": [section, {"enum": mode["enum"]}]}


def write_out_short_form(values: Any) -> Any:
    """Return the values of an experiment file with `monitoring.wandb` written out as a section.

    It may be a mode alone, as `monitoring.wandb: offline`, and files of earlier versions have keys
    of their own for two of its values.
    """
    monitoring = values.get("monitoring") if isinstance(values, dict) else None
    if not isinstance(monitoring, dict):
        return values
    given = monitoring.get("wandb", {})
    section = {"mode": given} if isinstance(given, str | bool) else given
    kept = {key: value for key, value in monitoring.items() if key not in FORMER_KEYS}
    former = {FORMER_KEYS[key]: monitoring[key] for key in FORMER_KEYS if key in monitoring}
    if isinstance(section, dict) and ("wandb" in monitoring or former):
        kept["wandb"] = {**former, **section}
    return {**values, "monitoring": kept}


def write_out_override(override: str) -> str:
    """Return an override `key=value` such that it changes no more of the section than it names.

    `monitoring.wandb=offline` sets the mode, and leaves the project of the file as it is.
    """
    key, _, value = override.partition("=")
    place, _, name = key.strip().rpartition(".")
    if place != "monitoring":
        return override
    if name == "wandb" and not value.lstrip().startswith("{"):
        return f"monitoring.wandb.mode={value}"
    return f"monitoring.wandb.{FORMER_KEYS[name]}={value}" if name in FORMER_KEYS else override
