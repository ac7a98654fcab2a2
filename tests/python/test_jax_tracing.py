"""`fastinit.jax` in programs: the bits of eager calls, on any number of devices and processes."""

import json
import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("ml_dtypes")

import jax.numpy as jnp  # noqa: E402
from conftest import INITIALIZERS  # noqa: E402

import fastinit  # noqa: E402
import fastinit.jax as fj  # noqa: E402
from fastinit.jax import _keys, _primitive  # noqa: E402

KEY = jax.random.key(7)
KEYS = jax.random.split(KEY, 6)


def init(key):
    return fj.he_normal()(key, (8, 6))


EAGER = init(KEY)
EACH = np.stack([np.asarray(init(key)) for key in KEYS])


def test_the_handler_of_xla_is_used():
    assert _primitive._is_registered()
    print("JAX", jax.__version__)


# Golden values: the mapping is part of the contract. The last two are BLAKE2b hashes of the words as bytes.
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([0, 7], (7, 0)),
        ([0xDEADBEEF, 0x01234567], (0xDEADBEEF01234567, 0)),
        ([0, 7, 0, 7], (7, 0)),
        ([1, 2, 3, 4], (1 << 32 | 2, 3 << 32 | 4)),
        ([1, 2, 3], (0x9E3D6A5F74569CD6, 0)),
        ([5], (0x07696761392066DA, 0)),
    ],
)
def test_keys_are_seeds_and_streams(words, expected):
    seed, stream = _keys.seed_and_stream(np.array(words, np.uint32))
    assert (seed, stream) == expected
    # The handler finds the same.
    parameters = {"initializer": fastinit.RandomNormal(), "shape": (9,), "dtype": np.dtype("float32")}
    program = jax.jit(lambda words: _primitive._fill.bind(words, **parameters, sharding=None))
    found = program(jnp.array(words, jnp.uint32))
    assert np.array_equal(found, fastinit.random_normal(9, seed=seed, stream=stream))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    ("initializer", "shape"),
    [
        *INITIALIZERS,
        (fastinit.RandomUniform(), ()),
        (fastinit.HeNormal(), (0, 3)),
        (fastinit.RandomNormal(), (3, 0)),
    ],
    ids=lambda value: str(value) if isinstance(value, tuple) else type(value).__name__,
)
def test_every_initializer_in_a_program(initializer, shape, dtype):
    found = jax.jit(lambda key: fj.sample(initializer, key, shape, dtype))(KEY)
    assert np.array_equal(found, initializer(shape, seed=7, dtype=dtype))


TRANSFORMED = {
    "jit": lambda: jax.jit(init)(KEY),
    "jit in jit": lambda: jax.jit(lambda key: jax.jit(init)(key))(KEY),
    "closed over": lambda: jax.jit(lambda: init(KEY))(),
    "legacy": lambda: jax.jit(init)(jax.random.PRNGKey(7)),
    "rbg": lambda: jax.jit(init)(jax.random.key(7, impl="rbg")),
    "unsafe_rbg": lambda: init(jax.random.key(7, impl="unsafe_rbg")),
    "remat": lambda: jax.jit(jax.checkpoint(init))(KEY),
    "grad": lambda: jax.grad(lambda x: (x * init(KEY)).sum())(jnp.ones((8, 6))),
    "grad in jit": lambda: jax.jit(jax.grad(lambda x: (x * init(KEY)).sum()))(jnp.ones((8, 6))),
    "cond": lambda: jax.lax.cond(True, init, lambda _: jnp.zeros((8, 6)), KEY),
    "compile time": lambda: jax.jit(lambda: jnp.asarray(compile_time()))(),
}
BATCHED = {
    "vmap": lambda: jax.vmap(init)(KEYS),
    "jit of vmap": lambda: jax.jit(jax.vmap(init))(KEYS),
    "vmap of jit": lambda: jax.vmap(jax.jit(init))(KEYS),
    "vmap along another axis": lambda: jnp.moveaxis(jax.vmap(init, out_axes=2)(KEYS), 2, 0),
    "nested vmap": lambda: jax.vmap(jax.vmap(init))(KEYS.reshape(2, 3)).reshape(6, 8, 6),
    "scan": lambda: jax.lax.scan(lambda carry, key: (carry, init(key)), 0, KEYS)[1],
    "map": lambda: jax.lax.map(init, KEYS),
}


def compile_time():
    with jax.ensure_compile_time_eval():
        return init(KEY)


@pytest.mark.parametrize("callback", [False, True], ids=["handler", "callback"])
@pytest.mark.parametrize("name", [*TRANSFORMED, *BATCHED])
def test_transformations_do_not_change_the_bits(name, callback, monkeypatch):
    if callback:  # as on other platforms
        jax.clear_caches()
        monkeypatch.setattr(_primitive, "_is_registered", lambda: False)
    if name in TRANSFORMED:
        assert np.array_equal(TRANSFORMED[name](), EAGER)
    else:
        assert np.array_equal(BATCHED[name](), EACH)
    if callback:
        jax.clear_caches()


