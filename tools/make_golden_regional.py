"""Makes golden gradients of the norms of blocks' outputs with transformers and PyTorch's autograd in float64.

    python tools/make_golden_regional.py MODELS... OUTPUT

MODELS are tests/golden/gradients and tests/golden/units. Of each model there, and of each block: its inputs are those of the dense model for the ids in
`golden.safetensors`, one sequence at a time; the loss is the 2-norm of all its outputs. OUTPUT, a safetensors file, gets for every
weight of a linear layer every 17th entry of the sum over sequences of the squares of the gradients (`MODEL/WEIGHT`, in the order of
the checkpoint's tensor), and the largest of them all (`MODEL/largest/WEIGHT`).
"""

import pathlib
import sys

import numpy
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

STEP = 17

*sources, output = sys.argv[1:]
found = {}
folders = (path for source in sources for path in pathlib.Path(source).iterdir())
for folder in sorted((path for path in folders if (path / "golden.safetensors").exists()), key=lambda path: path.name):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    stored = load_file(folder / "model.safetensors")
    blocks = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    ids = torch.from_numpy(load_file(folder / "golden.safetensors")["ids"])
    sums = {}
    for sequence in ids:
        for block in blocks:
            outputs = []
            hook = block.register_forward_hook(lambda _, __, out: outputs.append(out[0] if isinstance(out, tuple) else out))
            # The gradient stops at the block's input.
            cut = block.register_forward_pre_hook(
                lambda _, args, kwargs: (
                    (args[0].detach(), *args[1:]) if args else args,
                    kwargs if args else {**kwargs, "hidden_states": kwargs["hidden_states"].detach()},
                ),
                with_kwargs=True,
            )
            model.zero_grad()
            model(sequence[None])
            hook.remove()
            cut.remove()
            torch.linalg.vector_norm(outputs[0]).backward()
            for parameter in block.parameters():
                if parameter.dim() == 2 and parameter.grad is not None:
                    name = names[id(parameter)]
                    sums[name] = sums.get(name, 0) + parameter.grad**2
    for name, value in sums.items():
        name = name if name in stored else name.split(".", 1)[1]
        assert tuple(value.shape) == stored[name].shape, name
        found[f"{folder.name}/{name}"] = value.reshape(-1)[::STEP].numpy().astype(numpy.float32)
        found[f"{folder.name}/largest/{name}"] = value.max().reshape(1).numpy().astype(numpy.float32)
    print(folder.name, len(sums))
save_file(found, output)
