"""Initializers from names and configurations, as in Keras, but those of fastinit."""

from __future__ import annotations

from typing import Any

from keras import initializers, saving

from . import _initializers

_CLASSES: dict[str, Any] = {
    name: thing
    for name, thing in vars(_initializers).items()
    if isinstance(thing, type) and not name.startswith("_") and thing.__module__ == "fastinit.keras"
}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


# Also Keras's aliases.
_BY_NAME: dict[str, Any] = {
    **_CLASSES,
    **{_snake(name): cls for name, cls in _CLASSES.items()},
    "IdentityInitializer": _initializers.Identity,
    "normal": _initializers.RandomNormal,
    "one": _initializers.Ones,
    "OrthogonalInitializer": _initializers.Orthogonal,
    "uniform": _initializers.RandomUniform,
    "zero": _initializers.Zeros,
}


def get(identifier: Any) -> Any:
    """What `keras.initializers.get` gives, but initializers of fastinit where names stand for them.

    Args:
        identifier: A name, a configuration, a class, a callable, a tensor or `None`, as in Keras.

    Returns:
        An initializer; `None` for `None`.

    Raises:
        ValueError: As in Keras.

    Example:
        >>> import fastinit.keras
        >>> type(fastinit.keras.get("he_normal"))
        <class 'fastinit.keras.HeNormal'>
    """
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    if isinstance(identifier, dict):
        identifier = deserialize(identifier)
    return initializers.get(identifier)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """What `keras.initializers.deserialize` gives, but initializers of fastinit where Keras's are named.

    Args:
        config: What `serialize` returned, for an initializer of fastinit or of Keras.
        custom_objects: Further classes by name.

    Returns:
        An initializer.

    Raises:
        ValueError: As in Keras.

    Example:
        >>> import keras, fastinit.keras
        >>> config = keras.initializers.serialize(keras.initializers.HeNormal(seed=1))
        >>> type(fastinit.keras.deserialize(config))
        <class 'fastinit.keras.HeNormal'>
    """
    if isinstance(config, dict) and config.get("module", "keras.initializers") == "keras.initializers":
        cls = _BY_NAME.get(config.get("class_name", ""))
        if cls is not None and config.get("registered_name") is None:
            return cls.from_config(config.get("config") or {})
    with saving.custom_object_scope(custom_objects or {}):
        return initializers.deserialize(config)
