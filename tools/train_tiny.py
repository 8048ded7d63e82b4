#!/usr/bin/env python3
"""Train the tiny language models that zprune's tests and demos prune.

One script does the whole job:

1. read a folder of novels, remove the distributor's boilerplate, write the
   evaluation and calibration texts to `--corpora`;
2. train a byte-level BPE tokenizer on the training novels;
3. train `tiny-llama`, `tiny-llama-books` or `tiny-opt` with transformers' own
   model classes;
4. save a Hugging Face directory in half precision and measure its perplexity on
   the held-out novel, next to the perplexity of a unigram model.

`tiny-llama-books` has the shape of `tiny-llama`. It learns from the novels and
from the texts of `--more-texts`, which `prepare_texts.py` writes.

The held-out novel is never seen by the tokenizer or by the training loop.
Without `--model` the script stops after step 1.

    python tools/train_tiny.py --texts NOVELS
    python tools/train_tiny.py --texts NOVELS --model tiny-llama --out models/tiny-llama
    python tools/train_tiny.py --texts NOVELS --more-texts BOOKS --model tiny-llama-books --out models/tiny-llama-books
"""

import argparse
import copy
import json
import math
import random
import re
import time
from pathlib import Path

EVAL_CONTEXT = 256
# What a distributor added to a text, as opposed to what its author wrote.
FOREIGN = re.compile(r"gutenberg|e-?texts?\b|transcriber|we substituted|^produced by|^\[(end volume|at this point)", re.I)
CHAPTER = re.compile(r"^chapter [0-9ivxlc]+", re.I)


# ---------------------------------------------------------------- text

def clean(raw: str) -> list[str]:
    """Return the paragraphs of a novel, one string each, boilerplate removed."""
    lines = raw.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    start, end = 0, len(lines)
    for i, line in enumerate(lines):
        if re.match(r"\*\*\* ?START OF", line):
            start = i + 1
        if re.match(r"\*\*\* ?END OF|End of (the )?Project Gutenberg|A NOTE ON THE TEXT", line):
            end = i
            break
    blocks = re.split(r"\n\s*\n", "\n".join(lines[start:end]))
    paragraphs = [" ".join(block.split()) for block in blocks]
    return [p for p in paragraphs if p and not FOREIGN.search(p)]


def pick_chapters(paragraphs: list[str], size: int) -> list[str]:
    """Whole chapters, from a third into the novel on, until `size` bytes are full."""
    heads = [i for i, p in enumerate(paragraphs) if CHAPTER.match(p)] + [len(paragraphs)]
    total = sum(len(p.encode()) + 1 for p in paragraphs)
    before, picked, picked_size = 0, [], 0
    for a, b in zip(heads, heads[1:]):
        chapter = paragraphs[a:b]
        chapter_size = sum(len(p.encode()) + 1 for p in chapter)
        if before >= total / 3 and picked_size < size:
            picked += chapter
            picked_size += chapter_size
        before += chapter_size
    return picked


