"""How each library does each case, written as its own documentation suggests.

A library is set up in a process of its own (see `worker`). `prepare` returns a function of no arguments that
makes one array, or fills one that it keeps, and returns when the values are in memory; None where the library
offers no such thing. Everything that a user would do once is done before.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from cases import CUT, HIGH, LOW, STDDEV, Case

Call = Callable[[], Any]
Array = np.ndarray[Any, np.dtype[Any]]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of that name, bfloat16 included."""
    if name == "bfloat16":
        bfloat16: np.dtype[Any] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
        return bfloat16
    return np.dtype(name)


def memset(case: Case, threads: int) -> Call:
    """Return the plainest store of the case's size: the ceiling that no generator can pass."""
    if case.memory == "fresh":
        return lambda: np.full(case.shape, 1.0, numpy_dtype(case.dtype))
    buffer = np.ones(case.nbytes, np.uint8)
    if threads == 1 or buffer.nbytes < 1 << 20:
        return lambda: ctypes.memset(buffer.ctypes.data, 0x3F, buffer.nbytes)
    parts = np.array_split(buffer, threads)
    pool = ThreadPoolExecutor(threads - 1)

    def store(part: Array) -> None:
        ctypes.memset(part.ctypes.data, 0x3F, part.nbytes)

    def call() -> None:
        others = [pool.submit(store, part) for part in parts[1:]]
        store(parts[0])
        for other in others:
            other.result()

    return call


class Library(ABC):
    """One library under measurement."""

    packages: tuple[str, ...]  # distributions whose versions belong in the record

    @abstractmethod
    def prepare(self, case: Case) -> Call | None:
        """Return what does the case, or None if the library does not offer it."""

    def versions(self) -> dict[str, str]:
        """Return the version of each package involved."""
        return {package: importlib.metadata.version(package) for package in self.packages}

    def level(self) -> str | None:
        """Return the SIMD level in use, where the library tells."""
        return None


class Fastinit(Library):
    """This library, at the level that FASTINIT_SIMD allows."""

    packages = ("fastinit", "numpy")

    def __init__(self, threads: int) -> None:
        """Load the library."""
        self.fastinit: Any = importlib.import_module("fastinit")
        self.threads = threads

    def versions(self) -> dict[str, str]:
        """Take the version from the module, so that an uninstalled build can be measured too."""
        return {"fastinit": self.fastinit.__version__, "numpy": np.__version__}

    def level(self) -> str | None:
        """Return the SIMD level in use."""
        return str(self.fastinit.build_info()["simd"])

    def prepare(self, case: Case) -> Call | None:
        """Return a call with the memory and threads of the case."""
        if case.distribution == "memset":
            return memset(case, self.threads)
        f = self.fastinit
        function = {
            "constant": f.ones,
            "uniform": partial(f.random_uniform, minval=LOW, maxval=HIGH, seed=1),
            "normal": partial(f.random_normal, stddev=STDDEV, seed=1),
            "truncated_normal": partial(f.truncated_normal, stddev=STDDEV, lower=-CUT, upper=CUT, seed=1),
            "he_normal": partial(f.he_normal, seed=1),
            "orthogonal": partial(f.orthogonal, seed=1),
        }[case.distribution]
        make = partial(function, case.shape, dtype=case.dtype, threads=self.threads)
        return partial(make, out=make()) if case.memory == "resident" else make


def numpy_draw(generator: np.random.Generator, case: Case, out: Array) -> Array:
    """Fill `out`, float32 or float64, with a uniform or a normal, in place throughout."""
    if case.distribution == "uniform":
        generator.random(dtype=out.dtype.type, out=out)
        out *= HIGH - LOW
        out += LOW
    else:
        generator.standard_normal(dtype=out.dtype.type, out=out)
        out *= STDDEV
    return out


def numpy_orthogonal(generator: np.random.Generator, case: Case) -> Array:
    """Factorize a normal matrix, and make the diagonal of the triangular factor positive."""
    factor, triangle = np.linalg.qr(generator.standard_normal(case.shape, numpy_dtype(case.dtype).type))
    factor *= np.sign(np.diagonal(triangle))
    return factor


