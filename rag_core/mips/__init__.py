"""Maximum inner product search over an index that lies on disk, exact to the last bit.

An index is a folder of shards. A shard is a pair of files with the same row order, vectors and
passages, and an entry in the manifest with their sizes and SHA-256 (`shard`). `MipsIndex` (`index`)
opens the folder, `exact_search` (`exact`) streams the vectors, `PassageStore` (`passage_store`)
takes the texts of what was found, and `merge_top_k` (`search_result`) joins results over disjoint
shards.
"""
