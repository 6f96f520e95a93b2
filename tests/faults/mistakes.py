"""Mistakes that a user can make, and what the sentence about each must name.

A mistake is what it changes of a command that works: `--name values` in place of the working ones, or
added to them; `-name` leaves an option out. Words in braces are paths of `ground.make_ground`; in the
pattern they stand for those paths, and `.*` for anything.
"""

from dataclasses import dataclass

WORKING = {
    "chunk": "--input {corpus}",
    "encode": "--passages {passages} --encoder {encoder}",
    "index": "--embeddings {embeddings} --passages {passages}",
    "retrieve": "--index {index} --questions {questions} --encoder {question_encoder} --n_docs 2",
    "generate": "--retrievals {retrievals} --model {model} --model_type rag_token",
    "classify": "--retrievals {claims} --model {model} --label_set A=yes B=no",
    "evaluate": "--predictions {retrievals} --references {questions}",
    "train_retriever": "--questions {dpr} --question_encoder {question_encoder} --passage_encoder {encoder}",
    "train_rag": "--questions {questions} --model {model} --model_type rag_token --n_docs 0",
    "run": "{good_run}",
    "inspect": "{passages}",
    "verify": "{passages}",
}


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
      changes: of the command that works; a word without a dash at the start replaces its positional.
      names: regular expression of what the sentence must name.
    """

    command: str
    changes: str
    names: str


# the names of options, and their values
OPTIONS = [
    Mistake("chnk", "", "chnk: no such command; did you mean chunk"),
    *(Mistake(command, "--outptu x", "--outptu: no such option") for command in WORKING),
    Mistake("chunk", "--passage_word 3", "--passage_word: no such option; did you mean --passage_words"),
    Mistake("chunk", "-output", "--output is required"),
    Mistake("chunk", "--output", "--output.*expected"),
    Mistake("chunk", "stray", "'stray' is not an option; options begin with --"),
    Mistake("encode", "-encoder", "--encoder is required"),
    Mistake("index", "-passages", "give --embeddings and --passages"),
    Mistake("retrieve", "-index", "--index is required"),
    Mistake("retrieve", "-encoder", "--encoder is required, unless --retriever is bm25"),
    Mistake("generate", "-model_type", "--model_type is required"),
    Mistake("classify", "-label_set", "--label_set is required"),
    Mistake("evaluate", "-references", "--references is required"),
    Mistake("train_retriever", "-questions", "--questions is required"),
    Mistake("train_rag", "-model", "--model is required"),
    Mistake("run", "-", "run_file"),
    Mistake("inspect", "-", "path"),
    Mistake("verify", "-", "DIR"),
    Mistake("chunk", "--input_format jsnl", "--input_format jsnl: .*'jsonl'"),
    Mistake("chunk", "--last_passage warp", "--last_passage warp: .*'keep' or 'wrap'"),
    Mistake("retrieve", "--retriever bm52", "--retriever bm52: .*'dense' or 'bm25'"),
    Mistake(
        "generate", "--model_type rag_sequenc", "--model_type rag_sequenc: .*'rag_sequence' or 'rag_token'"
    ),
    Mistake("generate", "--decoding thorough", "--decoding thorough.*rag_token"),
    Mistake("chunk", "--passage_words many", "--passage_words many: .*integer"),
    Mistake("chunk", "--passage_words -1", "--passage_words -1: .*greater than or equal to 0"),
    Mistake("chunk", "--max_rejects 2", "--max_rejects 2: .*less than or equal to 1"),
    Mistake("chunk", "--max_rejects nan", "--max_rejects nan"),
    Mistake("encode", "--max_tokens 2", "--max_tokens 2: expected at least 8"),
    Mistake("retrieve", "--n_docs 0", "--n_docs 0: .*greater than or equal to 1"),
    Mistake("retrieve", "--n_docs 2.5", "--n_docs 2.5: .*integer"),
    Mistake("retrieve", "--bm25_b 2 --retriever bm25 -encoder", "--bm25_b 2: .*less than or equal to 1"),
    Mistake("generate", "--num_beams two", "--num_beams two: .*integer"),
    Mistake("generate", "--length_penalty nan", "--length_penalty nan"),
    Mistake("generate", "--max_new_tokens 100000", "--max_new_tokens 100000: .*at most 512 tokens"),
    Mistake("generate", "--min_new_tokens 30", "--min_new_tokens 30.*--max_new_tokens 20"),
    Mistake("train_rag", "--learning_rate 0", "--learning_rate 0: .*greater than 0"),
    Mistake("train_rag", "--learning_rate inf", "--learning_rate inf"),
    Mistake("train_retriever", "--precision float16", "--precision float16: .*'float32' or 'bfloat16'"),
    Mistake("chunk", "--runner NoSuchRunner", "--runner NoSuchRunner"),
    Mistake("chunk", "--direct_num_workers two", "--direct_num_workers.*two"),
    Mistake("chunk", "--direct_num_workers -3", "--direct_num_workers -3"),
    Mistake("chunk", "--direct_running_mode sideways", "--direct_running_mode.*sideways"),
    Mistake("encode", "--no_such_beam_option 1", "--no_such_beam_option: no such option"),
]

# options that exclude or need each other
TOGETHER = [
    Mistake("retrieve", "--retriever bm25", "--encoder: has no meaning with --retriever bm25"),
    Mistake("retrieve", "--bm25_k1 1", "--bm25_k1: has no meaning with --retriever dense"),
    Mistake("retrieve", "--nprobe 3", "--nprobe: belongs to an approximate search; {index}"),
    Mistake("index", "--delete {ids}", "--delete: .*--append in a run of its own"),
    Mistake("index", "--factory IVF1,Flat --questions {questions}", "--questions: give --encoder too"),
    Mistake("index", "--append --overwrite --output {index}", "--overwrite: .*leave it out"),
    Mistake("generate", "--num_candidates 9", "--num_candidates 9.*num_beams"),
    Mistake(
        "train_retriever", "--encoder {encoder}", "--question_encoder and --passage_encoder, or --encoder"
    ),
    Mistake("train_retriever", "-passage_encoder", "--question_encoder and --passage_encoder, or --encoder"),
    Mistake("train_rag", "--retrievals {retrievals}", "--questions, or --retrievals in their place"),
    Mistake("train_rag", "--n_docs 2", "--index to search, or --n_docs 0"),
    Mistake("train_rag", "--freeze_retriever", "--freeze_retriever: without --index"),
    Mistake("evaluate", "--slice_by kind", "kind"),
]

# what is written, and where
OUTPUTS = [
    *(
        Mistake(command, "--output {corpus}", "--output {corpus}: is a file")
        for command in WORKING
        if command not in ("run", "inspect", "verify", "chunk")
    ),
    Mistake("chunk", "--output {text}", "--output {text}: is a file"),
    Mistake("chunk", "--output {text}/deeper", "--output {text}/deeper: cannot be written"),
    Mistake(
        "chunk",
        "--output {foreign}",
        "--output {foreign}: holds 1 files that are not of rag-beam .*thesis.txt",
    ),
    Mistake("chunk", "--output {foreign} --overwrite", "--output {foreign}: .*thesis.txt"),
    Mistake("chunk", "--output {ground}/" + "long" * 80, "--output {ground}/(long){{80}}: .*[Tt]oo long"),
    Mistake("chunk", "--output {loop}", "--output {loop}"),
    Mistake("chunk", "--output {latin_folder}", "--output {ground}/caf.*not UTF-8"),
    Mistake(
        "chunk",
        "--output {unfinished} --passage_words 7",
        "--output {unfinished}: .*passage_words was 100, is 7",
    ),
    Mistake(
        "chunk", "--output {passages} --passage_words 7", "--output {passages}: .*passage_words was 20, is 7"
    ),
    Mistake(
        "encode", "--output {index}", "--output {index}: .*it holds mips_index, this would be embeddings"
    ),
    Mistake("encode", "--output {passages}", "--output {passages}: .*--passages"),
    Mistake("encode", "--output {passages} --overwrite", "--output {passages}: .*--passages"),
    Mistake("encode", "--output {passages}/vectors", "--output {passages}/vectors: .*--passages"),
    Mistake("encode", "--output {encoder}/vectors", "--output {encoder}/vectors: .*--encoder"),
    Mistake("index", "--output {embeddings} --overwrite", "--output {embeddings}: .*--embeddings"),
    Mistake("retrieve", "--output {index}/../index --overwrite", "--output {index}/../index: .*--index"),
    Mistake("evaluate", "--output {retrievals} --overwrite", "--output {retrievals}: .*--predictions"),
    Mistake("train_rag", "--output {model} --overwrite", "--output {model}: .*--model"),
    Mistake("run", "{good_run} --output {text}", "{text}"),
]

# run files
RUNS = [
    Mistake("run", "{missing}", "{missing}: no such run file"),
    Mistake("run", "{empty_folder}", "{empty_folder}: "),
    Mistake("run", "{empty_file}", "{empty_file}: expected a mapping"),
    Mistake("run", "{binary}", "{binary}: is not YAML"),
    Mistake("run", "{not_yaml}", "{not_yaml}: is not YAML"),
    Mistake("run", "{only_text}", "{only_text}: expected a mapping"),
    Mistake("run", "{no_output}", "{no_output}: output: .*required"),
    Mistake("run", "{no_steps}", "{no_steps}: .*steps"),
    Mistake("run", "{no_mapping}", "{no_mapping}: steps.passages: "),
    Mistake("run", "{unknown_stage}", "{unknown_stage}: step passages: stage is 'chnk'.*chunk"),
    Mistake("run", "{unknown_option}", "{unknown_option}: step passages: --passage_word: .*--passage_words"),
    Mistake("run", "{wrong_type}", "{wrong_type}: step passages: --passage_words many: .*integer"),
    Mistake("run", "{own_output}", "{own_output}: step passages: has an output of its own"),
    Mistake("run", "{no_step}", "vectors: .*pasages"),
    Mistake("run", "{later}", "{later}: step vectors: --passages passages: is made by a later step"),
    Mistake("run", "{cycle}", "{cycle}: step index: --embeddings vectors: is made by a later step"),
    Mistake("run", "{itself}", "{itself}: step passages: --input passages: is made by this step itself"),
    Mistake("run", "{up}", r"{up}: .*\.\./passages"),
    Mistake("run", "{nul}", "{nul}: step passages: --input: .*NUL"),
    Mistake("run", "{good_run} --only nothing", "--only nothing: {good_run} has the steps passages"),
    Mistake("run", "{good_run} --only", "--only.*expected"),
]
