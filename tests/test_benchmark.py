"""The benchmark's arithmetic, its networks, and whole runs at toy size."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.speed import BenchmarkError, run
from benchmarks.speed.machine import Quiet, matrix_product
from benchmarks.speed.networks import flops_of, random_model, shapes_of, unet_config
from benchmarks.speed.ours import Ours, Workload
from benchmarks.speed.results import summary, told
from benchmarks.speed.rounds import Spread, alternate, ratio
from benchmarks.speed.run import Request, run_benchmark
from benchmarks.speed.workers import Worker, WorkerError
from repaint_jax.checkpoints import load
from repaint_jax.checkpoints.parameters import abstract_model
from repaint_jax.loading import find_model
from repaint_jax.models import UNet
from repaint_jax.models.layers import Conv

SCRIPT = Path(__file__).parent.parent / "scripts" / "benchmark.py"


def request(**changes):
    toy = {
        "networks": ("adm",), "sizes": (8,), "batches": (1,), "widths": (32,),
        "dtypes": ("float32",), "schedule": (2, 1, 2), "rounds": 2, "peers": (),
        "max_seconds": 900.0,
    }  # fmt: skip
    return Request(**{**toy, **changes})


def row(**changes):
    """Two rounds of four calls for two pictures of 1 GFLOP each; all seconds chosen by hand."""
    measured = {
        "network": "adm", "size": 64, "batch": 2, "dtype": "float32", "calls": 4, "rounds": 2,
        "weights": 3_000_000, "flops": 1e9, "matrix": {"jax": 40e9, "torch": 50e9},
        "seconds": {"sampler": [0.42, 0.88], "progress": [0.44, 0.88], "forward": [0.4, 0.8],
                    "diffusers": [0.84, 0.88], "torch": [0.4, 1.6]},
        "first_seconds": {"sampler": 3.65, "progress": 0.1, "forward": 1.0,
                          "diffusers": 1.0, "torch": 1.0},
        "peak_memory": {"jax": 2_000_000_000, "torch": None}, "left_out": {},
        "cores_busy_elsewhere": 0.0,
    }  # fmt: skip
    return {**measured, **changes}


def test_the_figures_are_those_of_a_hand_calculation():
    figures = summary(row())
    # 0.42 s and 0.88 s for 4 calls: 105 and 220 ms, in the middle 162.5.
    np.testing.assert_allclose(figures["ms_per_call"]["sampler"], (105, 162.5, 220))
    np.testing.assert_allclose(figures["overhead"]["sampler"], (0.05, 0.075, 0.1), atol=1e-12)
    np.testing.assert_allclose(figures["times_as_fast"]["sampler / diffusers"], (1, 1.5, 2))
    np.testing.assert_allclose(figures["times_as_fast"]["forward / torch"], (1, 1.5, 2))
    assert set(figures["times_as_fast"]) == {
        "sampler / diffusers", "progress / diffusers", "forward / torch"
    }  # fmt: skip
    # The first round took 3.65 s, a later one 0.65.
    assert figures["compile_seconds"]["sampler"] == pytest.approx(3.0)
    assert figures["compile_seconds"]["progress"] == 0
    # 2 GFLOP in 0.15 s are 13.3 GFLOP/s, of 50.
    assert figures["share_of_matrix_rate"] == pytest.approx(2 / 0.15 / 50)
    assert figures["paper_seconds_per_picture"] == pytest.approx(2410 * 0.1625 / 2)


def test_a_slow_moment_of_the_machine_cancels_in_a_ratio():
    assert ratio([1.1, 11.0, 2.2], [1.0, 10.0, 2.0]) == pytest.approx((1.1, 1.1, 1.1))
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == (1.0, 2.5, 10.0)


def test_every_other_round_runs_backwards():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "abc"}
    names = [name for name, seconds in alternate(contestants, 3) if seconds >= 0]
    assert names == calls == list("abccbaabc")


def test_the_report_says_what_disturbed_it_and_what_is_missing():
    text = told(row(cores_busy_elsewhere=1.26, left_out={"torch_compiled": "no compiler"}))
    assert "other processes kept 1.3 cores busy" in text
    assert "the bare network in PyTorch, torch.compile: no compiler" in text
    assert "jax 2.00 GB, torch not known" in text
    assert "+7.5% (+5.0% to +10.0%)" in text
    assert "not quiet" not in told(row())


def test_other_processes_are_noticed_and_this_one_is_not():
    if not Path("/proc/stat").is_file():
        pytest.skip("only Linux tells")
    busy = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.8: pass"]
    quiet = Quiet()
    subprocess.run(busy, check=True)
    assert quiet.others() > 0.2


def test_the_network_of_64_pixels_is_the_known_one():
    graph, shapes = shapes_of(unet_config("adm", 64), "float32")
    assert sum(p.size for p in jax.tree.leaves(shapes)) == pytest.approx(25.118e6, rel=1e-4)
    # 17.7 GFLOP count products with the padding, which at 8x8 pixels are 16 % of all; XLA's do not.
    assert 0.95 * 17.7e9 < flops_of(graph, shapes, 64) < 17.7e9


def test_the_network_of_256_pixels_has_the_published_count_of_weights():
    _, shapes = shapes_of(unet_config("adm", 256), "float32")
    assert sum(p.size for p in jax.tree.leaves(shapes)) == pytest.approx(552.8e6, rel=1e-4)


def test_adm_is_guided_diffusions_network():
    """As many weights as the U-Net that is loaded from guided-diffusion's files."""
    reference = abstract_model(
        UNet,
        {"model_channels": 64, "channel_mult": (1, 2, 3, 4), "num_res_blocks": 2,
         "attention_resolutions": (4, 8), "num_head_channels": 64, "out_channels": 3},
    )  # fmt: skip
    _, shapes = shapes_of(unet_config("adm", 64), "float32")
    counts = [
        sum(p.size for p in jax.tree.leaves(state)) for state in (shapes, nnx.state(reference))
    ]
    assert counts[0] == counts[1]


