#!/usr/bin/env python3
"""Write what transformers' greedy `generate` makes of prompts, for the tiny checkpoints of tests/golden/logits.

    python tools/make_golden_generation.py --models tests/golden/logits --out tests/golden/generation/tokens.json

Prompts are random tokens. One is taken only if the likeliest token leads the second by more than rounding can change at every
step, so that another implementation must write the same tokens. The file has for every case its prompts, the tokens that follow, and
the smallest lead relative to the largest logit.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

LENGTHS = (3, 7, 12)
NEW = 12
LEAD = 1e-3  # of the largest logit; implementations agree within 1e-5


def continued(model, prompt):
    """The tokens that greedy generation adds, and the smallest lead of a step."""
    out = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        num_beams=1,
        max_new_tokens=NEW,
        min_new_tokens=NEW,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    leads = []
    for logits in out.logits:
        top = logits[0].topk(2).values
        leads.append(((top[0] - top[1]) / logits.abs().max()).item())
    return out.sequences[0, len(prompt):].tolist(), min(leads)


def case(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config = transformers.GenerationConfig()
    random = torch.Generator().manual_seed(sum(directory.name.encode()))
    found = []
    for length in LENGTHS:
        for attempt in range(1000):
            prompt = torch.randint(0, model.config.vocab_size, (length,), generator=random).tolist()
            tokens, lead = continued(model, prompt)
            # A constant continuation would hide mistakes.
            if lead > LEAD and (len(set(tokens)) > 3 or attempt > 300):
                break
        else:
            raise SystemExit(f"{directory.name}: no prompt of {length} tokens has clear leads")
        found.append(dict(prompt=prompt, tokens=tokens, lead=lead))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    cases = {}
    with torch.no_grad():
        for directory in sorted(path for path in args.models.iterdir() if path.is_dir()):
            cases[directory.name] = case(directory)
            leads = [f"{one['lead']:.1e}" for one in cases[directory.name]]
            print(f"{directory.name:22} leads {' '.join(leads)}", flush=True)
    golden = dict(versions=dict(torch=torch.__version__, transformers=transformers.__version__), cases=cases)
    with open(args.out, "w") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
