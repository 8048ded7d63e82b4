//! What llama.cpp calls the tensors of a LLaMA model, and the order in which it keeps the rows of queries and keys: the rotary pairs of
//! a head are side by side there, while Hugging Face has their first halves before their second.

/// Where llama.cpp keeps row `row` of a query or key projection whose heads are `head` rows long: rows `i`
/// and `i + head / 2` of a head are rows `2 i` and `2 i + 1` there.
pub(super) fn paired_row(row: usize, head: usize) -> usize {
    let (start, inside) = (row / head * head, row % head);
    let half = head / 2;
    start + 2 * (inside % half) + inside / half
}

/// The row that llama.cpp keeps as its row `row`: the inverse of [`paired_row`].
pub(super) fn parted_row(row: usize, head: usize) -> usize {
    let (start, inside) = (row / head * head, row % head);
    start + inside / 2 + head / 2 * (inside % 2)
}

/// Whether a tensor of llama.cpp's has rows, or is a bias of rows, that it keeps in pairs.
pub(super) fn is_paired(stored: &str) -> bool {
    ["attn_q.", "attn_k."].iter().any(|part| stored.contains(part))
}

/// llama.cpp's name of a Hugging Face tensor.
pub(super) fn stored_name(name: &str) -> String {
    const WHOLE: [(&str, &str); 3] = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ];
    const IN_BLOCK: [(&str, &str); 9] = [
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let find = |names: &[(&str, &str)], stem: &str| {
        let found = names.iter().find(|(theirs, _)| *theirs == stem);
        found.map_or_else(|| stem.to_string(), |(_, ours)| ours.to_string())
    };
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "weight"));
    let block = stem.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    match block {
        Some((index, stem)) => format!("blk.{index}.{}.{kind}", find(&IN_BLOCK, stem)),
        None => format!("{}.{kind}", find(&WHOLE, stem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_put_apart_and_together_again() {
        let rows: Vec<usize> = (0..8).map(|row| paired_row(row, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
        for row in 0..24 {
            assert_eq!(parted_row(paired_row(row, 6), 6), row);
        }
    }

    #[test]
    fn names_are_translated() {
        for (theirs, ours) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("model.layers.12.self_attn.o_proj.bias", "blk.12.attn_output.bias"),
            (
                "model.layers.0.post_attention_layernorm.weight",
                "blk.0.ffn_norm.weight",
            ),
            ("lm_head.weight", "output.weight"),
        ] {
            assert_eq!(stored_name(theirs), ours);
        }
    }
}
