"""``python -m ganscale``, which is what ``accelerate launch -m ganscale`` runs."""

from ganscale.cli import run

if __name__ == "__main__":
    run()
