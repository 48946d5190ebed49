"""`ganscale sync`: what a run has logged without a network, uploaded to W&B as one run."""
