"""From images anywhere to batches: sources → pack → manifest → order → reader → loader."""