def test_programs_have_no_constants_and_shapes_cost_no_fill(monkeypatch):
    lowered = jax.jit(lambda: fj.normal()(KEY, (1000, 1000))).lower().as_text()
    assert len(lowered) < 2000
    monkeypatch.setattr(fastinit.Initializer, "__call__", lambda *_, **__: pytest.fail("filled"))
    assert jax.eval_shape(init, KEY).shape == (8, 6)
    assert jax.eval_shape(jax.vmap(init), KEYS).shape == (6, 8, 6)


def test_results_share_the_memory_that_was_filled(monkeypatch):
    made = []
    original = fastinit.Initializer.__call__

    def remember(self, shape, **options):
        made.append(original(self, shape, **options))
        return made[-1]

    monkeypatch.setattr(fastinit.Initializer, "__call__", remember)
    for dtype in (jnp.float32, jnp.bfloat16):
        result = fj.normal()(KEY, (100, 100), dtype)
        assert result.unsafe_buffer_pointer() == made[-1].ctypes.data
        assert not made[-1].flags.writeable


def test_threads():
    program = jax.jit(lambda key: fj.normal()(key, (300, 300)))
    expected = [np.asarray(fj.normal()(key, (300, 300))) for key in KEYS]
    found = [None] * 24

    def run(place):
        found[place] = np.asarray(program(KEYS[place % 6]))

    threads = [threading.Thread(target=run, args=[place]) for place in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, expected[place % 6]) for place, one in enumerate(found))


@pytest.mark.parametrize(
    ("words", "call", "message"),
    [
        (
            [0, 7],
            [99, 1, 3, 0, 0],
            "the program is for stream version 99, this is fastinit of stream version",
        ),
        ([0, 7], [fastinit.STREAM_VERSION, 1, 3, 77], "malformed call of fastinit"),
        ([0, 7], [fastinit.STREAM_VERSION], "malformed call of fastinit"),
        ([0, 7], [fastinit.STREAM_VERSION, 1, 3, 0, 0, 0], "malformed call of fastinit"),
        ([0, 7], [fastinit.STREAM_VERSION, 1, 3, *[10] * 10**5], "malformed call of fastinit"),
        ([0, 7], [fastinit.STREAM_VERSION, 2, 3, 3, 0, 0], "malformed call of fastinit"),
        ([0, 7], [fastinit.STREAM_VERSION, 1, 3, 3, 0, 0], "stddev must"),
        ([0, 7], [fastinit.STREAM_VERSION, 2**62, 3], "malformed call of fastinit"),
    ],
)
def test_wrong_calls_of_the_handler_are_errors(words, call, message):
    assert _primitive._is_registered()
    wrong = jax.ffi.ffi_call("fastinit", jax.ShapeDtypeStruct((3,), jnp.float32))
    with pytest.raises(Exception, match=message):
        jax.block_until_ready(wrong(jnp.array(words, jnp.uint32), call=np.array(call, np.int64)))


def test_exported_programs():
    from jax import export

    def init(key):
        return fj.he_normal()(key, (64, 128))

    key = jax.random.key(7)
    with pytest.raises(ValueError, match="custom calls"):
        export.export(jax.jit(init))(key)
    allowed = [export.DisabledSafetyCheck.custom_call("fastinit")]
    exported = export.export(jax.jit(init), disabled_checks=allowed)(key)
    assert np.array_equal(exported.call(key), fastinit.he_normal((64, 128), seed=7))

    def forward(weights, x):
        abstract = jax.eval_shape(init, jax.random.key(0))
        return x @ weights.astype(abstract.dtype)

    program = export.export(jax.jit(forward))(init(key), jnp.ones((2, 64)))
    assert "fastinit" not in program.mlir_module()


def test_wrong_samples():
    with pytest.raises(ValueError, match="identity needs"):
        fj.sample(fastinit.Identity(), KEY, (3,))
    for wrong in (2.5, True, np.True_):
        with pytest.raises(TypeError, match=r"shape\[1\] must be an int"):
            fj.sample(fastinit.Zeros(), KEY, (3, wrong))
    with pytest.raises(ValueError, match=r"sample takes one key, got an array of shape \(6,\)"):
        fj.sample(fastinit.RandomNormal(), KEYS, (3,))


