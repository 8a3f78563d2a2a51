"""A run that starts afresh in the folder of another: that one's files make room, so that no result joins two runs."""

from pathlib import Path

from callbacks.files import damage

EARLIER = "earlier"  # folder of what was set aside, by number
STAYS = {EARLIER, ".writer.lock", "fast_dev_run"}


def set_aside(folder: Path, checkpoint: str | None) -> None:
    """Move the files of a run to `earlier/1`, `earlier/2` ... in its folder, unless training goes on from it.

    Args:
        folder: of the run that starts.
        checkpoint: which it goes on from, `last` for the newest of the folder; None: none.
    """
    kept = any((folder / name).is_file() for name in ("stage.json", "round.json"))  # by a recipe, or expert iteration
    if kept or not ((folder / "training.json").is_file() or any(folder.glob("checkpoints/*.ckpt"))):
        return
    if checkpoint is not None and (checkpoint != "last" or not all(map(damage, folder.glob("checkpoints/*.ckpt")))):
        return
    number = 1 + max((int(path.name) for path in folder.glob(f"{EARLIER}/*") if path.name.isdigit()), default=0)
    place = folder / EARLIER / str(number)
    place.mkdir(parents=True)
    for path in list(folder.iterdir()):
        if path.name not in STAYS:
            path.rename(place / path.name)
    print(f"{folder} held another run, which is now in {place}; `--ckpt_path last` would have gone on with it.", flush=True)
