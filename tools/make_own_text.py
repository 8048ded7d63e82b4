"""Texts that a model writes by itself, to calibrate it on: experiments/study/texts/own.jsonl.

    python tools/make_own_text.py models/SmolLM2-135M-Instruct experiments/study/texts/own.jsonl

Each text begins with the token that ends documents, and every next token is drawn from the model's distribution as it is (temperature 1, nothing
cut off). A text that ends before it has enough tokens goes on with the next document. Needs torch and transformers; --device cuda takes
minutes.
"""

import argparse
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a text")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", default="<|endoftext|>")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).to(arguments.device).eval()
    start = tokenizer.convert_tokens_to_ids(arguments.start)
    if arguments.start not in tokenizer.get_vocab():
        parser.error(f"the tokenizer has no token {arguments.start}; name one with --start")
    generator = torch.Generator(arguments.device).manual_seed(arguments.seed)
    with open(arguments.out, "w", encoding="utf-8") as file:
        for first in range(0, arguments.texts, arguments.batch):
            count = min(arguments.batch, arguments.texts - first)
            for ids in written(model, start, count, arguments.tokens, generator):
                text = tokenizer.decode(ids, skip_special_tokens=True)
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            file.flush()
            print(f"{first + count} of {arguments.texts} texts", flush=True)


@torch.inference_mode()
def written(model, start, count, tokens, generator):
    """The tokens of `count` texts that the model writes."""
    last = torch.full((count, 1), start, device=model.device)
    found, cache = [], None
    for _ in range(tokens):
        output = model(last, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        chances = output.logits[:, -1].float().softmax(-1)
        last = torch.multinomial(chances, 1, generator=generator)
        found.append(last)
    return torch.cat(found, 1).tolist()


if __name__ == "__main__":
    main()