def test_flops_are_two_a_product_without_those_of_the_padding(monkeypatch):
    convolution = abstract_model(Conv, {"in_channels": 3, "out_channels": 5})
    monkeypatch.setattr(Conv, "__call__", lambda self, x, t, call=Conv.__call__: call(self, x))
    count = flops_of(*nnx.split(convolution), 16)
    rows = 3 * 16 - 2  # the kernel's top row meets 15 rows of pixels, its middle 16, its bottom 15
    assert count == 2 * rows**2 * 3 * 5 + 16 * 16 * 5  # and the bias


def test_a_matrix_product_counts_its_operations():
    product, flops = matrix_product("float32", products=3)
    assert flops == 3 * 2 * 2048**3
    np.testing.assert_allclose(product()[:2, :2], np.full((2, 2), 1 / 2048), rtol=1e-4)


def test_weights_are_the_same_each_time_and_cast_to_what_computes():
    config = unet_config("adm", 8, (32,))
    one, other = (nnx.state(random_model(*shapes_of(config, "bfloat16"))) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert one["network"]["conv_in"]["kernel"].dtype == jnp.bfloat16
    assert one["network"]["down_blocks"][0]["resnets"][0]["norm1"]["scale"].dtype == jnp.float32


def command(name, work):
    """That of a contestant's process."""
    row = [f"--{name}={getattr(work, name)}" for name in ("network", "size", "dtype")]
    row += [f"--batches={work.batch}", "--widths=32", "--schedule=2/1/2", f"--only={name}"]
    return [sys.executable, "-m", "benchmarks.speed", *row]


def serving(body):
    """A process with these actions."""
    code = f"from benchmarks.speed.workers import serve\n{body}"
    return Worker([sys.executable, "-c", code])


def test_a_worker_answers_fails_in_a_line_and_ends():
    body = "import os\nserve({'sum': lambda a, b: print('a library') or a + b, 'bad': dict.pop, "
    worker = serving(body + "'end': lambda: os._exit(3)})")
    assert worker("sum", 2, 3) == 5
    with pytest.raises(WorkerError, match=r"^TypeError: .*pop"):
        worker("bad")
    assert worker("sum", 1, 1) == 2
    assert worker.processor_seconds > 0
    with pytest.raises(WorkerError, match="'end' has ended, status 3"):
        worker("end")
    with pytest.raises(WorkerError, match="'sum' has ended"):
        worker("sum", 1, 1)
    worker.close()


@pytest.mark.slow
def test_a_run_measures_everything_and_a_second_one_keeps_it(tmp_path, capsys):
    run_benchmark(request(), tmp_path, command)
    known = json.loads((tmp_path / "benchmark.json").read_text())
    (found,) = known["rows"]
    assert found["calls"] == 3
    assert set(found["seconds"]) == {"sampler", "progress", "forward"}
    assert all(len(rounds) == 2 for rounds in found["seconds"].values())
    assert 50e6 < found["peak_memory"]["jax"] < 5e9
    assert found["matrix"]["jax"] > 1e9
    assert found["summary"] == json.loads(json.dumps(summary(found)))
    assert (tmp_path / "benchmark.png").stat().st_size > 1000
    assert "### adm 8x8, batch 1, float32" in (tmp_path / "benchmark.md").read_text()
    capsys.readouterr()
    run_benchmark(request(), tmp_path, command)
    assert "kept from" in capsys.readouterr().out
    assert json.loads((tmp_path / "benchmark.json").read_text()) == known


def test_a_killed_run_keeps_its_finished_rows(tmp_path, monkeypatch):
    done = []

    def measured(request, work, rate, alone):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(work.batch)
        return row(batch=work.batch)

    monkeypatch.setattr(run, "measured", measured)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(request(batches=(4, 1)), tmp_path, command)
    (kept,) = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert kept["batch"] == 1
    done[:] = []
    run_benchmark(request(batches=(4, 1)), tmp_path, command)
    assert done == [4]
    both = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert [kept["batch"] for kept in both] == [1, 4]


def test_figures_of_another_machine_are_not_mixed_with_these(tmp_path):
    (tmp_path / "benchmark.json").write_text(json.dumps({"machine": {"device": "x"}, "rows": []}))
    with pytest.raises(BenchmarkError, match="another machine"):
        run_benchmark(request(), tmp_path, command)
    (tmp_path / "benchmark.json").write_text("[")
    with pytest.raises(BenchmarkError, match="not of a benchmark"):
        run_benchmark(request(), tmp_path, command)


@pytest.mark.slow
def test_what_the_machine_does_not_carry_is_skipped_with_the_reason(monkeypatch):
    work = next(request().workloads())
    slow = run.measured(request(), work, 1e3, command)
    assert "would take about" in slow["skipped"]
    # 3 calls, 2 rounds and a first, 3 contestants, at half of 1000 FLOP/s.
    assert run.expected_seconds(slow, 1e3, 3) == pytest.approx(3 * 3 * 3 * slow["flops"] / 500)
    monkeypatch.setattr(run, "available_memory", lambda: 1000)
    assert "GB are free" in run.measured(request(), work, 1e12, command)["skipped"]
    assert "skipped: it needs" in told(run.measured(request(), work, 1e12, command))


def test_the_planned_memory_covers_the_weights():
    ours = Ours(Workload("adm", unet_config("adm", 8, (32,)), 8, 1, "float32", (2, 1, 1)))
    weights = sum(4 * p.size for p in jax.tree.leaves(ours.shapes))
    assert weights < ours.memory < 20 * weights


def test_mistakes_are_told_in_a_line():
    with pytest.raises(BenchmarkError, match="known for 32, 64, 256, not for 48"):
        request(widths=None).workload("adm", 48, 1, "float32")
    with pytest.raises(BenchmarkError, match="multiples of the 32 groups of the norms, not 40"):
        request(widths=(32, 40)).workload("adm", 8, 1, "float32")


@pytest.mark.slow
def test_the_script_explains_itself(tmp_path):
    for flag, error in [("--schedule=5", "T/j/r such as"), ("--peers=lazy", "not lazy"),
                        ("--batches=0", "positive integers, not 0"),
                        ("--network=ad", "adm, ddpm, faces, not ad"),
                        ("--dtype=half", "float32, bfloat16, not half")]:  # fmt: skip
        process = subprocess.run(
            [sys.executable, SCRIPT, flag, f"--workdir={tmp_path}"], capture_output=True, text=True
        )
        assert process.returncode == 1
        assert process.stderr.count("\n") == 1
        assert error in process.stderr


def test_every_network_dtype_and_batch_has_a_row():
    asked = request(networks=("adm", "faces"), dtypes=("float32", "bfloat16"), batches=(4, 1))
    rows = [(work.network, work.batch, work.dtype) for work in asked.workloads()]
    assert len(set(rows)) == len(rows) == 8
    keys = [json.dumps(asked.key(work, {})) for work in asked.workloads()]
    assert len(set(keys)) == 8


def test_the_fastest_peer_is_told():
    seconds = row()["seconds"] | {"torch_compiled": [0.3, 1.2], "diffusers_compiled": [0.9, 0.9]}
    measured = row(seconds=seconds, first_seconds=dict.fromkeys(seconds, 1.0))
    figures = summary(measured)
    assert figures["fastest_peer"] == {
        "sampler": "diffusers", "progress": "diffusers", "forward": "torch_compiled"
    }  # fmt: skip
    (line,) = [line for line in told(measured).splitlines() if "network is" in line
               and "fastest" in line]  # fmt: skip
    assert "1.12 times (0.75 to 1.50) as fast" in line
    assert "torch.compile, its fastest peer" in line


def test_the_network_of_the_faces_is_that_of_the_model_in_the_box():
    """As many weights, but for the channels that are its learned variance."""
    _, shapes = shapes_of(unet_config("faces", 64), "float32")
    count = sum(p.size for p in jax.tree.leaves(shapes))
    boxed = load(find_model("celeba64"))
    variance = 3 * 2**2 * (boxed.out_conv.kernel.size // 24 + 1)
    assert count == sum(p.size for p in jax.tree.leaves(nnx.state(boxed))) - variance


@pytest.mark.slow
@pytest.mark.parametrize("network", ["adm", "faces"])
def test_the_peers_are_the_same_network(tmp_path, network):
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    run_benchmark(request(networks=(network,), peers=("eager",)), tmp_path, command)
    (found,) = json.loads((tmp_path / "benchmark.json").read_text())["rows"]
    assert set(found["seconds"]) == {"sampler", "progress", "forward", "diffusers", "torch"}
    assert set(found["peak_memory"]) == set(found["matrix"]) == {"jax", "eager"}


def test_another_network_stops_the_run():
    body = "import numpy as np\nserve({{'predict': lambda path: np.save(path, np.full(3, {}))}})"
    with closing(serving(body.format(1.0))) as one, closing(serving(body.format(1.01))) as other:
        run.check_equal({"jax": one, "eager": one}, "float32")
        run.check_equal({"jax": one, "eager": other}, "bfloat16")
        with pytest.raises(BenchmarkError, match=r"networks of jax and eager differ by 9\.9e-03"):
            run.check_equal({"jax": one, "eager": other}, "float32")
