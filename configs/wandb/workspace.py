"""Makes a view of a W&B project with named panels for what ganscale logs.

    pip install wandb-workspaces
    python configs/wandb/workspace.py ENTITY PROJECT

Each call adds a view to the project; the names of the numbers are explained in docs/wandb.md.
"""

import argparse

import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces

PLAYERS = ("generator", "discriminator")
SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Scores": {
        "FID: lower is better": ("fid",),
        "KID: lower is better": ("kid", "kid_deviation"),
        "Inception score": ("inception_score",),
        "Precision and recall": ("precision", "recall"),
        "Density and coverage": ("density", "coverage"),
        "Diversity and classes: 1 is that of real images": ("diversity", "class_entropy"),
    },
    "Losses": {"Losses": ("loss_generator", "loss_discriminator")},
    "What the discriminator says": {
        "Mean output: 1 means real": ("d_real", "d_fake"),
        "Accuracy": ("d_accuracy", "balance_accuracy"),
    },
    "Pictures": {},
    "Penalties": {},
    "Machinery": {
        "Learning rates": tuple(f"learning_rate_{player}" for player in PLAYERS),
        "Factors of the balance": tuple(f"balance_{player}" for player in PLAYERS),
        "Betas": tuple(f"beta{i}_{player}" for player in PLAYERS for i in (1, 2)),
        "Gradient norms": tuple(f"gradient_norm_{player}" for player in PLAYERS),
        "Half-life of the average, images": ("ema_half_life",),
        "Augmentation": ("augment_probability", "augment_noise_std"),
        "Loss scales under fp16": tuple(f"loss_scale_{player}" for player in PLAYERS),
    },
    "System": {
        "Images per second": ("images_per_second",),
        "Seconds": (
            "seconds_step",
            "seconds_data",
            *(f"seconds_{player}" for player in PLAYERS),
        ),
        "Share of the matmul rate": ("mfu",),
        "GPU memory, GiB": ("memory_gib",),
    },
}
"""The panels of each section, with the numbers that they show."""
PATTERNS = {
    "Before their weight": "^penalty_(?!weight_)",
    "Weights": "^penalty_weight_",
}
"""The panels of penalties, one's own too, by what their names match."""
PICTURES = (
    "samples",
    "judged_samples",
    "gallery_samples",
    "gallery_interpolation",
    "gallery_neighbours",
    "gallery_training",
)


def make_workspace(entity: str, project: str, name: str = "GAN") -> workspaces.Workspace:
    """Return the view; `save()` sends it to W&B."""
    sections = []
    for title, charts in SECTIONS.items():
        panels: list[object] = [
            reports.LinePlot(title=heading, x="images", y=list(names))
            for heading, names in charts.items()
        ]
        if title == "Pictures":
            panels = [reports.MediaBrowser(title=key, media_keys=[key]) for key in PICTURES]
        if title == "Penalties":
            panels = [
                reports.LinePlot(title=heading, x="images", metric_regex=pattern)
                for heading, pattern in PATTERNS.items()
            ]
        sections.append(workspaces.Section(name=title, panels=panels, is_open=True))
    settings = workspaces.WorkspaceSettings(x_axis="images")
    return workspaces.Workspace(
        entity=entity, project=project, name=name, sections=sections, settings=settings
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entity")
    parser.add_argument("project")
    options = parser.parse_args()
    print(make_workspace(options.entity, options.project).save().url)
