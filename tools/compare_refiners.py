#!/usr/bin/env python3
"""Times mask refinements of one 1024 x 4096 layer on the CPU with zprune (`cargo bench -- refine_layer`) and in PyTorch, in turn, and
prints medians and ratios. PyTorch works on all rows at once, in single precision and in place. Its swaps are the best of the 64 x 64 most
promising pairs of a row; where none of these gains, of all pairs. Needs torch and cargo.

    python tools/compare_refiners.py --rounds 3
"""

from dataclasses import dataclass

import torch
from side_by_side import compare, layer, seconds

ROWS, INPUTS, SEQUENCES, STEPS = 1024, 4096, 4, 100
NEAR = 64
FAR = float("inf")


@dataclass
class Layer:
    weight: torch.Tensor
    gram: torch.Tensor
    # Of each input: its sum and its variance in a sequence, averaged over sequences.
    sums: torch.Tensor
    variance: torch.Tensor

    def scores(self):
        return self.weight.abs() * self.gram.diagonal().sqrt()


def second_largest(values):
    """Of each four neighbours, without sorting."""
    a, b, c, d = values.view(len(values), -1, 4).unbind(2)
    ab, cd = torch.maximum(a, b), torch.maximum(c, d)
    return torch.maximum(torch.minimum(ab, cd), torch.where(ab > cd, torch.minimum(a, b), torch.minimum(c, d)))


