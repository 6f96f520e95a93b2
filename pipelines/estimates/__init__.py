"""What a stage will take, told before it is run: its own work on a sample, scaled to all of its input.

`sample_run` does a stage's work on a sample in this process, without a runner, and measures it;
`bounded_reading` reads sources for a few seconds; `forecasts` holds what is known of each input, an
earlier step's sample among it. The others say what is measured for a stage and by what it grows:
`chunking` by the bytes of the sources, `rows` (encode, generate, classify) and `indexing` by rows,
`retrieving` by questions and, its search, by questions times vectors.

Assumed throughout: the corpus is as its sample is; the measured process has the machine as the run
will have it; workers on a CPU share the cores that one process is measured with, and workers on GPUs
have one each. A unit's loss after an interruption and a cluster's start are not estimated.
"""