class Numpy(Library):
    """NumPy's `Generator` over one bit generator, on one thread, as it is."""

    packages = ("numpy",)

    def __init__(self, bit_generator: str) -> None:
        """Choose the bit generator."""
        self.generator = np.random.Generator(getattr(np.random, bit_generator)(1))

    def draw(self, case: Case, out: Array) -> Array:
        """Fill `out`, float32 or float64, with the distribution of the case."""
        return numpy_draw(self.generator, case, out)

    def prepare(self, case: Case) -> Call | None:
        """Draw in float32 or float64; a half is drawn in float32 and cast, since NumPy draws no halves."""
        if case.distribution == "memset":
            return None
        dtype = numpy_dtype(case.dtype)
        if case.distribution == "constant":
            if case.memory == "fresh":
                return lambda: np.full(case.shape, 1.0, dtype)
            buffer = np.empty(case.shape, dtype)
            return lambda: buffer.fill(1.0)
        if case.distribution == "orthogonal":
            return lambda: numpy_orthogonal(self.generator, case)
        if case.distribution not in ("uniform", "normal"):
            return None
        drawn = np.dtype(np.float64 if dtype == np.float64 else np.float32)
        if case.memory == "fresh":
            return lambda: self.draw(case, np.empty(case.shape, drawn)).astype(dtype, copy=False)
        out = np.empty(case.shape, dtype)
        if drawn == dtype:
            return lambda: self.draw(case, out)
        scratch = np.empty(case.shape, drawn)
        return lambda: np.copyto(out, self.draw(case, scratch), casting="unsafe")


class NumpyThreads(Numpy):
    """NumPy on all threads by its documented recipe: a pool, and a generator for each thread."""

    def __init__(self, bit_generator: str, threads: int) -> None:
        """Spawn a generator for each thread."""
        super().__init__(bit_generator)
        self.generators = self.generator.spawn(threads)
        self.pool = ThreadPoolExecutor(threads)

    def draw(self, case: Case, out: Array) -> Array:
        """Fill `out` in parallel, a block of rows for each thread."""
        parts = np.array_split(out, len(self.generators))
        list(self.pool.map(numpy_draw, self.generators, [case] * len(parts), parts))
        return out


class Torch(Library):
    """PyTorch's in-place initializers."""

    packages = ("torch",)

    def __init__(self, threads: int) -> None:
        """Load the library and set its threads."""
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.torch.manual_seed(1)

    def prepare(self, case: Case) -> Call | None:
        """Fill a tensor in place; a fresh one is `torch.empty` first."""
        init = self.torch.nn.init
        dtype = getattr(self.torch, case.dtype)
        fill: Callable[[Any], Any] | None = {
            "constant": lambda tensor: init.ones_(tensor),
            "uniform": lambda tensor: init.uniform_(tensor, LOW, HIGH),
            "normal": lambda tensor: init.normal_(tensor, std=STDDEV),
            "truncated_normal": lambda tensor: init.trunc_normal_(
                tensor, std=STDDEV, a=-CUT * STDDEV, b=CUT * STDDEV
            ),
            "he_normal": lambda tensor: init.kaiming_normal_(tensor, nonlinearity="relu"),
            "orthogonal": init.orthogonal_,
        }.get(case.distribution)
        if fill is None:
            return None
        if case.memory == "fresh":
            return lambda: fill(self.torch.empty(case.shape, dtype=dtype))
        tensor = self.torch.ones(case.shape, dtype=dtype)
        return lambda: fill(tensor)


class Jax(Library):
    """JAX, compiled, with its default generator. Its arrays are immutable, so memory is always fresh."""

    packages = ("jax", "jaxlib")

    def __init__(self) -> None:
        """Load the library."""
        self.jax: Any = importlib.import_module("jax")
        self.jax.config.update("jax_platforms", "cpu")
        self.jax.config.update("jax_enable_x64", True)
        importlib.import_module("jax.nn")

    def prepare(self, case: Case) -> Call | None:
        """Compile a function of the key alone."""
        if case.memory != "fresh" or case.distribution == "memset":
            return None
        jax, numpy = self.jax, importlib.import_module("jax.numpy")
        dtype = numpy.dtype(case.dtype)
        if case.distribution == "constant":
            full = jax.jit(lambda value: numpy.full(case.shape, value, dtype))
            return lambda: full(1.0).block_until_ready()
        initializers = jax.nn.initializers
        initialize = {
            "uniform": lambda key, shape: jax.random.uniform(key, shape, dtype, LOW, HIGH),
            "normal": initializers.normal(STDDEV, dtype),
            "truncated_normal": initializers.truncated_normal(STDDEV, dtype, -CUT, CUT),
            "he_normal": initializers.he_normal(dtype=dtype),
            "orthogonal": initializers.orthogonal(dtype=dtype),
        }[case.distribution]
        compiled = jax.jit(lambda key: initialize(key, case.shape))
        key = jax.random.key(1)
        return lambda: compiled(key).block_until_ready()


