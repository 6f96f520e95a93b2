"""Processes that are forked from one that has imported everything: they begin at once, and know no thread of ours.

Nothing heavy is imported here: the forked process has it already, and who starts it does not need it. There is one
server a process of tests, so one list of what it imports.
"""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "pipelines.run",
        "tests.faults.kill_world",
        "transformers.models.bart.modeling_bart",
        "transformers.models.bert.tokenization_bert",
        "transformers.models.dpr.tokenization_dpr",
        "transformers.models.rag.modeling_rag",
        "transformers.tokenization_utils_tokenizers",
        "matplotlib.figure",
        "rouge_score.rouge_scorer",
        "sacrebleu",
        "accelerate",
    ]
)
