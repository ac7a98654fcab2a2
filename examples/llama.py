"""Initialize a 1.2-billion-parameter Llama-style model, and show what was made and how fast.

Run it with ``make demo``, or ``python examples/llama.py --help`` for the options. The shapes are those of
Llama 3.2 1B. Each parameter is keyed by its name: it has the same bits whichever other parameters are made,
on any machine and with any number of threads. The digest of the model, printed at the end, lets two machines
compare.

The calls are timed one by one, in fresh memory, as in real use. Measuring, the digest and the peers are
outside that time.
"""

import argparse
import hashlib
import importlib
import importlib.util
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import fastinit

Array = np.ndarray[Any, np.dtype[Any]]

VOCABULARY = 128_256
HIDDEN = 2_048
MLP = 8_192
LAYERS = 16
QUERY_HEADS, KEY_VALUE_HEADS, HEAD = 32, 8, 64

CHUNK = 1 << 20  # elements measured at a time, so that no temporary grows with the tensor
PEER_BUDGET = 20.0  # seconds after which a peer makes no further layer; the rest is scaled


# --------------------------------------------------------------------------------------- the model


@dataclass(frozen=True)
class Parameter:
    """One tensor of the model."""

    name: str
    shape: tuple[int, ...]
    label: str  # of the initializer
    initializer: fastinit.Initializer

    @property
    def kind(self) -> str:
        """The part of the name that is common to all layers: the row of the table."""
        parts = self.name.removesuffix(".weight").split(".")
        return "norms" if "norm" in parts[-1] else parts[-1]

    @property
    def expected(self) -> Any:
        """The distribution of its elements."""
        return self.initializer.check(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def llama(layers: int) -> Iterator[Parameter]:
    """Yield the parameters in the order of a checkpoint; the output layer is tied to the embedding."""
    residual = 0.02 / math.sqrt(2 * LAYERS)  # outputs into the residual stream shrink with depth (GPT-2)
    embedding = "normal(0.02)", fastinit.RandomNormal(stddev=0.02)
    attention = (
        "truncated_normal(0.02, 3 sigma)",
        fastinit.TruncatedNormal(stddev=0.02, lower=-3.0, upper=3.0),
    )
    # Kernels are (out, in), as in the published checkpoints.
    gate = "lecun_normal", fastinit.LecunNormal(in_axis=1, out_axis=0)
    output = "normal(0.02 / sqrt(32))", fastinit.RandomNormal(stddev=residual)
    norm = "ones", fastinit.Ones()

    yield Parameter("model.embed_tokens.weight", (VOCABULARY, HIDDEN), *embedding)
    query, key_value = QUERY_HEADS * HEAD, KEY_VALUE_HEADS * HEAD
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        yield Parameter(f"{prefix}.self_attn.q_proj.weight", (query, HIDDEN), *attention)
        yield Parameter(f"{prefix}.self_attn.k_proj.weight", (key_value, HIDDEN), *attention)
        yield Parameter(f"{prefix}.self_attn.v_proj.weight", (key_value, HIDDEN), *attention)
        yield Parameter(f"{prefix}.self_attn.o_proj.weight", (HIDDEN, query), *output)
        yield Parameter(f"{prefix}.mlp.gate_proj.weight", (MLP, HIDDEN), *gate)
        yield Parameter(f"{prefix}.mlp.up_proj.weight", (MLP, HIDDEN), *gate)
        yield Parameter(f"{prefix}.mlp.down_proj.weight", (HIDDEN, MLP), *output)
        yield Parameter(f"{prefix}.input_layernorm.weight", (HIDDEN,), *norm)
        yield Parameter(f"{prefix}.post_attention_layernorm.weight", (HIDDEN,), *norm)
    yield Parameter("model.norm.weight", (HIDDEN,), *norm)


# -------------------------------------------------------------------------------- making, measuring


class Progress:
    """A progress bar on standard error: redrawn on a terminal, a line each quarter in a log."""

    WIDTH = 30

    def __init__(self, title: str, total: int) -> None:
        """Begin a bar that is full after `total` units."""
        self.title, self.total, self.done = title, total, 0
        self.terminal = sys.stderr.isatty()
        self.last = 0.0

    def advance(self, units: int, note: str = "") -> None:
        """Count `units` more, and show it where it can be seen."""
        before, self.done = self.done, self.done + units
        share = self.done / self.total
        finished = self.done >= self.total
        if self.terminal:
            now = time.perf_counter()
            if now - self.last > 0.05 or finished:
                self.last = now
                bar = ("#" * int(share * self.WIDTH)).ljust(self.WIDTH, ".")
                text = f"{self.title:<10} [{bar}] {share:4.0%}  {'' if finished else note}"
                print(f"\r{text:<100.100}", end="\n" if finished else "", file=sys.stderr, flush=True)
        elif int(4 * share) > int(4 * before / self.total):
            print(f"{self.title}: {share:.0%}", file=sys.stderr, flush=True)


@dataclass
class Made:
    """What was measured of one parameter."""

    parameter: Parameter
    seconds: float
    count: int = 0
    total: float = 0.0
    squares: float = 0.0


def make(
    parameters: list[Parameter], seed: int, dtype: str, threads: int
) -> tuple[dict[str, Array], list[Made]]:
    """Make every parameter in fresh memory, timing each call."""
    arrays: dict[str, Array] = {}
    made: list[Made] = []
    progress = Progress("making", sum(p.size for p in parameters))
    for p in parameters:
        progress.advance(0, p.name)
        start = time.perf_counter()
        array = p.initializer(p.shape, seed=seed, stream=p.name, dtype=dtype, threads=threads)
        made.append(Made(p, time.perf_counter() - start))
        arrays[p.name] = array
        progress.advance(p.size, p.name)
    return arrays, made


def measure(arrays: dict[str, Array], made: list[Made]) -> str:
    """Add up each parameter in float64, chunk by chunk, and return the digest of the whole model."""
    digest = hashlib.blake2b(digest_size=16)
    progress = Progress("measuring", sum(m.parameter.size for m in made))
    for m in made:
        flat = arrays[m.parameter.name].reshape(-1)
        digest.update(m.parameter.name.encode())
        for start in range(0, flat.size, CHUNK):
            chunk = flat[start : start + CHUNK]
            digest.update(chunk.view(np.uint8).data)
            values = chunk.astype(np.float32).astype(np.float64)
            m.count += values.size
            m.total += float(values.sum())
            m.squares += float(values @ values)
            progress.advance(values.size, m.parameter.name)
    return digest.hexdigest()


def slices_equal_whole(whole: Array, parameter: Parameter, seed: int, dtype: str, threads: int) -> bool:
    """Make `parameter` again as uneven slices, with another thread count, and compare all bits."""
    rows = parameter.shape[0]
    edges = [0, 1, rows // 3, rows // 2 + 7, rows]
    for begin, end in pairwise(edges):
        part = parameter.initializer(
            parameter.shape,
            seed=seed,
            stream=parameter.name,
            dtype=dtype,
            threads=threads,
            index=(slice(begin, end),),
        )
        if part.tobytes() != whole[begin:end].tobytes():
            return False
    return True


# ------------------------------------------------------------------------------ what bounds the speed


@dataclass(frozen=True)
class Ceilings:
    """How fast this machine stores a constant, in bytes per second: no generator can be faster."""

    resident: float
    fresh: float


def store_only(parameters: list[Parameter], dtype: str, threads: int, rounds: int = 3) -> Ceilings:
    """Measure both ceilings, each as the fastest of our and NumPy's fills with a constant."""
    buffer = fastinit.ones((VOCABULARY, HIDDEN), dtype=dtype, threads=threads)

    def own(shape: tuple[int, ...], out: Array | None = None) -> Array:
        return fastinit.ones(shape, dtype=dtype, threads=threads, out=out)

    def numpys(shape: tuple[int, ...], out: Array | None = None) -> Array:
        if out is None:
            return np.full(shape, 1, array_dtype)
        out.fill(1)
        return out

    array_dtype, resident, fresh = buffer.dtype, 0.0, 0.0
    for fill in [own, numpys] * rounds:
        start = time.perf_counter()
        fill(buffer.shape, buffer)
        resident = max(resident, buffer.nbytes / (time.perf_counter() - start))
    del buffer
    # The whole model, kept as a user keeps it: a smaller one would reuse memory.
    for fill in [own, numpys] * rounds:
        start = time.perf_counter()
        kept = [fill(p.shape) for p in parameters]
        seconds = time.perf_counter() - start
        fresh = max(fresh, sum(array.nbytes for array in kept) / seconds)
        del kept
    return Ceilings(resident, fresh)


# -------------------------------------------------------------------------------------------- peers


@dataclass(frozen=True)
class Peer:
    """Another library's way to make one parameter."""

    label: str
    make: Callable[[Parameter], Any]


def numpy_peer(seed: int, array_dtype: np.dtype[Any]) -> Peer:
    """NumPy: float32 normals, scaled in place, then cast. It has no truncated normal."""
    generator = np.random.default_rng(seed)

    def make_one(p: Parameter) -> Array:
        std = p.expected.std
        if std == 0.0:
            return np.ones(p.shape, array_dtype)
        values = generator.standard_normal(p.shape, dtype=np.float32)
        values *= std
        return values.astype(array_dtype, copy=False)

    return Peer("NumPy standard_normal, not truncated, one thread", make_one)


def torch_peers(seed: int, dtype: str, threads: int) -> list[Peer]:
    """PyTorch: the same distributions, and, since its truncated normal is slow, plain normals throughout."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch_dtype = getattr(torch, dtype)

    def same_distributions(p: Parameter) -> Any:
        tensor = torch.empty(p.shape, dtype=torch_dtype)
        expected = p.expected
        if expected.name == "constant":
            return torch.nn.init.ones_(tensor)
        std = expected.parameters["stddev"]  # before truncation
        if expected.name == "normal":
            return torch.nn.init.normal_(tensor, std=std)
        return torch.nn.init.trunc_normal_(tensor, std=std, a=expected.low, b=expected.high)

    def normals(p: Parameter) -> Any:
        tensor = torch.empty(p.shape, dtype=torch_dtype)
        std = p.expected.std
        return tensor.fill_(1.0) if std == 0.0 else tensor.normal_(0.0, std)

    return [
        Peer(f"torch {torch.__version__} nn.init, the same distributions", same_distributions),
        Peer(f"torch {torch.__version__} normal_, not truncated", normals),
    ]


@dataclass(frozen=True)
class PeerTime:
    """What a peer took, or would take, for the whole model."""

    label: str
    seconds: float
    layers_made: int
    layers: int

    @property
    def note(self) -> str:
        """Say how much of the figure was measured."""
        if self.layers_made == self.layers:
            return "measured in full"
        return f"{self.layers_made} of {self.layers} layers measured, the others scaled"


def time_peer(peer: Peer, parameters: list[Parameter], layers: int) -> PeerTime:
    """Time a peer on the whole model, or on as many layers as fit in the budget."""
    by_layer: dict[str, list[Parameter]] = {}
    for p in parameters:
        by_layer.setdefault(p.name.split(".")[2] if ".layers." in p.name else "outside", []).append(p)

    kept: list[Any] = []  # a user keeps the model: no memory is reused
    outside = 0.0
    in_layers: list[float] = []
    progress = Progress(peer.label.split()[0], sum(p.size for p in parameters))
    for layer, members in by_layer.items():
        size = sum(p.size for p in members)
        if layer != "outside" and in_layers and outside + sum(in_layers) > PEER_BUDGET:
            progress.advance(size)
            continue
        start = time.perf_counter()
        kept.extend(peer.make(p) for p in members)
        seconds = time.perf_counter() - start
        if layer == "outside":
            outside = seconds
        else:
            in_layers.append(seconds)
        progress.advance(size, f"{peer.label}, {members[0].name}")
    total = outside + (statistics.mean(in_layers) * layers if in_layers else 0.0)
    return PeerTime(peer.label, total, len(in_layers), layers)


# ------------------------------------------------------------------------------------------- report


@dataclass(frozen=True)
class Row:
    """One line of the table: all parameters of a kind."""

    kind: str
    tensors: int
    shape: str
    initializer: str
    elements: int
    nbytes: int
    mean: float
    std: float
    target_mean: float
    target_std: float
    deviation: float  # the worse of mean and standard deviation, in standard errors
    seconds: float


def summarize(made: list[Made], itemsize: int) -> list[Row]:
    """Group the parameters by kind, in order of first appearance."""
    groups: dict[str, list[Made]] = {}
    for m in made:
        groups.setdefault(m.parameter.kind, []).append(m)
    rows = []
    for kind, members in groups.items():
        first = members[0].parameter
        expected = first.expected
        count = sum(m.count for m in members)
        mean = sum(m.total for m in members) / count
        # The means are 0, or exactly 1, so that nothing cancels here.
        variance = sum(m.squares for m in members) / count - mean * mean
        std = math.sqrt(max(variance, 0.0))
        if expected.std > 0.0:
            mean_error = expected.std / math.sqrt(count)
            std_error = expected.std / math.sqrt(2 * count)  # of a normal; a truncated one has less
            deviation = max(abs(mean - expected.mean) / mean_error, abs(std - expected.std) / std_error)
        else:
            deviation = 0.0 if (mean, std) == (expected.mean, 0.0) else math.inf
        rows.append(
            Row(
                kind,
                len(members),
                " x ".join(map(str, first.shape)),
                first.label,
                count,
                count * itemsize,
                mean,
                std,
                expected.mean,
                expected.std,
                deviation,
                sum(m.seconds for m in members),
            )
        )
    return rows


def print_table(rows: list[Row], ceilings: Ceilings) -> None:
    """Print what was made, against its target and against the ceilings."""
    print(
        f"{'parameters':<17}{'shape':>14}  {'initializer':<32}{'million':>8}"
        f"{'mean':>11}{'std':>11}{'target':>11}{'error':>7}{'seconds':>9}{'GB/s':>7}{'fresh':>7}{'resident':>9}"
    )

    def line(head: str, moments: str, elements: int, nbytes: int, seconds: float) -> str:
        rate = nbytes / seconds
        return (
            f"{head}{elements / 1e6:>8.1f}{moments}{seconds:>9.3f}{rate / 1e9:>7.2f}"
            f"{rate / ceilings.fresh:>7.2f}{rate / ceilings.resident:>9.2f}"
        )

    for r in rows:
        name = f"{r.tensors} x {r.kind}" if r.tensors > 1 else r.kind
        moments = f"{r.mean:>11.2e}{r.std:>11.7f}{r.target_std:>11.7f}{r.deviation:>7.1f}"
        print(line(f"{name:<17}{r.shape:>14}  {r.initializer:<32}", moments, r.elements, r.nbytes, r.seconds))
    elements, nbytes = sum(r.elements for r in rows), sum(r.nbytes for r in rows)
    print(line(f"{'the model':<65}", " " * 40, elements, nbytes, sum(r.seconds for r in rows)))


def print_ceilings(ceilings: Ceilings) -> None:
    """Say what the last columns of the table mean."""
    fresh, resident = ceilings.fresh / 1e9, ceilings.resident / 1e9
    print(f"""
error: the worse of mean and std against the target, in standard errors of a sample of that size.
fresh, resident: share of a store-only ceiling, the fastest of 3 fills with a constant by us and by NumPy:
  fresh     {fresh:6.2f} GB/s  the whole model as new arrays, by fastinit.ones() or numpy.full()
  resident  {resident:6.2f} GB/s  one array, the embedding's, over and over, by ones(out=) or ndarray.fill()
The model is made in fresh memory, where the system maps and clears each page before anything is stored.""")


def compare(
    parameters: list[Parameter], layers: int, seed: int, array_dtype: np.dtype[Any], threads: int, ours: float
) -> list[PeerTime]:
    """Time the peers that are here at the same job, and print them beside our seconds."""
    peers = [numpy_peer(seed, array_dtype)]
    has_torch = importlib.util.find_spec("torch") is not None
    if has_torch:
        peers += torch_peers(seed, array_dtype.name, threads)
    times = [time_peer(peer, parameters, layers) for peer in peers]
    print(f"\n{'the same job':<52}{'seconds':>9}{'times':>8}")
    for t in [PeerTime("fastinit", ours, layers, layers), *times]:
        print(f"{t.label:<52}{t.seconds:>9.2f}{t.seconds / ours:>8.1f}  {t.note}")
    if not has_torch:
        print("torch is not installed here.")
    return times


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32", "float64"])
    add("--threads", type=int, help="default: all that are available")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--layers", type=int, default=LAYERS, help="fewer make a shallower model (default: %(default)s)")
    add("--peers", action=argparse.BooleanOptionalAction, default=True, help="time NumPy and torch as well")
    add("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    arguments = parser.parse_args()
    if arguments.layers < 0:
        parser.error("--layers must not be negative")
    return arguments


def main() -> int:
    """Run the demo; return 0 if every parameter has its mean and std and the slices equal the whole."""
    arguments = parse_arguments()
    seed, dtype, layers = arguments.seed, arguments.dtype, arguments.layers
    info = fastinit.build_info()
    threads = arguments.threads or info["threads"]
    parameters = list(llama(layers))
    # The first use of a dtype may load a module, which is not to be measured.
    fastinit.random_normal(16, seed=seed, dtype=dtype)

    ceilings = store_only(parameters, dtype, threads)
    arrays, made = make(parameters, seed, dtype, threads)
    digest = measure(arrays, made)
    array_dtype = arrays["model.norm.weight"].dtype
    rows = summarize(made, array_dtype.itemsize)
    seconds = sum(r.seconds for r in rows)

    print(f"\nfastinit {info['version']}, level {info['simd']}, {threads} threads, {dtype}, seed {seed}\n")
    print_table(rows, ceilings)
    print_ceilings(ceilings)

    probe = next((p for p in reversed(parameters) if len(p.shape) == 2), parameters[0])
    other = 1 if threads > 1 else 2
    equal = slices_equal_whole(arrays[probe.name], probe, seed, dtype, other)
    print(f"\n{probe.name} again, in 4 slices, threads={other}: {'equal' if equal else 'DIFFERENT'}")
    print(
        f"digest of the model (BLAKE2b of names and bytes, stream version {info['stream_version']}): {digest}"
    )
    follows = all(r.deviation < 5.0 for r in rows)
    if not follows:
        print("A parameter is more than 5 standard errors from its target.")

    del arrays  # the peers need the memory
    peer_times = compare(parameters, layers, seed, array_dtype, threads, seconds) if arguments.peers else []

    if arguments.json:
        report = {
            "build": info,
            "dtype": dtype,
            "threads": threads,
            "seed": seed,
            "layers": layers,
            "store_only_bytes_per_second": asdict(ceilings),
            "rows": [asdict(r) for r in rows],
            "seconds": seconds,
            "digest": digest,
            "slices_equal_whole": equal,
            "peers": [{**asdict(t), "note": t.note} for t in peer_times],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if equal and follows else 1


if __name__ == "__main__":
    sys.exit(main())
