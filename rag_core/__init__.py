"""The RAG model and its maths: readers, encoders, MIPS, generators, decoding, metrics.

Nothing here imports Apache Beam; `pipelines` runs these pieces over large inputs.
"""
