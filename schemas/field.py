"""How a described field is written down, and the version that all tables share."""

import pyarrow as pa

# One number for every table: raised when a column changes its name, type or meaning.
FORMAT_VERSION = 1


def field(name: str, type_: pa.DataType, description: str, *, nullable: bool = False) -> pa.Field:
    """A column with its description in the field's metadata, where any Parquet tool shows it."""
    return pa.field(name, type_, nullable=nullable, metadata={"description": description})


def list_of(name: str, type_: pa.DataType) -> pa.DataType:
    """A list whose items are never null; `name` is what one item is called."""
    return pa.list_(pa.field(name, type_, nullable=False))


def describe(schema: pa.Schema) -> list[tuple[str, str, str]]:
    """(column, type, description) of each column, nested ones with dotted names."""
    rows: list[tuple[str, str, str]] = []

    def visit(item: pa.Field, prefix: str) -> None:
        path = prefix + item.name
        text = (item.metadata or {}).get(b"description", b"").decode()
        inner = item.type
        if pa.types.is_list(inner) and pa.types.is_struct(inner.value_type):
            rows.append((path, "list<struct>", text))
            for index in range(inner.value_type.num_fields):
                visit(inner.value_type.field(index), path + ".")
            return
        rows.append((path, str(inner).replace(" not null", ""), text))

    for item in schema:
        visit(item, "")
    return rows
