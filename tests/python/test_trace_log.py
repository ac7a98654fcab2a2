"""`TraceLog` in loops and in Lightning; in `fit` of Keras, it is tested by `trace_keras_checks.py`."""

import importlib.util
import json

import pytest

import fastinit

torch = pytest.importorskip("torch")
nn = torch.nn


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


class Writer:
    def __init__(self):
        self.scalars, self.texts = {}, []

    def add_scalar(self, name, value, step):
        self.scalars.setdefault(name, []).append((step, value))

    def add_text(self, name, text, step):
        self.texts.append((name, text, step))


def test_every_few_steps(tmp_path, capsys):
    writer, net = Writer(), model()
    log = fastinit.TraceLog(16, every=3, to=writer, learning_rate=0.5)
    found = [log(net, step) for step in range(7)]
    assert [trace is None for trace in found] == [False, True, True, False, True, True, False]
    assert log.last == fastinit.trace(net, 16, learning_rate=0.5)
    assert [step for step, _ in writer.scalars["trace/gradient_std/0"]] == [0, 3, 6]
    assert writer.scalars["trace/std/2"][0] == (0, log.last["2"].std)
    assert "trace/saturated/0" not in writer.scalars
    assert writer.texts[0] == ("trace", "good", 0)

    file = tmp_path / "trace.jsonl"
    log = fastinit.TraceLog(16, every=2, to=file)
    for step in range(4):
        log(net, step)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [(line["step"], line["verdict"]) for line in lines] == [(0, "good"), (2, "good")]
    assert lines[0]["rows"][0]["name"] == "0"

    fastinit.TraceLog(16)(net, 0)
    assert capsys.readouterr().out.startswith("step 0: Sequential (torch), 16 samples")


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="every"):
        fastinit.TraceLog(16, every=0)
    for name in ("lossy", "model"):  # At the start, and not at the first step.
        with pytest.raises(TypeError, match=f"TraceLog has no option '{name}'"):
            fastinit.TraceLog(16, **{name: 3})
    with pytest.raises(TypeError, match="to must be"):
        fastinit.TraceLog(16, to=3)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fastinit.TraceLog(16, to=tmp_path / "nowhere" / "x.jsonl")
    with pytest.raises(ValueError, match="step"):
        fastinit.TraceLog(16)(model(), -1)
    if not any(map(importlib.util.find_spec, ("lightning", "pytorch_lightning"))):
        with pytest.raises(ImportError, match="lightning"):
            fastinit.TraceLog(16).lightning()


@pytest.mark.filterwarnings("ignore")
def test_lightning():
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = model()

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            return self(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    steps = []
    log = fastinit.TraceLog(16, every=5, to=lambda step, _: steps.append(step))
    log.batch = torch.randn(16, 8)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", accumulate_grad_batches=2, callbacks=[log.lightning()], **options
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.randn(64, 8), batch_size=4))
    assert steps == [0, 5, 10, 15]