class Keras(Library):
    """Keras's initializers over one backend, eager, as layers call them."""

    def __init__(self, backend: str, threads: int) -> None:
        """Load Keras with the backend."""
        os.environ["KERAS_BACKEND"] = backend
        if backend == "tensorflow":
            limit_tensorflow(threads)
        self.keras: Any = importlib.import_module("keras")
        if backend == "torch":
            importlib.import_module("torch").set_num_threads(threads)
        self.packages = ("keras", "tensorflow-cpu" if backend == "tensorflow" else backend)
        self.asynchronous = backend == "jax"

    def prepare(self, case: Case) -> Call | None:
        """Call an initializer object; variables are made anew, so memory is always fresh."""
        if case.memory != "fresh" or case.distribution == "memset":
            return None
        if case.dtype == "float64" and self.asynchronous:
            return None  # JAX's 64-bit mode is off under Keras
        initializers = self.keras.initializers
        initialize = {
            "constant": lambda: initializers.Ones(),
            "uniform": lambda: initializers.RandomUniform(LOW, HIGH, seed=1),
            "normal": lambda: initializers.RandomNormal(0.0, STDDEV, seed=1),
            "truncated_normal": lambda: initializers.TruncatedNormal(0.0, STDDEV, seed=1),
            "he_normal": lambda: initializers.HeNormal(seed=1),
            "orthogonal": lambda: initializers.Orthogonal(seed=1),
        }[case.distribution]()
        if self.asynchronous:
            return lambda: initialize(case.shape, case.dtype).block_until_ready()
        return lambda: initialize(case.shape, case.dtype)


def limit_tensorflow(threads: int) -> Any:
    """Load TensorFlow with that many threads; it takes no change later."""
    tensorflow: Any = importlib.import_module("tensorflow")
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    return tensorflow


class Tensorflow(Library):
    """TensorFlow's eager random operations. Its tensors are immutable, so memory is always fresh."""

    packages = ("tensorflow-cpu",)

    def __init__(self, threads: int) -> None:
        """Load the library and set its threads."""
        self.tensorflow = limit_tensorflow(threads)

    def prepare(self, case: Case) -> Call | None:
        """Call the random operation of that name."""
        if case.memory != "fresh":
            return None
        tf, shape = self.tensorflow, case.shape
        dtype = tf.as_dtype(case.dtype)
        calls: dict[str, Call] = {
            "constant": lambda: tf.fill(shape, tf.cast(1.0, dtype)),
            "uniform": lambda: tf.random.uniform(shape, LOW, HIGH, dtype),
            "normal": lambda: tf.random.normal(shape, 0.0, STDDEV, dtype),
        }
        if CUT == 2.0:  # the only cut that it offers
            calls["truncated_normal"] = lambda: tf.random.truncated_normal(shape, 0.0, STDDEV, dtype)
        return calls.get(case.distribution)


class MklRandom(Library):
    """Intel oneMKL's generators through mkl_random: float64 only, one thread."""

    packages = ("mkl-random", "mkl")

    def __init__(self) -> None:
        """Choose the fastest generator and method it has for normals."""
        mkl_random: Any = importlib.import_module("mkl_random")
        self.state = mkl_random.MKLRandomState(1, brng="SFMT19937")

    def prepare(self, case: Case) -> Call | None:
        """Draw float64 normals into a new array."""
        if (case.distribution, case.dtype, case.memory) != ("normal", "float64", "fresh"):
            return None
        return lambda: self.state.normal(0.0, STDDEV, case.shape, method="ICDF")


@dataclass(frozen=True)
class Entry:
    """A library in the list: what it needs, how to load it, and whether `--quick` measures it."""

    modules: tuple[str, ...]
    load: Callable[[int], Library]
    quick: bool = True
    environment: tuple[tuple[str, str], ...] = ()

    def missing(self) -> list[str]:
        """Return the modules that are not installed here."""
        return [module for module in self.modules if importlib.util.find_spec(module) is None]


LIBRARIES: dict[str, Entry] = {
    "fastinit": Entry(("fastinit",), Fastinit),
    "fastinit avx2": Entry(("fastinit",), Fastinit, environment=(("FASTINIT_SIMD", "avx2"),)),
    "fastinit scalar": Entry(("fastinit",), Fastinit, environment=(("FASTINIT_SIMD", "scalar"),)),
    "numpy PCG64": Entry(("numpy",), lambda _: Numpy("PCG64"), quick=False),
    "numpy SFC64": Entry(("numpy",), lambda _: Numpy("SFC64")),
    "numpy Philox": Entry(("numpy",), lambda _: Numpy("Philox"), quick=False),
    "numpy SFC64, all threads": Entry(("numpy",), lambda threads: NumpyThreads("SFC64", threads)),
    "torch": Entry(("torch",), Torch),
    "jax": Entry(("jax",), lambda _: Jax()),
    "keras on jax": Entry(("keras", "jax"), lambda threads: Keras("jax", threads)),
    "keras on tensorflow": Entry(
        ("keras", "tensorflow"), lambda threads: Keras("tensorflow", threads), quick=False
    ),
    "keras on torch": Entry(("keras", "torch"), lambda threads: Keras("torch", threads), quick=False),
    "tensorflow": Entry(("tensorflow",), Tensorflow),
    "mkl_random": Entry(("mkl_random",), lambda _: MklRandom(), quick=False),
}
