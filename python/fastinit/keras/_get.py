"""Initializers from names and configurations: as in Keras, but of the classes of `fastinit.keras`."""

from __future__ import annotations

from typing import Any

from keras import initializers, saving

from fastinit._registry import class_name, parse_name

from . import _initializers


def _class_of(name: Any) -> Any:
    """Our class for a name, or one of Keras's aliases; `None` where there is none, such as for `"stft"`."""
    try:
        return getattr(_initializers, class_name(parse_name(name)))
    except ValueError:
        return None


def get(identifier: Any) -> Any:
    """Does what `keras.initializers.get` does; names and configurations give initializers of fastinit.

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
    if isinstance(identifier, str) and (cls := _class_of(identifier)) is not None:
        return cls()
    if isinstance(identifier, dict):
        identifier = deserialize(identifier)
    return initializers.get(identifier)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Does what `keras.initializers.deserialize` does; classes of Keras are replaced by those of fastinit.

    Args:
        config: What `serialize` returned for an initializer of fastinit or of Keras.
        custom_objects: Other classes by name.

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
        cls = _class_of(config.get("class_name"))
        if cls is not None and config.get("registered_name") is None:
            return cls.from_config(config.get("config") or {})
    with saving.custom_object_scope(custom_objects or {}):
        return initializers.deserialize(config)
