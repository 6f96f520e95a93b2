"""Runs that are repeated: each night in a folder of its own, made from what the night before left.

OUT/night-000012/<step>            what the step made in that night
OUT/night-000012/<step>_changes    what became of its answers or labels since the night before
OUT/question_vectors/              encoded questions, for nights that ask the same
OUT/current.json                   which folder is each step's newest; replaced when a night is whole
"""
