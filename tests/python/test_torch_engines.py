"""Parameters that DeepSpeed and Megatron have split hold the parts of those of one process.

Stand-ins with the attributes of these libraries always run, the libraries where they are installed.
"""

import enum
import sys
import types

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

import fastinit.torch  # noqa: E402


class Status(enum.Enum):
    AVAILABLE = 1
    NOT_AVAILABLE = 2
    INFLIGHT = 3


class Group:
    def __init__(self, rank, size):
        self._rank, self._size = rank, size

    def rank(self):
        return self._rank

    def size(self):
        return self._size


class Column(torch.nn.Module):
    """As `ColumnParallelLinear` of Megatron."""

    def __init__(self, rank, size, stride=1, **attributes):
        super().__init__()
        self.tp_group = Group(rank, size)
        self.output_size, self.output_size_per_partition = 12, 12 // size
        self.weight = torch.nn.Parameter(torch.full((12 // size, 5), torch.nan))
        attributes = {
            "tensor_model_parallel": True,
            "partition_dim": 0,
            "partition_stride": stride,
            **attributes,
        }
        vars(self.weight).update(attributes)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("rule", ["he_normal", "orthogonal", "glorot_uniform", "random_normal"])
def test_tensor_parallel(size, stride, rule):
    whole = torch.nn.ParameterDict({"weight": torch.nn.Parameter(torch.empty(12, 5))})
    fastinit.torch.initialize(whole, 3, {"weight": rule})
    for rank in range(size):
        layer = Column(rank, size, stride)
        parameter = layer.weight
        report = fastinit.torch.initialize(layer, 3, {"weight": rule})
        assert layer.weight is parameter
        assert report["weight"].shape == (12, 5)
        pieces = whole["weight"].chunk(size * stride)[rank::size]
        assert torch.equal(parameter, torch.cat(pieces))


def test_not_initialized():
    with pytest.warns(UserWarning, match="weight"):
        report = fastinit.torch.initialize(Column(0, 2))
    assert report.uninitialized == ("weight",)


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({"partition_dim": -1}, id="no dimension"),
        pytest.param({"partition_dim": 2}, id="dimension"),
        pytest.param({"partition_stride": 4}, id="stride"),
        pytest.param({"tensor_model_parallel": False}, id="no attributes"),
        pytest.param({"allreduce": False}, id="experts"),
        pytest.param({"_z3_optimizer": object()}, id="optimizer"),
    ],
)
def test_refused(attributes):
    layer = Column(0, 2, **attributes)
    with pytest.raises(ValueError, match="weight: "):
        fastinit.torch.initialize(layer, rules={"weight": "he_normal"})
    assert layer.weight.isnan().all()


def test_unknown_group():
    layer = Column(0, 2)
    layer.tp_group = None
    with pytest.raises(ValueError, match="process group is not known"):
        fastinit.torch.initialize(layer, rules={"weight": "he_normal"})
    assert layer.weight.isnan().all()


@pytest.mark.parametrize(
    ("rank", "count"), [(rank, count) for count in (1, 2, 3, 7) for rank in range(count)]
)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 6), (3, 1, 5), (2, 3, 4, 3)], ids=str)
def test_zero(monkeypatch, shape, rank, count):
    monkeypatch.setattr(torch.distributed, "get_rank", lambda _: rank)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda _: count)
    whole = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.empty(shape))})
    fastinit.torch.initialize(whole, 3, {"w": "random_normal"})
    flat = whole["w"].detach().flatten()
    parameter = torch.nn.Parameter(torch.empty(0))
    step = -(-flat.numel() // count)
    held = torch.full((step,), torch.nan)
    held.ds_numel, held.status = step, Status.AVAILABLE
    vars(parameter).update(
        ds_id=0, ds_shape=torch.Size(shape), ds_numel=flat.numel(), ds_tensor=held,
        ds_secondary_tensor=None, ds_status=Status.NOT_AVAILABLE, ds_process_group=None,
    )  # fmt: skip
    model = torch.nn.ParameterDict({"w": parameter})
    report = fastinit.torch.initialize(model, 3, {"w": "random_normal"})
    assert report["w"].shape == shape
    assert model["w"] is parameter
    assert parameter.shape == (0,)
    want = flat[rank * step : (rank + 1) * step]
    assert torch.equal(held[: len(want)], want)
    assert held[len(want) :].isnan().all()


def test_names(monkeypatch):
    class MegatronModule(torch.nn.Module):
        def __init__(self, **attributes):
            super().__init__()
            for name, value in attributes.items():
                setattr(self, name, value)

    module = types.SimpleNamespace(MegatronModule=MegatronModule)
    monkeypatch.setitem(sys.modules, "megatron.core.transformer.module", module)

    def stage(numbers, **attributes):
        layers = [MegatronModule(layer_number=n, linear=torch.nn.Linear(3, 3)) for n in numbers]
        return MegatronModule(layers=torch.nn.ModuleList(layers), **attributes)

    whole, second = stage([1, 2, 3]), stage([2, 3])
    fastinit.torch.initialize(whole, 5)
    report = fastinit.torch.initialize(second, 5)
    assert [row.name for row in report.rows][::2] == ["layers.1.linear.weight", "layers.2.linear.weight"]
    for one, other in zip(whole.layers[1:], second.layers, strict=True):
        assert torch.equal(one.linear.weight, other.linear.weight)
    last = stage(
        [3],
        pre_process=False,
        share_embeddings_and_output_weights=True,
        output_layer=torch.nn.Linear(3, 4, bias=False),
    )
    report = fastinit.torch.initialize(last, 5)
    assert report.rows[-1].name == "embedding.word_embeddings.weight"


# The libraries themselves


def _with_deepspeed(rank, world, path):
    import deepspeed

    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    deepspeed.init_distributed("gloo", verbose=False)
    config = {"train_batch_size": world, "zero_optimization": {"stage": 3}}
    with deepspeed.zero.Init(config_dict_or_path=config, dtype=torch.float32):
        model = torch.nn.Sequential(
            torch.nn.Linear(7, 5), torch.nn.Conv2d(3, 4, 3), torch.nn.LayerNorm(5), torch.nn.Embedding(6, 5)
        )
    report = fastinit.torch.initialize(model, 5, {"1.weight": "orthogonal"})
    whole = torch.nn.Sequential(
        torch.nn.Linear(7, 5), torch.nn.Conv2d(3, 4, 3), torch.nn.LayerNorm(5), torch.nn.Embedding(6, 5)
    )
    expected = fastinit.torch.initialize(whole, 5, {"1.weight": "orthogonal"})
    assert [row.shape for row in report.rows] == [row.shape for row in expected.rows]
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, whole.get_parameter(name)), name
    torch.distributed.destroy_process_group()