def load_novels(folder: Path) -> dict[str, list[str]]:
    novels = {p.name: clean(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.txt"))}
    if not novels:
        raise SystemExit(f"no .txt files in {folder}")
    return novels


def to_text(paragraphs: list[str]) -> str:
    return "\n".join(paragraphs) + "\n"


def write_corpora(novels, held_out: str, folder: Path, size: int):
    folder.mkdir(parents=True, exist_ok=True)
    sources = [n for n in novels if n.startswith("austen_") and n != held_out]
    calibration = [p for n in sources for p in pick_chapters(novels[n], size // len(sources))]
    name = held_out.removeprefix("austen_")
    (folder / name).write_text(to_text(novels[held_out]), encoding="utf-8")
    (folder / "austen_calibration.txt").write_text(to_text(calibration), encoding="utf-8")


# ---------------------------------------------------------------- tokenizer

def is_llama(kind: str) -> bool:
    return kind in ("tiny-llama", "tiny-llama-books")


def train_tokenizer(texts: list[str], kind: str, vocab_size: int):
    """Byte-level BPE; the front token is `<s>` as in LLaMA or `</s>` as in OPT."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    if is_llama(kind):
        specials, front = ["<unk>", "<s>", "</s>"], "<s>"
    else:
        specials, front = ["<s>", "<pad>", "</s>", "<unk>"], "</s>"
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        (line + "\n" for text in texts for line in text.split("\n")),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tok.post_processor = processors.TemplateProcessing(
        single=f"{front} $A", pair=f"{front} $A {front} $B",
        special_tokens=[(front, tok.token_to_id(front))],
    )
    return tok


def tokenizer_config(kind: str) -> dict:
    common = {
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "model_max_length": 512,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
    }
    if is_llama(kind):
        return common | {"bos_token": "<s>"}
    return common | {"bos_token": "</s>", "pad_token": "<pad>"}


# ---------------------------------------------------------------- models

def model_config(kind: str, vocab_size: int, a) -> dict:
    """config.json, in the spelling that published checkpoints of the family use."""
    if is_llama(kind):
        return {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": a.hidden // a.heads,
            "hidden_act": "silu",
            "hidden_size": a.hidden,
            "initializer_range": a.init_std,
            "intermediate_size": a.inner,
            "max_position_embeddings": 512,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": a.heads,
            "num_hidden_layers": a.layers,
            "num_key_value_heads": a.kv_heads,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
            "torch_dtype": a.dtype,
            "use_cache": True,
            "vocab_size": vocab_size,
        }
    return {
        "_remove_final_layer_norm": False,
        "activation_dropout": 0.0,
        "activation_function": "relu",
        "architectures": ["OPTForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "do_layer_norm_before": True,
        "dropout": 0.0,
        "enable_bias": True,
        "eos_token_id": 2,
        "ffn_dim": a.inner,
        "hidden_size": a.hidden,
        "init_std": a.init_std,
        "layer_norm_elementwise_affine": True,
        "layerdrop": 0.0,
        "max_position_embeddings": 512,
        "model_type": "opt",
        "num_attention_heads": a.heads,
        "num_hidden_layers": a.layers,
        "pad_token_id": 1,
        "tie_word_embeddings": True,
        "torch_dtype": a.dtype,
        "use_cache": True,
        "vocab_size": vocab_size,
        "word_embed_proj_dim": a.hidden,
    }


def build_model(config: dict):
    from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

    fields = {k: v for k, v in config.items() if k not in ("architectures", "torch_dtype", "model_type")}
    if config["model_type"] == "llama":
        return LlamaForCausalLM(LlamaConfig(**fields))
    return OPTForCausalLM(OPTConfig(**fields))


def scale_residual_init(model, layers: int):
    """Smaller initial weights where a branch joins the residual stream."""
    for name, p in model.named_parameters():
        if re.search(r"(o_proj|out_proj|down_proj|fc2)\.weight$", name):
            p.data.mul_(1 / math.sqrt(2 * layers))


def add_dropout(model, rate: float):
    """Dropout on the embeddings and on every branch that joins the residual stream."""
    import torch.nn.functional as F

    def hook(module, _inputs, out):
        return F.dropout(out, rate, module.training)

    ends = ("embed_tokens", "o_proj", "out_proj", "down_proj", "fc2")
    return [m.register_forward_hook(hook) for n, m in model.named_modules() if rate and n.endswith(ends)]


# ---------------------------------------------------------------- measuring

def perplexity(model, ids, context: int = EVAL_CONTEXT, batch: int = 64) -> float:
    """exp of the mean over whole non-overlapping windows of their mean NLL."""
    import torch
    import torch.nn.functional as F

    model.eval()
    n = len(ids) // context
    windows = ids[: n * context].view(n, context)
    total = 0.0
    with torch.no_grad():
        for w in windows.split(batch):
            logits = model(w).logits[:, :-1].float()
            nll = F.cross_entropy(logits.transpose(1, 2), w[:, 1:], reduction="none")
            total += nll.mean(1).double().sum().item()
    return math.exp(total / n)


def unigram_perplexity(train_ids, ids, vocab_size: int, context: int = EVAL_CONTEXT) -> float:
    """Add-one smoothed token frequencies of the training text on the same targets."""
    import torch

    counts = torch.bincount(train_ids, minlength=vocab_size).double() + 1
    nll = -(counts / counts.sum()).log()
    n = len(ids) // context
    return math.exp(nll[ids[: n * context].view(n, context)[:, 1:]].mean().item())


# ---------------------------------------------------------------- training

def train(model, train_ids, val_ids, front_id: int, a, device: str, started: float) -> dict:
    import torch
    import torch.nn.functional as F

    data, val_ids = train_ids.to(device), val_ids.to(device)
    hooks = add_dropout(model, a.dropout)
    average = copy.deepcopy(model).eval()
    average.requires_grad_(False)  # its copied dropout hooks do nothing in eval mode
    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim != 2]
    opt = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": a.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=a.lr, betas=(0.9, a.beta2), fused=device == "cuda",
    )
    run = torch.compile(model) if a.compile else model
    gen = torch.Generator(device=device).manual_seed(a.seed)
    offsets = torch.arange(a.context + 1, device=device)
    best, best_step, best_state, history = math.inf, 0, None, []
    pairs = list(zip(average.parameters(), model.parameters()))
    mean_params, params = [x for x, _ in pairs], [y for _, y in pairs]
    model.train()
    for step in range(a.steps):
        warm = min(1.0, (step + 1) / a.warmup)
        done = step / a.steps
        if a.minutes:  # the learning rate falls with the steps or with the time, whichever is further on
            done = min(1.0, max(done, (time.time() - started) / 60 / a.minutes))
        last = step + 1 == a.steps or done == 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        for group in opt.param_groups:
            group["lr"] = a.lr * warm * (a.final_lr + (1 - a.final_lr) * cosine)
        at = torch.randint(len(data) - a.context - 1, (a.batch, 1), generator=gen, device=device)
        w = data[at + offsets]
        x, y = w[:, :-1].clone(), w[:, 1:]
        # One window in eight starts with the front token, which plain text lacks.
        x[: a.batch // 8, 0] = front_id
        if a.token_dropout:
            lost = torch.rand(x.shape, generator=gen, device=device) < a.token_dropout
            other = torch.randint(len(data), x.shape, generator=gen, device=device)
            x = torch.where(lost, data[other], x)
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = run(input_ids=x, use_cache=False).logits
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(a.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(mean_params, params, 1 - keep)
        if (step + 1) % a.eval_every == 0 or last:
            val = perplexity(average, val_ids)
            history.append([step + 1, round(loss.item(), 4), round(val, 3)])
            print(f"step {step + 1} train loss {loss.item():.4f} validation ppl {val:.3f}", flush=True)
            if val < best:
                best, best_step = val, step + 1
                best_state = {k: v.detach().float().cpu().clone() for k, v in average.state_dict().items()}
            model.train()
        if last:
            break
    for h in hooks:
        h.remove()
    model.load_state_dict(best_state)
    return {"validation_ppl": best, "best_step": best_step, "steps_done": step + 1, "history": history}


def save(model, config: dict, tok, kind: str, out: Path, dtype: str):
    import torch
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(getattr(torch, dtype)).contiguous().cpu() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    generation = {k: v for k, v in config.items() if k.endswith("_token_id")}
    for name, value in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config(kind)),
    ):
        (out / name).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    tok.save(str(out / "tokenizer.json"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--texts", type=Path, required=True, help="folder of novels, one .txt each")
    p.add_argument("--more-texts", type=Path, help="folder of further training texts, cleaned already, one .txt each")
    p.add_argument("--held-out", default="austen_persuasion.txt")
    p.add_argument("--corpora", type=Path, default=Path("corpora"))
    p.add_argument("--calibration-bytes", type=int, default=420_000)
    p.add_argument("--model", choices=["tiny-llama", "tiny-llama-books", "tiny-opt"])
    p.add_argument("--out", type=Path, help="where the model directory goes")
    p.add_argument("--tokenizer", type=Path, help="reuse this tokenizer.json instead of training one")
    p.add_argument("--vocab", type=int, default=2048)
    p.add_argument("--hidden", type=int, default=256)
    p.add_argument("--inner", type=int, help="MLP width (default 768 for llama, 1024 for opt)")
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--kv-heads", type=int, default=4)
    p.add_argument("--init-std", type=float, default=0.02)
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--steps", type=int, default=3000)
    p.add_argument("--minutes", type=float, help="end after this time if the steps are not done by then")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=6e-3)
    p.add_argument("--final-lr", type=float, default=0.02, help="share of the peak left at the end")
    p.add_argument("--beta2", type=float, default=0.98)
    p.add_argument("--warmup", type=int, default=200)
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument("--dropout", type=float, default=0.2)
    p.add_argument("--token-dropout", type=float, default=0.05)
    p.add_argument("--ema", type=float, default=0.995)
    p.add_argument("--eval-every", type=int, default=100)
    p.add_argument("--validation", type=float, default=0.02, help="share of each training text, cut from its end")
    p.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16", help="number format of the saved weights")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--compile", action="store_true", help="torch.compile the training step")
    a = p.parse_args()

    novels = load_novels(a.texts)
    write_corpora(novels, a.held_out, a.corpora, a.calibration_bytes)
    print({n: len(to_text(t).encode()) for n, t in novels.items()})
    if not a.model:
        return

    import tokenizers
    import torch
    import transformers

    if a.out is None:
        p.error("--model needs --out")
    if (a.model == "tiny-llama-books") != (a.more_texts is not None):
        p.error("tiny-llama-books is the model that --more-texts is for: give both, or neither")
    if a.inner is None:
        a.inner = 768 if is_llama(a.model) else 1024
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(a.seed)
    random.seed(a.seed)
    training = [to_text(t) for n, t in novels.items() if n != a.held_out]
    if a.more_texts:
        more = sorted(a.more_texts.glob("*.txt"))
        if not more:
            raise SystemExit(f"no .txt files in {a.more_texts}")
        training += [f.read_text(encoding="utf-8") for f in more]
    if a.tokenizer:
        tok = tokenizers.Tokenizer.from_file(str(a.tokenizer))
    else:
        tok = train_tokenizer(training, a.model, a.vocab)
    config = model_config(a.model, tok.get_vocab_size(), a)
    config["transformers_version"] = transformers.__version__
    train_parts, val_parts = [], []
    for text in training:
        ids = tok.encode(text, add_special_tokens=False).ids
        cut = int(len(ids) * (1 - a.validation))
        train_parts.append(ids[:cut])
        val_parts.append(ids[cut:])
    train_ids = torch.tensor(sum(train_parts, []))
    val_ids = torch.tensor(sum(val_parts, []))
    held_ids = torch.tensor(tok.encode(to_text(novels[a.held_out])).ids)
    print(f"tokens: train {len(train_ids)}, validation {len(val_ids)}, held out {len(held_ids)}")

    model = build_model(config).to(device)
    scale_residual_init(model, a.layers)
    started = time.time()
    record = train(model, train_ids, val_ids, int(held_ids[0]), a, device, started)
    seconds = time.time() - started

    held = held_ids.to(device)
    full = perplexity(model, held)
    save(model, config, tok, a.model, a.out, a.dtype)
    half = perplexity(model.to(getattr(torch, a.dtype)).float(), held)
    unigram = unigram_perplexity(train_ids, held_ids, config["vocab_size"])
    result = {
        "model": a.model,
        "parameters": sum(q.numel() for q in model.parameters()),
        "perplexity_f32_weights": full,
        "perplexity": half,
        "unigram_perplexity": unigram,
        "train_tokens": len(train_ids),
        "validation_tokens": len(val_ids),
        "held_out_tokens": len(held_ids),
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "options": {k: v for k, v in sorted(vars(a).items()) if not isinstance(v, Path)},
    } | record
    # Lists of numbers on one line keep the record readable.
    text = re.sub(r"\[\s+([\d.]+),\s+([\d.]+),\s+([\d.]+)\s+\]", r"[\1, \2, \3]", json.dumps(result, indent=2))
    (a.out / "training.json").write_text(text + "\n")
    print(f"{a.model}: {result['parameters']} parameters, perplexity {half:.3f} "
          f"(float32 weights {full:.3f}), unigram {unigram:.2f}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
