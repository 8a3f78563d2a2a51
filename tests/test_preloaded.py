"""Processes that are forks of one with everything imported do what `python main.py` does."""

import fcntl
from threading import Thread

import pytest

from recipes.running import preloaded

pytestmark = pytest.mark.skipif(not preloaded.available(), reason="needs Linux")


@pytest.fixture
def lock(tmp_path):
    with (tmp_path / "lock").open("w") as file:
        yield file


@pytest.mark.parametrize(("words", "succeeds", "says"), [
    (["--version"], True, "interplay 0."), (["tain"], False, "'tain' is no command"),
    (["check", "configs/recipe/missing.yaml"], False, "does not exist"),
])  # fmt: skip
def test_a_command_prints_to_its_log_and_its_exit_status_is_known(words, succeeds, says, tmp_path, lock):
    (tmp_path / "log").write_text("before\n")
    assert preloaded.run(words, tmp_path / "log", lock.fileno(), 1) is succeeds
    assert (tmp_path / "log").read_text().startswith("before\n")
    assert says in (tmp_path / "log").read_text()


def test_a_process_has_everything_imported_its_threads_and_the_lock(tmp_path, lock, monkeypatch):
    """A front door of our own reports what it finds, and ends when it is told to."""
    door, (ready, go) = tmp_path / "door.py", (tmp_path / name for name in ("ready", "go"))
    door.write_text(
        "import sys, time\nfrom pathlib import Path\n"
        "seen = {'torch', 'lightning', 'transformers', 'recipes.cli'} <= sys.modules.keys()\nimport torch\n"
        "found = f'{seen} {torch.get_num_threads()} {sys.argv[1:]} {torch.cuda.is_initialized()}'\n"
        f"Path({str(ready)!r}).write_text(found)\n"
        f"while not Path({str(go)!r}).exists(): time.sleep(0.02)\n"
    )
    monkeypatch.setattr(preloaded, "FRONT_DOOR", door)
    fcntl.flock(lock, fcntl.LOCK_EX)
    thread = Thread(target=preloaded.run, args=(["fit", "x"], tmp_path / "log", lock.fileno(), 1))
    thread.start()
    while not ready.exists() or not ready.read_text():
        assert thread.is_alive(), (tmp_path / "log").read_text()
    assert ready.read_text() == "True 1 ['fit', 'x'] False"
    lock.close()  # here; the process still holds it
    with (tmp_path / "lock").open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    go.touch()
    thread.join()
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
