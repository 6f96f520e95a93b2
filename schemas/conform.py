"""Takes Parquet of other makers as a table of ours, once its columns and types fit."""

import pyarrow as pa


class SchemaError(ValueError):
    """A column is missing or has another type; the message names the file and the column."""


def readable_schema(actual: pa.Schema, expected: pa.Schema, path: str) -> pa.Schema:
    """The schema that a file's batches are cast to, column by column of `expected`.

    String-like columns (large_string, string_view, dictionaries) and wider or narrower numbers are
    taken as they are meant; a vector column keeps its own float type and length. Columns that the
    table does not know are ignored, nullable ones may be absent.

    Args:
      actual: schema of the file.
      expected: schema of the table.
      path: the file, for messages.

    Raises:
      SchemaError: a column is missing or has a type that cannot be read as the table's.
    """
    fields = []
    for column in expected:
        index = actual.get_field_index(column.name)
        if index < 0:
            if column.nullable:
                fields.append(column)
                continue
            raise SchemaError(
                f"{path}: has no column '{column.name}' ({column.type}); it has {', '.join(actual.names) or 'none'}"
            )
        found = actual.field(index).type
        target = _target_type(found, column.type)
        if target is None:
            raise SchemaError(f"{path}: column '{column.name}' has type {found}, expected {column.type}")
        fields.append(column.with_type(target))
    return pa.schema(fields)


def conform(batch: pa.RecordBatch, schema: pa.Schema, path: str) -> pa.RecordBatch:
    """Casts a batch to a schema that `readable_schema` gave.

    Raises:
      SchemaError: a column that must not be null holds a null, or a value does not fit its type.
    """
    arrays = []
    for column in schema:
        index = batch.schema.get_field_index(column.name)
        if index < 0:
            arrays.append(pa.nulls(batch.num_rows, column.type))
            continue
        array = batch.column(index)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        try:
            array = array.cast(column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise SchemaError(
                f"{path}: column '{column.name}' cannot be read as {column.type}: {error}"
            ) from error
        _refuse_nulls(array, column, path, column.name)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _refuse_nulls(array: pa.Array, column: pa.Field, path: str, name: str) -> None:
    """Raises SchemaError for a null where `column`, or what is nested in it, must not be null."""
    if array.null_count and not column.nullable:
        raise SchemaError(f"{path}: column '{name}' holds {array.null_count} nulls, expected none")
    if pa.types.is_fixed_size_list(column.type):  # a vector: no table has one with gaps
        _refuse_nulls(array.flatten(), column.type.value_field.with_nullable(False), path, f"{name}.value")
    elif pa.types.is_list(column.type):
        items = column.type.value_field
        _refuse_nulls(array.flatten(), items, path, f"{name}.{items.name}")
    elif pa.types.is_struct(column.type):
        present = array.drop_null()
        for index in range(column.type.num_fields):
            inner = column.type.field(index)
            _refuse_nulls(present.field(index), inner, path, f"{name}.{inner.name}")


def _target_type(found: pa.DataType, expected: pa.DataType) -> pa.DataType | None:
    """The type to cast `found` to so that it serves as `expected`; None where it cannot."""
    if pa.types.is_null(found):
        return expected  # a column without a single value has no type of its own
    if pa.types.is_dictionary(found):
        found = found.value_type
    if pa.types.is_string(expected):
        return expected if _is_text(found) else None
    if pa.types.is_integer(expected):
        return expected if pa.types.is_integer(found) else None
    if pa.types.is_floating(expected):
        return expected if pa.types.is_floating(found) or pa.types.is_integer(found) else None
    if pa.types.is_list(expected):
        return _target_list(found, expected)
    if pa.types.is_struct(expected) and pa.types.is_struct(found):
        return _target_struct(found, expected)
    return expected if found == expected else None


def _target_list(found: pa.DataType, expected: pa.DataType) -> pa.DataType | None:
    is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
    if not is_list:
        return None
    values = found.value_type
    if pa.types.is_floating(expected.value_type) and pa.types.is_fixed_size_list(found):
        # a vector: its own precision (half or single) and length are part of the data
        if not pa.types.is_floating(values):
            return None
        kept = values if values in (pa.float16(), pa.float32()) else expected.value_type
        return pa.list_(kept, found.list_size)
    inner = _target_type(values, expected.value_type)
    return None if inner is None else pa.list_(expected.value_field.with_type(inner))


def _target_struct(found: pa.DataType, expected: pa.DataType) -> pa.DataType | None:
    fields = []
    for index in range(expected.num_fields):
        column = expected.field(index)
        position = found.get_field_index(column.name)
        if position < 0:
            if not column.nullable:
                return None
            fields.append(column)
            continue
        inner = _target_type(found.field(position).type, column.type)
        if inner is None:
            return None
        fields.append(column.with_type(inner))
    return pa.struct(fields)


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
