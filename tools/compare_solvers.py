#!/usr/bin/env python3
"""Times the solvers that iterate on one 1024 x 4096 layer on the CPU with zprune (`cargo bench -- solve_layer`) and in PyTorch,
in turn, and prints medians and ratios. Both take the same number of steps; PyTorch works in single precision, in place, with the
fastest operation that it has for each step. Needs torch and cargo.

    python tools/compare_solvers.py --rounds 3
"""

import torch
from side_by_side import compare, layer, seconds

ROWS, INPUTS = 1024, 4096
# Rows that are solved divide by this.
TINY = 1e-30


def scaled(weight, gram, damping):
    added = damping * gram.diagonal().mean()
    size = (gram.diagonal() + added).sqrt()
    matrix = gram.clone()
    matrix.diagonal().add_(added)
    goal = (weight @ matrix).div_(size)
    return matrix.div_(size).div_(size[:, None]), goal, size


def largest(values, keep, by_row=False):
    """Ones for the largest magnitudes, of each row or of the matrix."""
    magnitude = values.abs()
    if by_row:
        threshold = magnitude.kthvalue(values.shape[1] - keep, dim=1, keepdim=True).values
    else:
        threshold = magnitude.flatten().kthvalue(values.numel() - keep).values
    return (magnitude > threshold).to(values.dtype)


def descend(matrix, goal, at, mask, steps):
    residual = (goal - at @ matrix).mul_(mask)
    direction = residual.clone()
    left = residual.square().sum(1, keepdim=True)
    for _ in range(steps):
        pull = direction @ matrix
        length = left / (direction * pull).sum(1, keepdim=True).clamp_(min=TINY)
        at.addcmul_(length, direction)
        residual.addcmul_(length, pull, value=-1).mul_(mask)
        now = residual.square().sum(1, keepdim=True)
        direction.mul_(now / left.clamp_(min=TINY)).add_(residual)
        left = now
    return at


def least_squares(weight, gram):
    mask = largest(weight * gram.diagonal().sqrt(), INPUTS // 2, by_row=True)
    matrix, goal, size = scaled(weight, gram, 0.01)
    return descend(matrix, goal, (weight * mask).mul_(size), mask, 30).div_(size)


def admm(weight, gram):
    keep = weight.numel() // 2
    size = gram.diagonal().sqrt() + 1e-8
    matrix = (gram / size).div_(size[:, None])
    matrix.diagonal().add_(0.1 * matrix.diagonal().mean())
    values = weight * size
    goal = values @ matrix
    matrix.diagonal().add_(1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    dual = torch.zeros_like(values)
    for step in range(20):
        both = values + dual
        if step < 15:
            mask = largest(both, keep)
        pruned = both * mask
        dual = both.sub_(pruned)
        values = torch.sub(pruned, dual).add_(goal) @ inverse
    return pruned.div_(size)


def alps(weight, gram):
    keep = weight.numel() // 2
    matrix, goal, size = scaled(weight, gram, 0.01)
    values, vectors = torch.linalg.eigh(matrix.double())
    values, vectors = values.float(), vectors.float()
    penalty, raised = 0.1, False
    old = weight * size
    inverse = (vectors / (values + penalty)) @ vectors.T
    mask = before = largest(old, keep)
    pruned, dual = old * mask, torch.zeros_like(old)
    for step in range(1, 31):
        unknowns = torch.add(goal, pruned, alpha=penalty).sub_(dual) @ inverse
        both = torch.add(unknowns, dual, alpha=1 / penalty)
        mask = largest(both, keep)
        pruned = both * mask
        dual.add_(unknowns, alpha=penalty).sub_(pruned, alpha=penalty)
        if step % 3:
            continue
        changed = (mask != before).sum().item()
        before, last = mask, penalty
        if changed > 0.1 * keep:
            penalty, raised = penalty * 1.3, True
        elif changed > 0.005 * keep:
            penalty, raised = penalty * 1.2, True
        elif not changed or not raised:
            break
        else:
            penalty *= 1.1
        if penalty != last:
            inverse = (vectors / (values + penalty)) @ vectors.T
    mask = largest(unknowns, keep)
    return descend(matrix, goal, unknowns * mask, mask, 10).div_(size)


def fista(weight, gram):
    norms = gram.diagonal().sqrt()
    vector = torch.rand(INPUTS)
    for _ in range(50):
        vector = gram @ (vector / vector.norm())
    curvature = vector.norm()
    goal = weight @ gram
    scale, share = goal.abs().max(), 1e-4
    best = weight * largest(weight * norms, INPUTS // 2, by_row=True)

    def error(values):
        off = values - weight
        return (off @ gram).mul_(off).sum().clamp_(min=0).sqrt().item()

    least, below, above = error(best), 1e-8, 1.0
    for _ in range(3):
        at, ahead, momentum = best, best, 1.0
        for _ in range(20):
            free = torch.addmm(goal, ahead, gram, beta=-1).div_(-curvature).add_(ahead)
            new = torch.nn.functional.softshrink(free, (share * scale / curvature).item())
            larger = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = torch.lerp(at, new, 1 + (momentum - 1) / larger)
            at, momentum = new, larger
        before = error(at)
        rounded = at * largest(at * norms, INPUTS // 2, by_row=True)
        after = error(rounded)
        if after < least * (1 - 1e-3):
            best, least = rounded, after
        if after - before > 0.3 * after:
            below = share
        else:
            above = share
        share = (below * above) ** 0.5
    return best


def thanos(weight, gram, width=128):
    """The mask is chosen anew before every block of columns; all weights that a row loses in it are made up for together."""
    matrix, norms = gram.clone(), gram.diagonal().sqrt()
    matrix.diagonal().add_(0.01 * gram.diagonal().mean())
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(matrix)), upper=True)
    gone = torch.zeros(ROWS, 1, dtype=torch.long)
    for first in range(0, INPUTS, width):
        last = first + width
        later = weight[:, first:]
        scores = later.abs() * norms[first:]
        ranked = torch.nn.functional.pad(scores.sort(dim=1).values, (0, 1), value=float("inf"))
        lost = (scores[:, :width] < ranked.gather(1, INPUTS // 2 - gone)).to(later.dtype)
        gone += lost.sum(1, keepdim=True).long()
        block = upper[first:last, first:last]
        size = block.square().sum(0).sqrt()
        scaled = block / size
        errors = descend(scaled.T @ scaled, weight[:, first:last] * lost / size, torch.zeros_like(lost), lost, 30)
        weight[:, first:].addmm_(errors @ scaled.T, upper[first:last, first:], alpha=-1)
        weight[:, first:last].mul_(1 - lost)
    return weight


SOLVERS = {"least-squares": least_squares, "admm": admm, "alps": alps, "fista": fista, "obs": thanos}


def main():
    torch.manual_seed(0)
    weight, x = layer(ROWS, INPUTS)
    gram = x.T @ x

    def torch_side(solver):
        fresh = weight.clone()
        return seconds(lambda: solver(fresh, gram))

    compare(__doc__, "solve_layer", SOLVERS, torch_side)


if __name__ == "__main__":
    main()
