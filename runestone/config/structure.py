"""From tables to the document, through cattrs: everything that is wrong at once, each with its path."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import AttributeValidationNote, BaseValidationError, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn

from runestone.config import kinds
from runestone.config.document import NAMED, AliasTable, Document, OwnBreakerTable
from runestone.config.kinds import Invalid

Path = tuple[str, ...]
Problems = list[tuple[Path, Invalid]]


def kind_of(annotation: Any) -> kinds.Kind | None:
    """The kind in an ``Annotated`` type."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((extra for extra in get_args(annotation)[1:] if hasattr(extra, "read")), None)


def structure(table: Mapping[str, Any]) -> Document | Problems:
    """The document in ``table``, or all that is wrong with it."""
    try:
        return _CONVERTER.structure(table, Document)
    except BaseValidationError as error:
        return list(_found(error, ()))


def _found(error: BaseException, path: Path) -> list[tuple[Path, Invalid]]:
    if isinstance(error, BaseValidationError):
        found: list[tuple[Path, Invalid]] = []
        for inner in error.exceptions:
            found += _found(inner, (*path, *_step(inner)))
        return found
    if isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.name for attribute in attrs.fields(error.cl)]
        return [((*path, key), _unknown(key, known)) for key in sorted(error.extra_fields)]
    if isinstance(error, Invalid):
        return [((*path, *error.below), error)]
    raise error


def _step(error: BaseException) -> Path:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (str(note.index),)
    return ()


def _unknown(key: str, known: list[str]) -> Invalid:
    near = difflib.get_close_matches(key, known, 1, 0.5)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return Invalid("is not known", "no such key", ", ".join(known) + hint)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    tables = [dict[str, cls] for cls in NAMED.values()]  # type: ignore[valid-type] # classes by name

    def named(value: Any, annotation: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Invalid("is not a table", kinds.shown(value), "tables by name")
        return _each(converter, value, get_args(annotation)[1])

    def own_breaker(value: Any, _: Any) -> Any:
        if isinstance(value, Mapping):
            return converter.structure(value, OwnBreakerTable)
        flag = (
            kinds.Flag()
            if isinstance(value, str)
            else kinds.Flag(f"true, false, or a table with {_keys(OwnBreakerTable)}")
        )
        return flag.read(value)

    converter.register_structure_hook_factory(lambda annotation: kind_of(annotation) is not None, _reading)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _table(converter, cls))
    converter.register_structure_hook(bool | OwnBreakerTable, own_breaker)
    converter.register_structure_hook_func(lambda annotation: annotation in tables, named)
    return converter


def _reading(annotation: Any) -> Callable[[Any, Any], Any]:
    kind = kind_of(annotation)
    assert kind is not None
    return lambda value, _: kind.read(value)


def _table(converter: cattrs.Converter, cls: type) -> Callable[[Any, Any], Any]:
    made: Callable[[Any, Any], Any] = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

    def structured(value: Any, type_: Any) -> Any:
        if cls is AliasTable and isinstance(value, str):
            value = {"model": value}
        if not isinstance(value, Mapping):
            raise Invalid("is not a table", kinds.shown(value), f"a table with {_keys(cls)}")
        return made(value, type_)

    return structured


def _each(converter: cattrs.Converter, tables: Mapping[str, Any], cls: type) -> dict[str, Any]:
    made: dict[str, Any] = {}
    errors: list[Exception] = []
    for name, table in tables.items():
        try:
            made[name] = converter.structure(table, cls)
        except (BaseValidationError, Invalid) as error:
            error.add_note(IterableValidationNote(f"in {name}", name, cls))
            errors.append(error)
    if errors:
        raise cattrs.IterableValidationError("tables", errors, cls)
    return made


def _keys(cls: type) -> str:
    return ", ".join(attribute.name for attribute in attrs.fields(cls))


_CONVERTER: Final = _converter()
