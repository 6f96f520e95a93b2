"""Mistakes in what a command reads: files, data sets and models that are not there, of another kind, or broken."""

from tests.faults.mistakes import Mistake

# what is read: not there, of another kind, empty, broken
INPUTS = [
    Mistake("chunk", "--input {missing}", "{missing}: no file matches"),
    Mistake("chunk", "--input {ground}/*.nothing", r"{ground}/\*.nothing: no file matches"),
    Mistake("chunk", "--input {empty_file}", "{empty_file}: .*empty"),
    Mistake("chunk", "--input {empty_folder}", "{empty_folder}: no file matches"),
    Mistake("chunk", "--input {binary}", "{binary}: .*jsonl"),
    Mistake("chunk", "--input {loop}", "{loop}"),
    Mistake("chunk", "--input {corpus}/deeper", "{corpus}/deeper: no file matches"),
    Mistake("chunk", "--input {text} --input_format parquet", "{text}: cannot be read as Parquet"),
    Mistake("chunk", "--input {latin_name}", r"caf\\udce9.jsonl.*not UTF-8"),
    Mistake(
        "chunk", "--input attic://bucket/corpus", r"attic://bucket/corpus: .*pip install 'rag-beam\[gcp\]'"
    ),
    Mistake("chunk", "--input {ground}/" + "long" * 80, "(long){{80}}"),
    Mistake("chunk", "--input {ground}/" + "long/" * 900, "long/long"),
    Mistake("encode", "--passages {missing}", "{missing}: no such folder or file; expected the passages"),
    Mistake("encode", "--passages {empty_folder}", "{empty_folder}: holds no Parquet files"),
    Mistake("encode", "--passages {empty_parquet}", "{empty_parquet}: .*Parquet"),
    Mistake("encode", "--passages {image}", "{image}: .*Parquet"),
    Mistake("encode", "--passages {corpus}", "{corpus}: .*Parquet"),
    Mistake("encode", "--passages {retrievals}", "{retrievals}: holds retrievals, expected passages"),
    Mistake("encode", "--passages {unfinished}", "{unfinished}: is unfinished"),
    Mistake("encode", "--passages {no_manifest}", "{no_manifest}: is unfinished"),
    Mistake("encode", "--passages {bad_manifest}", "{bad_manifest}/manifest.json"),
    Mistake("encode", "--reuse {missing}", "{missing}: no such folder or file"),
    Mistake("encode", "--reuse {wide}", "{wide}"),
    Mistake("encode", "--passage_template '{{name}}'", "--passage_template .*name"),
    Mistake("index", "--embeddings {passages}", "{passages}: holds passages, expected embeddings"),
    Mistake("index", "--embeddings {wide} --append --output {index}", "{wide}: .*passage_encoder"),
    Mistake(
        "index", "--embeddings {short_vectors} --append --output {index}", "{short_vectors}: .* 3 dimensions"
    ),
    Mistake("index", "--append", "{out}: no such index"),
    Mistake(
        "index",
        "-embeddings -passages --delete {missing} --output {index}",
        "--delete {missing}: no such file",
    ),
    Mistake("index", "-embeddings -passages --delete {ids} --output {index}", "--delete {ids}: holds no ids"),
    Mistake(
        "index",
        "-embeddings -passages --delete {latin_ids} --output {index}",
        "--delete {latin_ids}: .*UTF-8",
    ),
    Mistake(
        "index",
        "-embeddings -passages --delete {empty_folder} --output {index}",
        "--delete {empty_folder}: .*file",
    ),
    Mistake("index", "--factory NoSuch", "--factory NoSuch: FAISS cannot make it"),
    Mistake("index", "--factory PQ7", "--factory PQ7: .*32 dimensions"),
    Mistake("index", "--factory IVF4096,Flat", "--factory IVF4096,Flat: needs at least"),
    Mistake("retrieve", "--index {missing}", "{missing}: no such index"),
    Mistake("retrieve", "--index {passages}", "{passages}: holds passages, expected a MIPS index"),
    Mistake("retrieve", "--index {corpus}", "{corpus}: .*MIPS index"),
    Mistake("retrieve", "--questions {missing}", "{missing}: no file matches"),
    Mistake("retrieve", "--questions {binary}", "{binary}"),
    Mistake("retrieve", "--questions {no_rows}", "no_rows.jsonl"),
    Mistake("retrieve", "--questions {text}", "{text}"),
    Mistake("retrieve", "--retriever bm25 -encoder --questions {missing}", "{missing}: no file matches"),
    Mistake(
        "retrieve", "--retriever bm25 -encoder --index {passages}", "{passages}: .*expected a MIPS index"
    ),
    Mistake("generate", "--retrievals {passages}", "{passages}: holds passages, expected retrievals"),
    Mistake("generate", "--retrievals {questions}", "{questions}: .*Parquet"),
    Mistake("classify", "--retrievals {missing}", "{missing}: no such folder or file"),
    Mistake("classify", "--label_set", "--label_set.*expected"),
    Mistake("classify", "--label_set A= B", "--label_set .*A=.*empty label or target"),
    Mistake("classify", "--label_set A=x A=y", "--label_set.*A is given twice"),
    Mistake("classify", "--label_set A=yes B=yes", "--label_set.*A .*begins that of B"),
    Mistake("evaluate", "--predictions {passages}", "{passages}: holds passages, expected answers"),
    Mistake("evaluate", "--references {missing}", "{missing}: no file matches"),
    Mistake("evaluate", "--metrics recal@5", "--metrics recal@5.*recall@5"),
    Mistake("evaluate", "--metrics exact_match", "--metrics exact_match"),
    Mistake("evaluate", "--exports trek", "--exports trek"),
    Mistake("evaluate", "--references {others}", "{retrievals}: no question_id .* {others}"),
    Mistake("evaluate", "--references {no_answers}", "{no_answers}"),
    Mistake("evaluate", "--baseline {passages}", "{passages}: holds passages, expected retrievals"),
    Mistake("train_retriever", "--questions {missing}", "{missing}: no file matches"),
    Mistake("train_retriever", "--questions {corpus}", "{corpus}: .*dpr"),
    Mistake("train_retriever", "--questions {unfinished}", "--questions {unfinished}: is unfinished"),
    Mistake("train_rag", "--questions {empty_file}", "{empty_file}: .*empty"),
    Mistake("train_rag", "--questions {no_answers}", "{no_answers}: none of its questions has an answer"),
    Mistake(
        "train_rag", "--index {passages} --n_docs 2", "{passages}: holds passages, expected a MIPS index"
    ),
    Mistake(
        "train_rag", "-questions --n_docs 2 --retrievals {passages}", "{passages}: .*expected retrievals"
    ),
    Mistake("inspect", "{missing}", "{missing}: no such folder or file"),
    Mistake("inspect", "{empty_folder}", "{empty_folder}"),
    Mistake("inspect", "{binary}", "{binary}"),
    Mistake("inspect", "{bad_manifest}", "{bad_manifest}/manifest.json"),
    Mistake(
        "inspect", "{broken_config_encoder}", "{broken_config_encoder}/config.json: cannot be read as JSON"
    ),
    Mistake("inspect", "{list_config_encoder}", "{list_config_encoder}/config.json"),
    Mistake(
        "inspect", "{retrievals} --question_id nobody", "{retrievals}: no row has the question_id 'nobody'"
    ),
    Mistake("inspect", "{passages} --question_id nobody", "{passages}: holds passages, expected answers"),
    Mistake("inspect", "{passages} --rows -1", "--rows -1: .*greater than or equal to 0"),
    Mistake("verify", "{missing}", "{missing}"),
    Mistake("verify", "{empty_folder}", "{empty_folder}"),
    Mistake("verify", "{corpus}", "{corpus}"),
    Mistake("verify", "{encoder}", "{encoder}"),
]

