"""`python main.py run RECIPE.yaml --out DIR`: run stages in order, evaluate each, print the table.

Started again, it goes on after the last stage that is complete. A stage's folder has what `fit` leaves, and `test/` in it what
evaluating leaves; everything printed is read from there.
"""

from argparse import ArgumentParser
from pathlib import Path

from recipes.cli import run_stage
from recipes.curves import draw_curves
from recipes.ledger import compute_table
from recipes.recipe import Recipe, Stage, load_recipe
from recipes.table import result_table


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(prog="python main.py run", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a file under configs/recipe/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, data order and sampling; held-out problems stay the same"
    )
    args = parser.parse_args(argv)
    recipe = load_recipe(args.recipe)
    for number, stage in enumerate(recipe.stages, start=1):
        print(f"\n=== {number}/{len(recipe.stages)} {stage.name} ===", flush=True)
        run_and_evaluate(stage, args.out, args.seed)
    report(recipe, args.out, args.seed)
    return 0


def run_and_evaluate(stage: Stage, out: Path, seed: int) -> None:
    """Train a stage and test it on the held-out problems, each unless that is done already."""
    folder = out / stage.name
    settings = [
        "--config", str(stage.config), "--seed_everything", str(seed),
        "--data.init_args.seed", str(seed), "--trainer.default_root_dir", str(folder),
    ]  # fmt: skip
    settings += stage.settings
    if stage.init_from is not None:
        settings += ["--model.init_args.init_from", str(out / stage.init_from / "huggingface")]
    if not (folder / "training.json").is_file():
        run_stage(["fit", *settings, "--ckpt_path", "last"])
    if not (folder / "test" / "pass_at_k.json").is_file():
        run_stage(["test", *settings, "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")])


def report(recipe: Recipe, out: Path, seed: int) -> None:
    """Print the table and where everything lies."""
    names = [stage.name for stage in recipe.stages]
    print(f"\n{recipe.about}Seed {seed}.\n\n{result_table(out, names)}\n")
    print(f"{compute_table(out, names)}\n")
    print(f"Curves:      {draw_curves(out, names)}")
    print(f"Samples:     {out}/STAGE/test/samples/test.jsonl")
    print(f"TensorBoard: tensorboard --logdir {out}")
