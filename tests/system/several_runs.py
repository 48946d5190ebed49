"""A program that trains three runs, one after the other; `accelerate launch` may start it."""

import os
import sys

import ganscale


class Ending(ganscale.Callback):
    def on_step(self, event: ganscale.Event) -> None:
        assert os.environ["RANK"] == "0"
        if event.experiment.name == "stopped":
            event.stop()
        if event.experiment.name == "failed":
            raise ValueError(f"of {event.experiment.name}")


for name in ("whole", "stopped", "failed"):
    try:
        run = ganscale.train(sys.argv[1], overrides={"name": name}, callbacks=[Ending()])
        end = str(run.step)
    except ganscale.GanscaleError as error:
        end = str(error)
    sys.stdout.write(f"rank {os.environ['RANK']}, {name}: {end}\n")
