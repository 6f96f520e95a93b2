"""The PTransforms and DoFns of the stages, importable into other pipelines."""
