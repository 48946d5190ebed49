"""The section for where a run's first weights come from."""

from ganscale.config.section import Section


class InitFrom(Section):
    """Weights of another run or of a file, from which this run starts instead of its seed's."""

    source: str
    """A run folder; a safetensors file of a generator, a discriminator or both; a saved generator:
    a folder, or `user/name` on the Hugging Face Hub; or an artifact of a run's checkpoint or model:
    `wandb:ENTITY/PROJECT/NAME:ALIAS`."""
    checkpoint: str = "latest"
    """Checkpoint of a run folder: `latest`, `best` or its name."""
    revision: str | None = None
    """Branch, tag or commit on the Hugging Face Hub; empty for the newest."""
