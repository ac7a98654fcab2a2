"""Parameters that DeepSpeed and Megatron have split, by stand-ins that have the same attributes."""

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
