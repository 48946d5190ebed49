"""The experiment's schema: everything that decides what a run computes, and how.

The docstring of each field gives its meaning and unit; the JSON schema that editors use for
completion and `docs/config.md` repeat it. `load.py` reads files and overrides, and `mistakes.py`
words the error messages.
"""

from ganscale.config.data import Data, WeightedSet
from ganscale.config.experiment import Experiment
from ganscale.config.networks import CustomNetworkOptions, NetworkOptions
from ganscale.config.objective import EMA, Augment, Balance, PenaltyOptions
from ganscale.config.players import Adam, DiscriminatorPlayer, Generator, Latent
from ganscale.config.running import Checkpoint, Evaluation, Train
from ganscale.config.schedules import Number, Pace, Schedule
from ganscale.config.section import Section
from ganscale.config.start import InitFrom

__all__ = [
    "EMA",
    "Adam",
    "Augment",
    "Balance",
    "Checkpoint",
    "CustomNetworkOptions",
    "Data",
    "DiscriminatorPlayer",
    "Evaluation",
    "Experiment",
    "Generator",
    "InitFrom",
    "Latent",
    "NetworkOptions",
    "Number",
    "Pace",
    "PenaltyOptions",
    "Schedule",
    "Section",
    "Train",
    "WeightedSet",
]