# models and the devices they run on
MODELS = [
    Mistake("encode", "--encoder {missing}", "{missing}: no such model folder"),
    Mistake(
        "encode", "--encoder {empty_folder}", "{empty_folder}: holds neither config.json nor modules.json"
    ),
    Mistake("encode", "--encoder {corpus}", "{corpus}: "),
    Mistake("encode", "--encoder {question_encoder}", "{question_encoder}: holds a question encoder"),
    Mistake("encode", "--encoder {other_architecture}", "{other_architecture}: holds a model of type gpt2"),
    Mistake("encode", "--encoder {silent_encoder}", "{silent_encoder}.*: holds no tokenizer"),
    Mistake("encode", "--encoder {pickled_encoder}", "{pickled_encoder}: .*--allow_pickle"),
    Mistake("encode", "--encoder {pickled_encoder} --allow_pickle", "{pickled_encoder}"),
    Mistake("encode", "--encoder {truncated_encoder}", "{truncated_encoder}: .*cannot be loaded"),
    Mistake(
        "encode",
        "--encoder {misshapen_encoder}",
        "{misshapen_encoder}: ctx_encoder.*has the shape .*config.json",
    ),
    Mistake("encode", "--encoder {incomplete_encoder}", "{incomplete_encoder}: lacks 1 of the weights"),
    Mistake("encode", "--encoder {broken_config_encoder}", "{broken_config_encoder}/config.json: .*JSON"),
    Mistake("encode", "--encoder {list_config_encoder}", "{list_config_encoder}/config.json: "),
    Mistake("retrieve", "--encoder {encoder}", "{encoder}: holds a passage encoder"),
    Mistake(
        "retrieve",
        "--encoder {mute_generator}",
        "--encoder {mute_generator}: gives vectors of 16 dimensions, {index} holds 32",
    ),
    Mistake("generate", "--model {missing}", "{missing}: no such model folder"),
    Mistake("generate", "--model {encoder}", "{encoder}: not a generator"),
    Mistake("generate", "--model {empty_folder}", "{empty_folder}: holds no config.json"),
    Mistake(
        "generate", "--model {mute_generator}", "{mute_generator}/generator_tokenizer: holds no tokenizer"
    ),
    Mistake("generate", "--model {pickled_generator}", "{pickled_generator}: .*--allow_pickle"),
    Mistake("generate", "--model {truncated_generator}", "{truncated_generator}: "),
    Mistake(
        "generate",
        "--model {misshapen_generator}",
        "{misshapen_generator}: rag.generator.*has the shape .*config.json",
    ),
    Mistake("generate", "--model {incomplete_generator}", "{incomplete_generator}: lacks 1 of the weights"),
    Mistake("generate", "--model {broken_config_generator}", "{broken_config_generator}/config.json: .*JSON"),
    Mistake(
        "classify",
        "--model {list_config_generator}",
        "{list_config_generator}/config.json: expected a JSON object",
    ),
    Mistake("classify", "--model {truncated_generator}", "{truncated_generator}: "),
    Mistake("train_rag", "--model {truncated_generator}", "{truncated_generator}: "),
    Mistake("train_rag", "--model {list_config_generator}", "{list_config_generator}/config.json"),
    Mistake(
        "train_rag", "--model {encoder} --n_docs 2 --index {index}", "--model {encoder}: .*--question_encoder"
    ),
    Mistake("train_retriever", "--passage_encoder {question_encoder}", "{question_encoder}: "),
    Mistake("train_retriever", "--question_encoder {truncated_encoder}", "{truncated_encoder}: "),
    Mistake(
        "train_retriever",
        "-question_encoder -passage_encoder --encoder {encoder}",
        "--encoder {encoder}: holds no modules.json",
    ),
    *(
        Mistake(command, f"--device {device}", f"--device {device}: ")
        for command in ("encode", "retrieve", "generate", "classify", "train_retriever", "train_rag")
        for device in ("cuda:99", "gpu")
    ),
    Mistake("index", "--device gpu", "--device gpu: "),
    Mistake("chunk", "--device gpu", "--device gpu: "),
    Mistake("encode", "--dtype float8", "--dtype float8: .*'bfloat16'"),
    Mistake("train_rag", "--dtype bfloat16", "--dtype bfloat16: .*'float32'"),
]
