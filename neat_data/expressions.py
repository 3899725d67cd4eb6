"""What `--where` and `--by` may name: the record's own columns and a few that are worked out from them.

`scalar` reads a SQL expression over the columns of one row: never evaluated as Python, and no query, which could open
files and addresses. `select` keeps the records that one is true for;
`grouping` gives the column behind a `--by`. Both work on a lazy frame of records in the shape of `record.SCHEMA` and
add only the columns that are asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from neat_data.errors import InputError
from neat_data.record import SCHEMA

LABEL_KEYS = ("source", "subset", "split")
# What polars computes of one row alone: an aggregate of all rows would be another number for each part of a dataset.
SCALAR = (
    "abs", "sign", "ceil", "floor", "round", "trunc", "sqrt", "cbrt", "exp", "ln", "log", "log2", "log10", "log1p",
    "pow", "power", "mod", "div", "length", "char_length", "character_length", "octet_length", "bit_length",
    "lower", "upper", "initcap", "starts_with", "ends_with", "strpos", "position", "substr", "substring", "left",
    "right", "trim", "ltrim", "rtrim", "replace", "reverse", "concat", "concat_ws", "split_part",
    "string_to_array", "regexp_like", "coalesce", "ifnull", "nullif", "if", "greatest", "least", "cast", "try_cast",
    "array_length", "array_contains", "array_get", "array_to_string",
    "date", "extract", "date_part", "strftime",
)  # fmt: skip
_BEFORE_PARENTHESIS = ("and", "or", "not", "in", "between", "like", "ilike", "regexp", "rlike", "is", "case", "when",
                       "then", "else", "by", "from", "for")  # fmt: skip
# Words of queries, and what could make the parser see the bounds of a text where this pattern does not.
_TOKEN = re.compile(
    r"""
      '(?:[^'\\]|\\(?!'))*'    # a text; a quote in it is written twice, which makes two of them
    | "(?:[^"\\]|\\(?!"))*"(?!\s*\()    # a column's name, and no function's
    | (?P<refused>
          \w+(?=['"]) | ['"\\`$;\#] | -- | /\*
        | \b(?:select|with|values|table|exists|union|intersect|except|lateral|over|unnest)\b
      )
    | (?P<called>\w+)(?=\s*\()
    | \w+
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SOME = "abs, round, length, lower, starts_with, coalesce, greatest, array_length"
BY = (*LABEL_KEYS, "turns", "meta.KEY", "polarity")


def inner(column: str, field: str) -> pl.Expr:
    """The list column's `field` of every element: list<struct> -> list<field>."""
    return pl.col(column).list.eval(pl.element().struct.field(field))


def pair_gap(frame: pl.DataFrame) -> pl.Series:
    """Signed gap of each record's `labels.pair`: reward of its first response minus reward of its last, float64.

    The rule of `neat_data.labels` once more, over columns: a stored label names responses of its own record alone.
    """
    compared = pl.element().struct.field("order").list
    order = pl.col("labels").list.eval(pl.element().struct.field("order").filter(compared.len() >= 2)).list
    first = order.get(0, null_on_oob=True).list
    ends = frame.with_row_index("at").select("at", "responses", best=first.get(0), worst=first.get(-1))
    answers = ends.explode("responses").with_columns(pl.col("responses").struct.unnest())
    gaps = answers.group_by("at", maintain_order=True).agg(
        best=pl.col("reward").filter(pl.col("response_id") == pl.col("best")).first(),
        worst=pl.col("reward").filter(pl.col("response_id") == pl.col("worst")).first(),
    )
    return gaps.select(gap=pl.col("best").cast(pl.Float64) - pl.col("worst").cast(pl.Float64)).to_series()


def _gap() -> pl.Expr:
    return pl.struct("responses", "labels").map_batches(
        lambda structs: pair_gap(structs.struct.unnest()), return_dtype=pl.Float64, is_elementwise=True
    )


def _first_label(field: str) -> pl.Expr:
    return pl.col("labels").list.get(0, null_on_oob=True).struct.field(field)


def worked_out() -> dict[str, pl.Expr]:
    """The columns beside the record's own: source, subset and split of its first label, gaps of `labels.pair`."""
    return {
        "source": _first_label("name"),
        "subset": _first_label("subset"),
        "split": _first_label("split"),
        "turns": inner("messages", "role").list.count_matches("user"),
        "n_responses": pl.col("responses").list.len(),
        "reward_best": inner("responses", "reward").list.max(),
        "reward_worst": inner("responses", "reward").list.min(),
        "gap": _gap(),
        "gap_abs": _gap().abs(),
    }


def select(frame: pl.LazyFrame, where: str | None) -> pl.LazyFrame:
    """The records for which `where` is true, with the columns of `frame`; all of them where it is None.

    `gap` is the signed gap of the pair that people put in order (reward of its first response minus that of its last).

    Raises:
        InputError: the expression cannot be read, names an unknown column, or is neither true nor false.
    """
    if where is None:
        return frame
    schema, extra = frame.collect_schema(), worked_out()
    with explained(where):
        condition = scalar(where)
        used = dict.fromkeys(condition.meta.root_names())
        if unknown := [name for name in used if name not in schema and name not in extra]:
            raise _refused(where, f"there is no column {unknown[0]!r}")
        added = {name: extra[name] for name in used if name not in schema}
        # a comparison of unlike types is found on no rows as well as on all of them
        kind = pl.DataFrame(schema=schema).lazy().with_columns(**added).select(condition).collect().dtypes[0]
    if kind != pl.Boolean:
        raise _refused(where, "it is neither true nor false; compare, as in 'gap > 1'")
    return frame.with_columns(**added).filter(condition).select(schema.names())


def scalar(text: str) -> pl.Expr:
    """A SQL expression over columns.

    polars runs the queries inside an expression while it reads it, those over files and addresses too
    (`gap > (SELECT … FROM read_csv('…'))`): they are refused by their words, before polars sees them.

    Raises:
        pl.exceptions.PolarsError: it cannot be read, or holds a query, a window or what looks at other rows as well.
    """
    for token in _TOKEN.finditer(text):
        if token["refused"] is not None:
            raise pl.exceptions.SQLSyntaxError(f"{token[0]} has no place in an expression over columns")
        if token["called"] is not None and token["called"].lower() not in (*SCALAR, *_BEFORE_PARENTHESIS):
            raise pl.exceptions.SQLSyntaxError(f"{token[0]}(…) is no function of one record; such are {_SOME}")
    return pl.sql_expr(text)


@contextmanager
def explained(where: str | None) -> Iterator[None]:
    """Turn what polars says of an expression, here or when the frame is collected, into an `InputError`."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        if where is None:
            raise
        raise _refused(where, str(error).strip().splitlines()[0]) from error


def _refused(where: str, reason: str) -> InputError:
    columns = ", ".join([*SCHEMA.names, *worked_out()])
    return InputError(f"{reason}\ncolumns: {columns}", field="where", value=repr(where))


def grouping(by: str) -> pl.Expr:
    """The column that `by` names: a list with one text a label (source, subset, split), or one text a record.

    Raises:
        InputError: `by` is none of the names in `BY`.
    """
    if by in LABEL_KEYS:
        return inner("labels", "name" if by == "source" else by)
    if by == "turns":
        return worked_out()["turns"].cast(pl.String)
    if by.startswith("meta.") and len(by) > len("meta."):
        return pl.col("meta").str.json_path_match(f"$[{json.dumps(by[5:], ensure_ascii=False)}]")
    raise InputError(f"is none of {', '.join(BY)}", field="by", value=repr(by))