MESH = """
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import fastinit, fastinit.jax as fj

key, keys = jax.random.key(7), jax.random.split(jax.random.key(7), 4)
init = lambda key: fj.he_normal()(key, (8, 6))
whole = fj.orthogonal()
expected, each = init(key), [np.asarray(init(key)) for key in keys]
COLLECTIVES = "all-gather", "all-reduce", "collective-permute", "all-to-all"

def local_shapes(program, *arguments):
    text = program.lower(*arguments).compile().as_text()
    assert not any(word in text for word in COLLECTIVES), text
    return [line.split("f32")[1].split("{")[0] for line in text.splitlines() if
    'custom_call_target="fastinit"' in line]

for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind, kind))
    for spec, shape in ((P("x", "y"), "[4,3]"), (P("y", None), "[4,6]"), (P(("x", "y"), None), "[2,6]"),
    (P(None, "x"), "[8,3]"), (P(), "[8,6]")):
        sharding = NamedSharding(mesh, spec)
        program = jax.jit(init, out_shardings=sharding)
        made = program(key)
        assert made.sharding.is_equivalent_to(sharding, 2), spec
        assert np.array_equal(made, expected), spec
        assert local_shapes(program, key) == [shape], spec
        eager = fj.sample(fastinit.HeNormal(), key, (8, 6), out_sharding=sharding)
        assert np.array_equal(eager, expected) and eager.sharding.is_equivalent_to(sharding, 2)
        with jax.set_mesh(mesh):
            program = jax.jit(lambda key: fj.sample(fastinit.HeNormal(), key, (8, 6), out_sharding=sharding))
            assert np.array_equal(program(key), expected), (kind, spec)
            assert local_shapes(program, key) == [shape], (kind, spec)
    sharding = NamedSharding(mesh, P("x", "y"))
    made = jax.jit(lambda key: whole(key, (8, 6)), out_shardings=sharding)(key)
    assert np.array_equal(made, whole(key, (8, 6)))
    batched = jax.jit(jax.vmap(init), out_shardings=NamedSharding(mesh, P("x", "y", None)))(keys)
    assert np.array_equal(batched, each)
    scalar = jax.jit(lambda key: fj.uniform()(key, ()), out_shardings=NamedSharding(mesh, P()))(key)
    assert np.array_equal(scalar, fj.uniform()(key, ()))

line = jax.make_mesh((4,), ("z",), axis_types=(AxisType.Auto,))
for size in (3, 5, 7):
    uneven = NamedSharding(line, P("z"))
    made = lambda key: fj.normal()(key, (size,))
    split = jax.jit(lambda key: jax.lax.with_sharding_constraint(made(key), uneven) * 1.0)
    assert np.array_equal(split(key), made(key)), size

place = jax.device_put(keys, NamedSharding(line, P("z")))
mapped = jax.shard_map(lambda key: init(key[0])[None], mesh=line, in_specs=P("z"), out_specs=P("z"))
assert np.array_equal(jax.jit(mapped)(place), each)
on_others = jax.device_put(key, jax.devices()[2])
assert np.array_equal(jax.jit(init)(on_others), expected)
with jax.default_device(jax.devices()[1]):
    assert init(key).devices() == {jax.devices()[1]}
print("same")
"""


def test_four_devices(python):
    assert python(MESH, timeout=200, XLA_FLAGS="--xla_force_host_platform_device_count=4") == "same\n"


CACHED = """
import sys
import jax, numpy as np
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import fastinit, fastinit.jax as fj
made = jax.jit(lambda key: fj.he_normal()(key, (8, 6)))(jax.random.key(7))
assert np.array_equal(made, fastinit.he_normal((8, 6), seed=7))
"""


def test_programs_can_be_stored(tmp_path):
    for _ in range(2):
        subprocess.run([sys.executable, "-W", "ignore", "-c", CACHED, str(tmp_path)], check=True, timeout=100)
    assert any(tmp_path.iterdir())


PROCESS = """
import json, sys
import jax, numpy as np
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from jax.sharding import NamedSharding, PartitionSpec as P
import fastinit, fastinit.jax as fj

mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
sharding = NamedSharding(mesh, P(None, "x"))
key = jax.random.key(7)
made = [
    jax.jit(lambda key: fj.he_normal()(key, (6, 8)), out_shardings=sharding)(key),
    fj.initialize({"w": jax.ShapeDtypeStruct((6, 8), "float32")}, seed=7, rules={"w": "he_normal"},
    shardings=sharding)[0]["w"],
]
expected = [fastinit.he_normal((6, 8), seed=7), fastinit.he_normal((6, 8), seed=7, stream="w")]
parts = 0
for array, whole in zip(made, expected):
    for shard in array.addressable_shards:
        assert np.array_equal(shard.data, whole[shard.index])
        parts += 1
print(parts)
"""


def test_two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", PROCESS, address]
    running = [
        subprocess.Popen(
            [*command, str(rank)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        for process in running:
            out, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors[-3000:]
            assert json.loads(out.splitlines()[-1]) == 4
    finally:
        for process in running:
            process.kill()
