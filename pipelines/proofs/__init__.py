"""What `rag-beam verify` proves of a folder that rag-beam made.

findings    what came of each check
folders     which checks a folder gets, and the steps of a whole run
manifests   the manifest itself, its fingerprint, its counts
belongings  the rejects, and that nothing else lies there
parts       files, rows, schema and footers of a data set
values      what the rows of each table must fulfil
unique_ids  no id twice, in bounded memory
indexes     shards, offset tables, ids and deleted rows of a MIPS index
models      the files of a trained model
lineage     the inputs, back to the corpus
order       rows stand as those stand that they were made from
"""
