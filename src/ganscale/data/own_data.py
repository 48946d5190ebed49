"""An experiment whose images are not packed: they are packed, and their copies take their place."""

from collections.abc import Mapping

from ganscale.config import Data, Experiment
from ganscale.data.packing.copies import Copies, Show, is_source
from ganscale.data.shards.manifest import load_manifest
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError


def pack_own_data(experiment: Experiment, ranks: Ranks, show: Show) -> Experiment:
    """Return the experiment with each source of images replaced by its packed copy.

    Rank 0 looks at the sources and packs what is new. A node that shares its cache finds the copy
    there; one process of every other node packs the same for it. All ranks call this. Raises
    `GanscaleError` if a source cannot be packed, or if a node's copy holds other images.
    """
    copies = Copies(experiment.data)

    def find_on_rank_0() -> dict[str, tuple[str, str]]:
        if not ranks.is_main:
            return {}
        made = {source: copies.make(source, show) for source in own_sources(experiment)}
        return {s: (path.name, load_manifest(path).fingerprint) for s, path in made.items()}

    wanted = ranks.agree_in_time(find_on_rank_0)[0]
    if not wanted:
        return experiment

    def find_on_node() -> tuple[int, dict[str, str]]:
        if ranks.local_rank:
            return ranks.node, {}
        return ranks.node, {s: _copy_on_node(copies, s, *c, show) for s, c in wanted.items()}

    found: dict[str, str] = {}
    for node, of_node in ranks.agree_in_time(find_on_node):
        if node == ranks.node:
            found |= of_node
    return replace_sources(experiment, found)


def own_sources(experiment: Experiment) -> list[str]:
    """Return the locations in an experiment that hold images which are not packed."""
    data = experiment.data
    places = list(data.places)
    if experiment.balance is not None:
        places.append(experiment.balance.held_out)
    return [place for place in dict.fromkeys(places) if is_source(place, data)]


def replace_sources(experiment: Experiment, copies: Mapping[str, str]) -> Experiment:
    """Return the experiment with some locations of images replaced."""
    changes: dict[str, object] = {"data": _with_copies(experiment.data, copies)}
    if (balance := experiment.balance) is not None:
        held_out = copies.get(balance.held_out, balance.held_out)
        changes["balance"] = balance.model_copy(update={"held_out": held_out})
    return experiment.model_copy(update=changes)


def find_copies(data: Data) -> Data:
    """Return the data with each source of images replaced by its copy.

    Raises `GanscaleError` if there is no copy of a source as it is now.
    """
    copies = Copies(data)
    found: dict[str, str] = {}
    for place in (place for place in data.places if is_source(place, data)):
        copy = copies.find(place)
        if copy is None:
            raise GanscaleError(f"{place}: not packed yet")
        found[place] = str(copy)
    return _with_copies(data, found)


def _with_copies(data: Data, copies: Mapping[str, str]) -> Data:
    mixture = tuple(
        part.model_copy(update={"path": copies.get(part.path, part.path)}) for part in data.mixture
    )
    return data.model_copy(update={"path": copies.get(data.path, data.path), "mixture": mixture})


def _copy_on_node(copies: Copies, source: str, name: str, fingerprint: str, show: Show) -> str:
    """Return this node's copy of a source; pack it unless rank 0's copy is here too."""
    copy = copies.folder / name
    try:
        found = load_manifest(copy).fingerprint
    except GanscaleError:
        copy = copies.make(source, show)
        found = load_manifest(copy).fingerprint
    if found != fingerprint:
        raise GanscaleError(
            f"{source}: this node packed other images than the first node; give all nodes the same "
            "files, or a data.cache that they share"
        )
    return str(copy)
