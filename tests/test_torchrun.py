"""The commands of docs/scaling.md: processes started by torchrun, on one machine and as if on two, train as one job."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from minute_recipe import minute_config
from processes import free_port

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.long


def launch(folder, *groups, devices, nodes):
    """Start one torchrun for each machine; what the job leaves in its training.json."""
    path = folder.with_suffix(".yaml")
    config = minute_config("pretrain")
    config["trainer"] |= {"devices": devices, "num_nodes": nodes, "strategy": "ddp", "accelerator": "cpu", "max_steps": 2}
    path.write_text(yaml.safe_dump(config))
    words = ["main.py", "fit", "--config", str(path), "--trainer.default_root_dir", str(folder)]
    run = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={devices}"]
    jobs = [
        subprocess.Popen([*run, *group, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for group in groups
    ]
    said = [job.communicate(timeout=240)[0].decode() for job in jobs]
    assert all(job.returncode == 0 for job in jobs), "\n\n".join(
        said
    )  # whole: what a process says comes before torchrun's report
    return json.loads((folder / "training.json").read_text())


def test_two_processes_of_one_machine_and_one_of_each_of_two_train_alike(tmp_path):
    one = launch(tmp_path / "one", ["--standalone"], devices=2, nodes=1)
    place = ["--master-addr=127.0.0.1", f"--master-port={free_port()}", "--nnodes=2"]
    two = launch(tmp_path / "two", *([f"--node-rank={rank}", *place] for rank in (0, 1)), devices=1, nodes=2)
    assert (one["steps"], one["tokens"], one["weights"]) == (two["steps"], two["tokens"], two["weights"])
    assert one["tokens"] > 0


def test_a_stage_leaves_its_process_group_before_python_ends():
    """Gloo's threads abort a process that ends while they still hold a tensor."""
    code = (
        "import atexit, torch.distributed as dist\n"
        "from recipes.cli import run_stage\n"
        "atexit.register(lambda: print('left' if not dist.is_initialized() else 'still there'))\n"
        "dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)\n"
        "run_stage(['fit', '--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[-1] == "left", done.stderr