def test_deepspeed(tmp_path, monkeypatch):
    pytest.importorskip("deepspeed")
    for name, value in {"LOCAL_RANK": "0", "WORLD_SIZE": "2", "DS_ACCELERATOR": "cpu"}.items():
        monkeypatch.setenv(name, value)
    torch.multiprocessing.spawn(_with_deepspeed, (2, tmp_path / "store"), nprocs=2)


def _with_megatron(rank, world, path):
    from megatron.core import ModelParallelConfig, parallel_state
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear, VocabParallelEmbedding

    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    parallel_state.initialize_model_parallel(world)
    config = ModelParallelConfig(
        tensor_model_parallel_size=world, use_cpu_initialization=True, perform_initialization=True
    )

    def method(weight):
        return torch.nn.init.normal_(weight)

    options = {"config": config, "init_method": method}
    model = torch.nn.ModuleDict(
        {
            "column": ColumnParallelLinear(8, 16, bias=True, gather_output=False, stride=2, **options),
            "row": RowParallelLinear(
                16, 8, bias=True, input_is_parallel=True, skip_bias_add=False, **options
            ),
            "words": VocabParallelEmbedding(24, 8, **options),
        }
    )
    rules = {"*.weight": "he_normal", "*.bias": "random_uniform"}
    report = fastinit.torch.initialize(model, 5, rules)
    shapes = {"column.weight": (16, 8), "column.bias": (16,), "row.weight": (8, 16), "row.bias": (8,)}
    for name, shape in {**shapes, "words.weight": (24, 8)}.items():
        assert report[name].shape == shape
        whole = torch.from_numpy(report[name].initializer(shape, seed=5, stream=name))
        parameter = model.get_parameter(name)
        if getattr(parameter, "tensor_model_parallel", False):
            stride = parameter.partition_stride
            pieces = whole.chunk(world * stride, parameter.partition_dim)
            whole = torch.cat(pieces[rank::world], parameter.partition_dim)
        assert torch.equal(parameter, whole), name
    torch.distributed.destroy_process_group()


def test_megatron(tmp_path):
    pytest.importorskip("megatron.core")
    torch.multiprocessing.spawn(_with_megatron, (2, tmp_path / "store"), nprocs=2)
