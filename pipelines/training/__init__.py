"""What the two train commands share: options, claiming and resuming an output, progress, history, commit.

OUT/.work/checkpoint.pt    all that the rest of the run depends on
OUT/<model folders>        of the best validation score, as their loader has them
OUT/history.parquet, OUT/history.png, OUT/rejects/part-….parquet
OUT/manifest.json          written last; it lists the model's files with their checksums
"""
