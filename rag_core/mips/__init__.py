"""Maximum inner product search over an index that lies on disk: exact to the last bit, or at a stated price.

An index is a folder of shards. A shard is a few files with the same row order, vectors and passages
and, where the index is approximate, FAISS's codes; the manifest has an entry for it with their sizes
and SHA-256 (`shard`). `MipsIndex` (`index`) opens the folder and searches it:

- exactly (`exact`): the vectors are streamed past the questions (`vectors`, `products`), candidates
  scored to the last bit (`scores`), results over disjoint shards joined (`search_result`);
- approximately (`approximate`): FAISS proposes (`factory`, `codes`, `inverted_lists`), the stored
  vectors decide (`rescoring`), and what is missed is measured (`tuning`, `price`, `auto`).

`PassageStore` (`passage_store`) takes the texts of what was found; `deletions` keeps what is gone.
"""
