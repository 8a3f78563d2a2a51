"""Opens the folder with vLLM on a CPU."""

import os

# in this process, on whatever cores there are, with 1 GiB for keys and values
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}

from consumer_job import LAST, LIMIT, document, read_job, write_result
from vllm import LLM, SamplingParams


def main() -> None:
    """Generate; logits come as "log-probabilities" of every token."""
    folder, rows = read_job()
    prompts = [row["prompt"] for row in rows]

    model = LLM(folder, dtype="float32", enforce_eager=True, max_num_seqs=8, max_logprobs=-1, logprobs_mode="raw_logits")
    greedy = SamplingParams(temperature=0, max_tokens=LIMIT, include_stop_str_in_output=True)
    outputs = model.generate(prompts, greedy)
    solutions = [output.outputs[0].text for output in outputs]

    every = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=-1, logprobs=-1, detokenize=False)
    output = model.generate([document(rows)], every)[0]
    found = [*output.prompt_logprobs[1:], output.outputs[0].logprobs[0]][-LAST:]
    write_result(
        ids=[output.prompt_token_ids for output in outputs],
        texts={"generate": solutions},
        lengths={"generate": [len(output.outputs[0].token_ids) for output in outputs]},
        logits=[[position[token].logprob for token in sorted(position)] for position in found],
    )


if __name__ == "__main__":
    main()
