"""A model whose blocks have different sizes, for transformers 5 with `trust_remote_code=True`.

zprune writes this file beside the weights. `per_layer_config` in `config.json` has the sizes of the blocks that differ
from the others. Everything is computed by transformers' own classes of the family; here, blocks only get their sizes.
A block with 0 heads has no attention, and one with 0 neurons has no MLP.
"""

import copy

from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

Family = CONFIG_MAPPING["FAMILY"]

# The sizes that are 0 in a block without a part.
HEADS = {"num_attention_heads", "num_key_value_heads"}
NEURONS = {"intermediate_size", "n_inner", "ffn_dim"}


class NoAttention(nn.Module):
    """Gives zeros for what attention would add. The cache is told how many tokens there are."""

    def __init__(self, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states, cache=None, past_key_values=None, **others):
        cache = past_key_values if cache is None else cache
        if cache is not None:
            batch, tokens, _ = hidden_states.shape
            no_head = hidden_states.new_zeros(batch, 0, tokens, 1)
            cache.update(no_head, no_head, self.layer_idx)
        return hidden_states.new_zeros(hidden_states.shape), None


class NoMlp(nn.Module):
    """Gives zeros for what the MLP would add."""

    def forward(self, hidden_states):
        return hidden_states.new_zeros(hidden_states.shape)


@strict
class BlocksConfig(Family):
    """The family's configuration. Heads need not share out the width evenly, since `head_dim` is given."""

    def validate_architecture(self):
        pass


class BlocksForCausalLM(MODEL_FOR_CAUSAL_LM_MAPPING[Family]):
    """The family's model, with the sizes of `per_layer_config`."""

    config_class = BlocksConfig

    def __init__(self, config):
        sizes = {int(block): own for block, own in config.to_dict().get("per_layer_config", {}).items()}
        # The family's own class builds blocks of equal sizes.
        config.per_layer_config = None
        super().__init__(config)
        count = config.num_hidden_layers
        lists = (module for module in self.modules() if isinstance(module, nn.ModuleList))
        blocks = next(blocks for blocks in lists if len(blocks) == count)
        for index, own in sizes.items():
            blocks[index] = block_of(type(blocks[index]), config, index, own)
        config.per_layer_config = sizes or None
        self.post_init()


def block_of(kind, config, index, own):
    """Block `index`, whose sizes are those of `config` but for the ones in `own`."""
    gone = {key for key, size in own.items() if size == 0}
    sizes = copy.copy(config)
    for key in own.keys() - gone:
        setattr(sizes, key, own[key])
    block = kind(sizes, layer_idx=index)
    # Gemma 2 and 3 have norms before and after each part.
    both_sides = hasattr(block, "pre_feedforward_layernorm")
    after_attention = {"post_attention_layernorm"}
    norms = set()
    if gone & HEADS:
        block.self_attn = NoAttention(index)
        norms |= {"input_layernorm"} | (after_attention if both_sides else set())
    if gone & NEURONS:
        if not hasattr(block, "mlp"):
            raise ValueError(f"block {index} has no MLP, which this class cannot build for {config.model_type}")
        block.mlp = NoMlp()
        feedforward = {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
        norms |= feedforward if both_sides else after_attention | {"ln_2"}
    for norm in norms:
        if hasattr(block, norm):
            setattr(block, norm, nn.Identity())
    # One configuration for all blocks, so that a setting such as the kernel of attention reaches all.
    for module in block.modules():
        if hasattr(module, "config"):
            module.config = config
    return block
