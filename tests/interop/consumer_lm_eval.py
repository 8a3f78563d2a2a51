"""Evaluates the folder with lm-eval on the task in `lm_eval_task`, which reads rows.jsonl in the working folder."""

from pathlib import Path

import torch
from consumer_job import LAST, document, read_job, write_result
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

TASKS = str(Path(__file__).parent / "lm_eval_task")


@torch.inference_mode()
def main() -> None:
    """Evaluate; ids are those of the prompts that the task made."""
    folder, rows = read_job()

    model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=8)
    found = simple_evaluate(model, tasks=["interplay"], task_manager=TaskManager(include_path=TASKS), log_samples=True)
    scores = {grader: found["results"]["interplay"][f"{grader},none"] for grader in ("answer", "executable")}

    samples = sorted(found["samples"]["interplay"], key=lambda sample: sample["doc_id"])
    write_result(
        ids=[model.tok_encode(sample["arguments"][0][0]) for sample in samples],
        texts={"generate": [sample["filtered_resps"][0] for sample in samples]},
        lengths={},  # it keeps none
        logits=model._model_call(torch.tensor([model.tok_encode(document(rows))]))[0, -LAST:].tolist(),
        scores=scores,
    )


if __name__ == "__main__":
    main()
