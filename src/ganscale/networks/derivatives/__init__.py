"""Derivatives of our own. No registry looks here: what it would import, imports Dynamo."""
