"""The names of the initializers, Keras's aliases, and the parameters of the presets: stated only here.

An initializer has one name, that of its function (`he_normal`); its class has the same name in CamelCase.
"""

from __future__ import annotations

from ._suggest import did_you_mean

# The distribution on PyPI, as hints and the command name it. The import is called `fastinit`.
DISTRIBUTION = "fastinit-nn"


def install_hint(extra: str) -> str:
    """How to install what a feature needs.

    Args:
        extra: The name of an optional dependency group: `"bf16"`, `"cli"`, `"compare"`, `"hdf5"`, `"onnx"`,
            `"plot"` or `"safetensors"`.

    Example:
        >>> from fastinit._registry import install_hint
        >>> install_hint("plot")
        'pip install "fastinit-nn[plot]"'
    """
    return f'pip install "{DISTRIBUTION}[{extra}]"'


# The parameters of variance scaling that each preset fixes: scale, mode and distribution.
PRESETS = {
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "glorot_normal": (1.0, "fan_avg", "truncated_normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "he_normal": (2.0, "fan_in", "truncated_normal"),
    "lecun_uniform": (1.0, "fan_in", "uniform"),
    "lecun_normal": (1.0, "fan_in", "truncated_normal"),
}

NAMES = (
    "zeros",
    "ones",
    "constant",
    "identity",
    "dirac",
    "orthogonal",
    "delta_orthogonal",
    "random_uniform",
    "random_normal",
    "truncated_normal",
    "sparse",
    "variance_scaling",
    *PRESETS,
)

# The orders of the axes of kernels: (..., in, out) in Keras and JAX, (out, in, ...) in PyTorch.
LAYOUTS = ("in_out", "out_in")

MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")

# Keras's other names.
ALIASES = {
    "IdentityInitializer": "identity",
    "OrthogonalInitializer": "orthogonal",
    "normal": "random_normal",
    "one": "ones",
    "uniform": "random_uniform",
    "zero": "zeros",
}


def class_name(name: str) -> str:
    """The name of the class of an initializer: `"HeNormal"` for `"he_normal"`."""
    return name.title().replace("_", "")


_KNOWN = {**{name: name for name in NAMES}, **{class_name(name): name for name in NAMES}, **ALIASES}


def parse_name(name: str) -> str:
    """The name of the initializer for a name, the name of a class or an alias.

    Raises:
        ValueError: If it is unknown.

    Example:
        >>> from fastinit._registry import parse_name
        >>> parse_name("HeNormal"), parse_name("uniform")
        ('he_normal', 'random_uniform')
    """
    if name not in _KNOWN:
        raise ValueError(
            f"unknown initializer {name!r}"
            + (did_you_mean(name, _KNOWN) or f"; it must be one of {', '.join(sorted((*NAMES, *ALIASES)))}")
        )
    return _KNOWN[name]


def preset_name(scale: float, mode: str, distribution: str) -> str | None:
    """The preset that has these parameters, if there is one."""
    return next((name for name, preset in PRESETS.items() if preset == (scale, mode, distribution)), None)
