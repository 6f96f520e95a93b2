"""What a stage will take, told before it is run: its own work on a sample, scaled to all of its input.

`sample_run` does a stage's work on a sample in this process, without a runner, and measures it;
`forecasts` holds what is known of each input, of which the next step's sample is one. The others
say, for a group of stages, what is measured and by what it grows: `chunking` by the bytes of the
sources, `encoding`, `indexing` and `answering` by rows, `retrieving` by questions times rows.

Assumed throughout: the corpus is as its sample is; the measured process has the machine as the run
will have it; workers on a CPU share the cores that one process is measured with, and workers on GPUs
have one each. A unit's loss after an interruption and a cluster's start are not estimated.
"""
