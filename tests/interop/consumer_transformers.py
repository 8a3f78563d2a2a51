"""Opens the folder with transformers alone, by the Auto classes and by `pipeline`."""

import torch
from consumer_job import LAST, LIMIT, document, read_job, write_result
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline


@torch.inference_mode()
def main() -> None:
    """Generate both ways."""
    folder, rows = read_job()
    prompts = [row["prompt"] for row in rows]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(prompts, return_tensors="pt", padding=True)
    outputs = model.generate(**inputs, do_sample=False, max_new_tokens=LIMIT)
    new = outputs[:, inputs["input_ids"].shape[1] :]
    solutions = tokenizer.batch_decode(new, skip_special_tokens=True)

    solve = pipeline("text-generation", model=folder)
    solved = solve(prompts, do_sample=False, max_new_tokens=LIMIT, return_full_text=False, batch_size=8)

    write_result(
        ids=tokenizer(prompts)["input_ids"],
        texts={"generate": solutions, "pipeline": [found[0]["generated_text"] for found in solved]},
        lengths={"generate": (new != tokenizer.pad_token_id).sum(dim=1).tolist()},
        logits=model(torch.tensor([tokenizer(document(rows))["input_ids"]])).logits[0, -LAST:].tolist(),
    )


if __name__ == "__main__":
    main()
