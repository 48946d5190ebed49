"""Derivatives of our own, apart from the networks: a registry imports all files that stand there.

These import Dynamo, which takes seconds.
"""
