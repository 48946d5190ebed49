"""How ganscale's pages look: one stylesheet, for reports and for the page of `ganscale watch`."""

from pathlib import Path

STYLESHEET = Path(__file__).parent / "looks.css"
