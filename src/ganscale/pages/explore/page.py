"""The page itself: its controls, and what happens when they are moved.

Every picture travels inside the answer that brings it: no file is written for it, and none can be
asked for. An interactive control does not queue, and while an answer is on its way only the newest
of its later positions is kept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ganscale.pages.explore import markup, pictures, views
from ganscale.pages.explore.answers import NONE, Answers, Chosen, Seen, explained
from ganscale.pages.explore.subject import CannotShowError, Subject

HERE = Path(__file__).parent
THRESHOLDS = (2.0, 1.5, 1.0, 0.5, 0.25)
FIRST_WALK = "0, 1, 2, 3"
FIRST_NOTE = "The first images are being made."
FONT = ("ui-sans-serif", "system-ui", "sans-serif")
CODE_FONT = ("ui-monospace", "Consolas", "monospace")
INSTANT: dict[str, Any] = {
    "queue": False,
    "trigger_mode": "always_last",
    "show_progress": "minimal",
    "api_visibility": "private",
}
ONCE: dict[str, Any] = {**INSTANT, "trigger_mode": "once"}


def looks() -> dict[str, Any]:
    """Return how the page looks, for `Blocks.launch`: the fonts are those of the system."""
    theme = gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", radius_size="md", font=FONT, font_mono=CODE_FONT
    )
    return {"theme": theme, "css": _read("page.css")}


def build_page(subject: Subject) -> gr.Blocks:
    """Return the page of a generator."""
    return _Page(subject).blocks


class _Page:
    """The controls of the page by name, and the answers to their events."""

    def __init__(self, subject: Subject):
        self.subject, self.facts, self.answers = subject, subject.facts, Answers(subject)
        names = list(subject.checkpoints())
        self.has_timeline = bool(names)
        self.newest = names[-1] if names else ""
        title = f"{self.facts.name} · ganscale"
        with gr.Blocks(title=title, analytics_enabled=False, fill_width=True) as self.blocks:
            gr.HTML(markup.header(self.facts), elem_classes="gs-header")
            with gr.Row(elem_classes="gs-page"):
                with gr.Column(scale=3, min_width=260, elem_classes="gs-controls"):
                    self._add_controls(names)
                with gr.Column(scale=7, min_width=300), gr.Tabs():
                    with gr.Tab("Grid") as self.grid_tab:
                        self._add_grid()
                    with gr.Tab("Walk") as self.walk_tab:
                        self._add_walk()
                    with gr.Tab("Timeline", visible=self.has_timeline) as self.timeline_tab:
                        self._add_timeline()
                with gr.Column(scale=3, min_width=260, elem_classes="gs-side"):
                    self._add_details()
            self.open_tab, self.seen = gr.State("grid"), gr.State(None)
            self.file = gr.Textbox(visible="hidden", label="File to save")
            self._connect_views()
            self._connect_details()
            self._connect_files()

    # -- controls ------------------------------------------------------------------------------

    def _add_controls(self, checkpoints: list[str]) -> None:
        facts = self.facts
        classes = [(facts.class_name(i), i) for i in range(facts.classes or 0)]
        self.label = gr.Dropdown(
            [("Each seed's own", NONE), *classes],
            value=NONE,
            label="Class",
            visible=bool(facts.classes),
        )
        self.other = gr.Dropdown(
            [("None", NONE), *classes],
            value=NONE,
            label="Mix with class",
            visible=facts.mixes_classes,
        )
        self.share = gr.Slider(
            0, 100, 50, step=1, label="Share of the mixed-in class, in %", visible=False
        )
        self.truncation = gr.Radio(
            [("Off", 0.0), *((f"{t:g}", t) for t in THRESHOLDS)],
            value=0.0,
            label="Truncation",
            info="A smaller number makes images more typical, and more alike.",
            visible=facts.truncates,
        )
        self.checkpoint = gr.Dropdown(
            checkpoints, value=self.newest or None, label="Checkpoint", visible=self.has_timeline
        )
        self.weights = gr.Radio(
            [("Average (EMA)", "ema"), ("Raw", "generator")],
            value="ema",
            label="Weights",
            visible=len(facts.weights) > 1,
        )
        gr.HTML(markup.absent(facts.absent), visible=bool(facts.absent))
        self.choices = [
            *(self.label, self.other, self.share),
            *(self.truncation, self.checkpoint, self.weights),
        ]

    def _add_grid(self) -> None:
        self.grid = self._picture()
        with gr.Row(elem_classes="gs-bar"):
            self.first = gr.Number(0, label="First seed", precision=0, min_width=120)
            self.number = gr.Slider(1, views.MOST_IMAGES, 64, step=1, label="Images", min_width=200)
            self.columns = gr.Slider(1, 16, 8, step=1, label="Columns", min_width=200)
        with gr.Row():
            self.next = gr.Button("Next seeds", variant="primary", min_width=120)
            self.save_grid = gr.Button("Save PNG", min_width=120)

    def _add_walk(self) -> None:
        self.walk = gr.HTML(markup.note(FIRST_NOTE), elem_classes="gs-walk")
        self.position = gr.Slider(0, 3, 0, step=0.01, label="Position on the walk")
        self.stations = self._picture("")
        self.seeds = gr.Textbox(
            FIRST_WALK,
            label="Seeds of the walk, in order",
            info="All in the class of the first seed, or in the class that is chosen."
            if self.facts.classes
            else None,
        )
        with gr.Row():
            self.save_walk = gr.Button("Save PNG", min_width=100)
            self.save_gif = gr.Button("Save GIF", min_width=100)
            self.save_mp4 = gr.Button("Save MP4", min_width=100, visible=pictures.writes_mp4())

    def _add_timeline(self) -> None:
        self.timeline = self._picture()
        with gr.Row(elem_classes="gs-bar"):
            self.time_first = gr.Number(0, label="First seed", precision=0, min_width=120)
            self.raw_too = gr.Checkbox(
                label="Compare average and raw weights",
                visible=len(self.facts.weights) > 1,
                min_width=200,
            )
        self.save_timeline = gr.Button("Save PNG", min_width=120)

    def _add_details(self) -> None:
        self.details = gr.HTML(
            markup.note("Click an image to see it closely."), elem_classes="gs-details"
        )
        self.save_image = gr.Button("Save this image", visible=False)
        self.find = gr.Button("Find the nearest real images", visible=False)
        self.found = gr.HTML(elem_classes="gs-details")

    def _picture(self, first: str = markup.note(FIRST_NOTE)) -> gr.HTML:
        return gr.HTML(first, js_on_load=_read("cells.js"), elem_classes="gs-picture")

    # -- events --------------------------------------------------------------------------------

    def _connect_views(self) -> None:
        of_grid = [self.first, self.number, self.columns]
        of_walk, of_time = [self.seeds, self.position], [self.time_first, self.raw_too]
        everything = [*self.choices, *of_grid, *of_walk, *of_time]
        outputs = [self.grid, self.walk, self.stations, self.timeline]

        def redraw(tab: str, *values: Any) -> tuple[Any, ...]:
            chosen, rest = _split(values)
            keep = gr.skip()
            if tab == "grid":
                return explained(self.answers.grid)(chosen, *rest[:3]), keep, keep, keep
            if tab == "walk":
                try:
                    stations = self.answers.stations(chosen, rest[3])
                except CannotShowError as error:
                    return keep, markup.message(str(error)), "", keep
                return keep, explained(self.answers.walk)(chosen, *rest[3:5]), stations, keep
            return keep, keep, keep, explained(self.answers.timeline)(chosen, *rest[5:])

        def draw_walk(*values: Any) -> str:
            chosen, rest = _split(values)
            return explained(self.answers.walk)(chosen, *rest)

        def go_to(event: gr.EventData) -> float:
            return float(event._data["position"])

        def measure_walk(seeds: str) -> Any:
            try:
                return gr.Slider(maximum=len(views.read_seeds(seeds)) - 1, value=0)
            except CannotShowError:
                return gr.skip()

        for control in (*self.choices, self.number, self.columns, self.raw_too):
            control.input(redraw, [self.open_tab, *everything], outputs, **INSTANT)
        for control in (self.first, self.time_first):
            control.change(redraw, [self.open_tab, *everything], outputs, **INSTANT)
        self.other.input(
            lambda other: gr.Slider(visible=other != NONE), self.other, self.share, **INSTANT
        )
        tabs = {"grid": self.grid_tab, "walk": self.walk_tab, "timeline": self.timeline_tab}
        for name, tab in tabs.items():
            opened = tab.select(_constant(name), None, self.open_tab, **INSTANT)
            opened.then(redraw, [self.open_tab, *everything], outputs, **INSTANT)
        self.next.click(
            lambda first, number: (first or 0) + number,
            [self.first, self.number],
            self.first,
            **INSTANT,
        )
        self.position.input(draw_walk, [*self.choices, *of_walk], self.walk, **INSTANT)
        self.stations.select(go_to, None, self.position, **INSTANT).then(
            draw_walk, [*self.choices, *of_walk], self.walk, **INSTANT
        )
        self.seeds.change(measure_walk, self.seeds, self.position, **INSTANT).then(
            redraw, [self.open_tab, *everything], outputs, **INSTANT
        )
        # A run that is training has more checkpoints by the time the page is loaded again.
        self.blocks.load(self._newest_checkpoints, None, self.checkpoint, **INSTANT).then(
            redraw, [self.open_tab, *everything], outputs, **INSTANT
        )

    def _newest_checkpoints(self) -> Any:
        names = list(self.subject.checkpoints())
        return gr.Dropdown(choices=names, value=names[-1] if names else None)

    def _connect_details(self) -> None:
        judges = self.facts.judges

        def look(event: gr.EventData, *values: Any) -> tuple[Any, ...]:
            chosen, _ = _split(values)
            seen = Seen(int(event._data["seed"]), chosen.at(**event._data))
            shown = explained(self.answers.details)(seen)
            return seen, shown, gr.Button(visible=judges), gr.Button(visible=True), ""

        def find(seen: Seen) -> str:
            return explained(self.answers.neighbours)(seen)

        outputs = [self.seen, self.details, self.find, self.save_image, self.found]
        for picture in (self.grid, self.timeline):
            picture.select(look, self.choices, outputs, **INSTANT)
        self.find.click(find, self.seen, self.found, **ONCE)

    def _connect_files(self) -> None:
        answers = self.answers
        of_grid = [*self.choices, self.first, self.number, self.columns]
        of_walk = [*self.choices, self.seeds, self.position]
        of_time = [*self.choices, self.time_first, self.raw_too]

        def save(button: gr.Button, answer: Callable[..., str], inputs: list[Any]) -> None:
            def write(*values: Any) -> str:
                try:
                    chosen, rest = _split(values)
                    return answer(chosen, *rest)
                except CannotShowError:
                    return ""  # its sentence stands where the picture would be

            saved = button.click(write, inputs, self.file, **ONCE)
            saved.then(None, self.file, None, js=_read("save.js"))

        save(self.save_grid, answers.grid_file, of_grid)
        save(self.save_timeline, answers.timeline_file, of_time)
        save(self.save_walk, answers.walk_file, of_walk)
        for kind, button in (("gif", self.save_gif), ("mp4", self.save_mp4)):
            save(button, _first_two(answers.film, kind), of_walk)
        self.save_image.click(answers.image_file, self.seen, self.file, **ONCE).then(
            None, self.file, None, js=_read("save.js")
        )


def _split(values: tuple[Any, ...]) -> tuple[Chosen, tuple[Any, ...]]:
    """Return what the shared controls are set to, and the values of the others."""
    return Chosen(*values[:6]), values[6:]


def _constant(name: str) -> Callable[[], str]:
    return lambda: name


def _first_two(film: Callable[..., str], kind: str) -> Callable[..., str]:
    return lambda chosen, seeds, _position: film(kind, chosen, seeds)


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
