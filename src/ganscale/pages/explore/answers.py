"""What the page answers: HTML for what is chosen on it, and files to save. Knows no Gradio."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec

from ganscale.pages.explore import markup, pictures, views
from ganscale.pages.explore.subject import CannotShowError, Choice, Shown, Subject
from ganscale.pages.explore.views import Condition

TIMELINE_IMAGES = 8
NONE = -1  # the value of a choice of class that names none
WEIGHTS = {"ema": "average (EMA)", "generator": "raw"}
P = ParamSpec("P")


@dataclass(frozen=True)
class Chosen:
    """What the controls that all views share are set to, as the browser sends it."""

    label: int = NONE
    other: int = NONE
    share: float = 0
    """In per cent."""
    truncation: float = 0
    """0 for none."""
    checkpoint: str | None = ""
    weights: str = "ema"

    @property
    def choice(self) -> Choice:
        """Which weights make the images, and from which latents."""
        return Choice(self.checkpoint or "", self.weights, self.truncation or None)

    @property
    def condition(self) -> Condition:
        """Which class the images have."""
        label, other = (None if i in (None, NONE) else int(i) for i in (self.label, self.other))
        return Condition(label, other, self.share / 100)

    def at(self, checkpoint: str = "", weights: str = "ema", **_: str) -> "Chosen":
        """Return the same for another checkpoint or other weights, as a row of the timeline has."""
        known = weights if weights in WEIGHTS else "ema"
        return replace(self, checkpoint=checkpoint, weights=known)


@dataclass(frozen=True)
class Seen:
    """An image that was clicked, with what the controls were set to."""

    seed: int
    chosen: Chosen


class Answers:
    """The answers of one generator's page."""

    def __init__(self, subject: Subject):
        self.subject, self.facts = subject, subject.facts

    def grid(self, chosen: Chosen, first: float, number: int, columns: int) -> str:
        """Return the images of seeds `first`, `first` + 1, …"""
        seeds = views.seeds_from(first, number)
        images = self._images(seeds, chosen)
        return markup.cells(self._cells(seeds, images, chosen), columns, "Images by seed")

    def walk(self, chosen: Chosen, seeds: str, position: float) -> str:
        """Return the image at a position on the way through some seeds."""
        stations = views.read_seeds(seeds)
        (image,) = views.walk_image(
            self.subject, stations, position, chosen.condition, chosen.choice
        )
        leg = min(int(position), len(stations) - 2)
        share = round(100 * (position - leg))
        name = f"From seed {stations[leg]} to seed {stations[leg + 1]}: {share} % of the way"
        if share in (0, 100):
            name = f"Seed {stations[leg + share // 100]}"
        return markup.large(image, name)

    def stations(self, chosen: Chosen, seeds: str) -> str:
        """Return the images of the seeds that a walk goes through."""
        stations = views.read_seeds(seeds)
        images = [
            views.walk_image(self.subject, stations, i, chosen.condition, chosen.choice)[0]
            for i in range(len(stations))
        ]
        cells = [
            markup.Cell(image, f"Go to seed {seed}", seed, position=i)
            for i, (seed, image) in enumerate(zip(stations, images, strict=True))
        ]
        return markup.cells(cells, len(stations), "Seeds of the walk")

    def timeline(self, chosen: Chosen, first: float, raw_too: bool) -> str:
        """Return the same seeds' images at each checkpoint, a row each, the newest first."""
        seeds = views.seeds_from(first, TIMELINE_IMAGES)
        names = self.subject.checkpoints()
        shown = views.rows_of_timeline(names)
        rows = [
            (title, self._cells(seeds, self._images(seeds, at), at))
            for name in reversed(shown)
            for title, at in self._rows_of(name, chosen, raw_too)
        ]
        left_out = len(names) - len(shown)
        more = markup.note(f"{left_out} checkpoints between these are not shown.")
        return markup.timeline(rows, len(seeds)) + (more if left_out else "")

    def details(self, seen: Seen) -> str:
        """Return one image, with what the discriminator says of it and how to make it again."""
        chosen = seen.chosen
        (image,) = self._images([seen.seed], chosen)
        rows = [("Class", chosen.condition.describe(seen.seed, self.facts).removeprefix("class "))]
        rows += [("Checkpoint", chosen.checkpoint or ""), ("Weights", self._weights(chosen))]
        rows += [("Truncation", f"{chosen.truncation:g}" if chosen.truncation else "off")]
        if self.facts.judges:
            rows.append(("Discriminator's logit", self._logit(seen)))
        known = [(name, value) for name, value in rows if value]
        return markup.details(image, f"Seed {seen.seed}", known, self._command(seen))

    def neighbours(self, seen: Seen) -> str:
        """Return the real images nearest to the one that was clicked."""
        return markup.neighbours(self.subject.neighbours(*self._inputs(seen)))

    # -- files ---------------------------------------------------------------------------------

    def grid_file(self, chosen: Chosen, first: float, number: int, columns: int) -> str:
        """Return the grid as a PNG."""
        seeds = views.seeds_from(first, number)
        content = pictures.png_of_grid(self._images(seeds, chosen), columns)
        return self._file(f"seeds-{seeds[0]}-{seeds[-1]}.png", "image/png", content)

    def timeline_file(self, chosen: Chosen, first: float, raw_too: bool) -> str:
        """Return the timeline as a PNG, a row for each checkpoint, the newest first."""
        seeds = views.seeds_from(first, TIMELINE_IMAGES)
        rows = [
            image
            for name in reversed(views.rows_of_timeline(self.subject.checkpoints()))
            for _, at in self._rows_of(name, chosen, raw_too)
            for image in self._images(seeds, at)
        ]
        content = pictures.png_of_grid(pictures.stack(rows), len(seeds))
        return self._file("timeline.png", "image/png", content)

    def walk_file(self, chosen: Chosen, seeds: str, position: float) -> str:
        """Return the image at a position on the walk as a PNG, pixel for pixel."""
        stations = views.read_seeds(seeds)
        (image,) = views.walk_image(
            self.subject, stations, position, chosen.condition, chosen.choice
        )
        return self._file(f"walk-{position:.2f}.png", "image/png", pictures.png(image))

    def film(self, kind: str, chosen: Chosen, seeds: str) -> str:
        """Return the walk through all seeds and back to the first, as `gif` or `mp4`."""
        stations = views.read_seeds(seeds)
        frames = views.walk_frames(self.subject, stations, chosen.condition, chosen.choice)
        if kind == "gif":
            return self._file("walk.gif", "image/gif", pictures.gif(frames))
        return self._file("walk.mp4", "video/mp4", pictures.mp4(frames))

    def image_file(self, seen: Seen) -> str:
        """Return the image that was clicked as a PNG, pixel for pixel."""
        (image,) = self._images([seen.seed], seen.chosen)
        return self._file(f"seed-{seen.seed}.png", "image/png", pictures.png(image))

    def _file(self, name: str, type: str, content: bytes) -> str:
        data = base64.b64encode(content).decode()
        return json.dumps(
            {"name": f"{_as_file(self.facts.name)}-{name}", "type": type, "data": data}
        )

    # -- parts of answers ----------------------------------------------------------------------

    def _images(self, seeds: Sequence[int], chosen: Chosen) -> Shown:
        return views.images_of_seeds(self.subject, seeds, chosen.condition, chosen.choice)

    def _inputs(self, seen: Seen) -> tuple[Any, Any, Choice]:
        chosen = seen.chosen
        latents = views.latents_of(self.facts, [seen.seed], chosen.choice.truncation)
        return latents, chosen.condition.labels([seen.seed], self.facts.classes), chosen.choice

    def _cells(self, seeds: Sequence[int], images: Shown, chosen: Chosen) -> list[markup.Cell]:
        def name(seed: int) -> str:
            described = chosen.condition.describe(seed, self.facts)
            return f"Seed {seed}, {described}" if described else f"Seed {seed}"

        return [
            markup.Cell(image, name(seed), seed, chosen.checkpoint or "", chosen.weights)
            for seed, image in zip(seeds, images, strict=True)
        ]

    def _rows_of(self, name: str, chosen: Chosen, raw_too: bool) -> list[tuple[str, Chosen]]:
        step = f"Step {int(name.rpartition('-')[2]):,}"
        at = replace(chosen, checkpoint=name)
        if not raw_too:
            return [(step, at)]
        both = [(weights, replace(at, weights=weights)) for weights in self.facts.weights]
        return [(f"{step}, {self._weights(one)}", one) for _, one in both]

    def _weights(self, chosen: Chosen) -> str:
        return WEIGHTS[chosen.weights] if self.facts.weights else ""

    def _logit(self, seen: Seen) -> str:
        if seen.chosen.condition.mixes:
            return "none: the discriminator knows no mixtures of classes"
        logit = self.subject.logit(*self._inputs(seen))
        return f"{logit:+.2f} (above 0 means real)"

    def _command(self, seen: Seen) -> str:
        """Return the command that makes the image again; nothing where there is none."""
        chosen = seen.chosen
        if not self.facts.command or chosen.condition.mixes:
            return ""
        command = f"{self.facts.command} --seeds {seen.seed} --checkpoint {chosen.checkpoint}"
        if chosen.weights != "ema":
            command += f" --weights {chosen.weights}"
        if chosen.condition.label is not None:
            command += f" --class {chosen.condition.label}"
        if chosen.truncation:
            command += f" --truncation {chosen.truncation:g}"
        return f"{command} --out samples"


def explained(answer: Callable[P, str]) -> Callable[P, str]:
    """Return the same answer, or the sentence that says why there is none."""

    def explain(*args: P.args, **kwargs: P.kwargs) -> str:
        try:
            return answer(*args, **kwargs)
        except CannotShowError as error:
            return markup.message(str(error))

    return explain


def _as_file(name: str) -> str:
    kept = "".join(letter if letter.isalnum() else "-" for letter in name)
    return kept.strip("-")[:60] or "ganscale"