def largest(values, structured):
    """Ones for half of the values: the largest of each row, or of each four neighbours."""
    if structured:
        above = values.view(len(values), -1, 4) >= second_largest(values)[:, :, None]
        return above.view_as(values).to(values.dtype)
    threshold = values.kthvalue(values.shape[1] // 2, dim=1, keepdim=True).values
    return (values > threshold).to(values.dtype)


def alone(weight, pull, own, kept):
    """What removing a kept weight, and restoring a removed one, changes; infinite for the others."""
    twice = 2 * weight * pull
    return torch.where(kept, own + twice, FAR), torch.where(kept, FAR, own - twice)


def best_of_all(weight, gram, out, back):
    kept, gone = (out < FAR).nonzero()[:, 0], (back < FAR).nonzero()[:, 0]
    change = gram[kept].index_select(1, gone)
    change.mul_(-2 * weight[kept][:, None]).mul_(weight[gone]).add_(back[gone]).add_(out[kept][:, None])
    value, place = change.flatten().min(0)
    return value, kept[place // len(gone)], gone[place % len(gone)]


def swaps(layer, kept, structured):
    weight, gram, kept = layer.weight, layer.gram, kept.bool()
    own = weight * weight * gram.diagonal()
    least = -1e-6 * own.mean(1)
    pull = (weight * ~kept) @ gram
    rows = torch.arange(len(weight))
    if structured:
        groups = weight.view(len(weight), -1, 4)
        meeting = torch.stack([gram[i : i + 4, i : i + 4] for i in range(0, INPUTS, 4)])
        meeting = 2 * groups[:, :, :, None] * groups[:, :, None, :] * meeting
    while len(rows):
        w = weight[rows]
        out, back = alone(w, pull[rows], own[rows], kept[rows])
        if structured:
            shape = (len(rows), INPUTS // 4)
            change = out.view(*shape, 4, 1) + back.view(*shape, 1, 4)
            value, place = change.sub_(meeting if len(rows) == ROWS else meeting[rows]).flatten(1).min(1)
            first = place // 16 * 4
            gone, restored = first + place % 16 // 4, first + place % 4
            better = value < least[rows]
        else:
            outs, p = out.topk(NEAR, largest=False)
            backs, u = back.topk(NEAR, largest=False)
            change = gram[p[:, :, None], u[:, None, :]]
            change.mul_((-2 * w.gather(1, p))[:, :, None]).mul_(w.gather(1, u)[:, None]).add_(outs[:, :, None]).add_(backs[:, None])
            value, place = change.flatten(1).min(1)
            gone = p.gather(1, (place // NEAR)[:, None])[:, 0]
            restored = u.gather(1, (place % NEAR)[:, None])[:, 0]
            better = value < least[rows]
            for i in (~better).nonzero()[:, 0].tolist():
                value, at, other = best_of_all(w[i], gram, out[i], back[i])
                if value < least[rows[i]]:
                    gone[i], restored[i], better[i] = at, other, True
        rows, gone, restored = rows[better], gone[better], restored[better]
        change = gram[gone].mul_(weight[rows, gone][:, None])
        pull.index_add_(0, rows, change.addcmul_(gram[restored], weight[rows, restored][:, None], value=-1))
        kept[rows, gone], kept[rows, restored] = False, True
    return kept


def dsnot(layer, kept, structured):
    weight, score = layer.weight, layer.scores()
    adds = weight * layer.sums
    removed = kept == 0
    cycles, rows = 50, torch.arange(len(weight))
    error = (adds * removed).sum(1)
    order = torch.where(removed, adds / layer.variance, 0.0)
    # For both signs of the error, in the order in which they are restored.
    candidates = torch.stack([order.topk(cycles, largest=False).indices, order.topk(cycles).indices])
    if not structured:
        low = torch.where(removed, FAR, score)
        going = [torch.where(adds > 0, low, FAR), torch.where(adds < 0, low, FAR)]
        going = torch.stack([of.topk(cycles, largest=False).indices for of in going])
    mask = kept.clone()
    score = torch.where(removed, FAR, score)
    used = torch.zeros(2, len(weight), dtype=torch.long)
    active, positive = torch.ones(len(weight), dtype=torch.bool), error > 0
    for _ in range(cycles):
        active &= error.abs() > 0.1
        if not active.any():
            break
        side = (error > 0).long()
        at = used[side, rows].clamp_(max=cycles - 1)
        back = candidates[side, rows, at]
        active &= torch.where(side == 1, adds[rows, back] > 0, adds[rows, back] < 0) & removed[rows, back]
        if structured:
            group = (back // 4 * 4)[:, None] + torch.arange(4)
            out = group.gather(1, score.gather(1, group).argmin(1, keepdim=True))[:, 0]
        else:
            out = going[side, rows, at]
        after = error + adds[rows, out] - adds[rows, back]
        if structured:
            active &= (after > 0) == positive
        active &= score[rows, out] < FAR
        error = torch.where(active, after, error)
        taken, gone, restored = rows[active], out[active], back[active]
        mask[taken, gone], mask[taken, restored], score[taken, gone] = 0.0, 1.0, FAR
        used[side[active], taken] += 1
    return mask


def sparse_fw(layer, kept, structured):
    weight, score = layer.weight, layer.scores() * kept
    threshold = score.kthvalue(INPUTS - int(0.9 * (INPUTS // 2)), dim=1, keepdim=True).values
    fixed = score > threshold
    relaxed = kept.clone()
    for step in range(STEPS):
        slope = (weight * (1 - relaxed)) @ layer.gram
        slope.mul_(weight).clamp_(min=0).masked_fill_(fixed, 1e30)
        towards = largest(slope, structured).mul_(slope > 0)
        relaxed.lerp_(towards, 2 / (step + 2))
    return largest(relaxed.masked_fill_(fixed, 2.0), structured)


METHODS = {
    f"{name}{suffix}": (refiner, structured)
    for name, refiner in (("sparse-swaps", swaps), ("dsnot", dsnot), ("sparse-fw", sparse_fw))
    for suffix, structured in (("", False), (" 2:4", True))
}


def main():
    torch.manual_seed(0)
    weight, x = layer(ROWS, INPUTS)
    tokens = x.view(SEQUENCES, -1, INPUTS)
    known = Layer(weight, x.T @ x, tokens.sum(1).mean(0), tokens.var(1, unbiased=False).mean(0))

    def torch_side(method):
        refiner, structured = method
        return seconds(lambda: refiner(known, largest(known.scores(), structured), structured))

    compare(__doc__, "refine_layer", METHODS, torch_side)


if __name__ == "__main__":
    main()
