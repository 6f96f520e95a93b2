"""Data sets on disk: units, parts, manifest, resume and rejects. No Beam in here.

OUT/.work/plan.json        what is being made: settings, inputs, fingerprint
OUT/.work/units/           what was computed and committed, a file a unit
OUT/part-<source>-<n>.parquet, OUT/rejects/part-….parquet
OUT/manifest.json          written last; a folder of ours without it is unfinished
"""
