"""Functions of samples, and torchmetrics that collect their inputs."""

from lightning_modules.metrics.bootstrap import Estimate, estimate_means
from lightning_modules.metrics.gold_loss import GoldLoss, gold_loss_table, mean_loss, summarise_likelihood
from lightning_modules.metrics.pass_at_k import pass_at_k, powers_of_two
from lightning_modules.metrics.problem_table import COLUMNS, ProblemTable, problem_row
from lightning_modules.metrics.representation import linear_cka, relative_distance
from lightning_modules.metrics.skill_accuracy import SKILLS, SkillAccuracy, summarise_skills
from lightning_modules.metrics.structure_similarity import TopologyRows, summarise_topology
from lightning_modules.metrics.summary import Intervals, group_rows, summarise

__all__ = [
    "COLUMNS", "SKILLS", "Estimate", "GoldLoss", "Intervals", "ProblemTable", "SkillAccuracy", "TopologyRows",
    "estimate_means", "gold_loss_table", "group_rows", "linear_cka", "mean_loss", "pass_at_k", "powers_of_two",
    "problem_row", "relative_distance", "summarise", "summarise_likelihood", "summarise_skills", "summarise_topology",
]  # fmt: skip
