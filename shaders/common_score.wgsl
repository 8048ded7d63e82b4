// The score of a weight, as data: sum over terms of g h |w r c + shift|^p. Shared by kernels that declare
// `factors` (all vectors of all terms, one after the other) and `terms`, two entries a term: where its row, column, inner
// row and inner column factors start (ABSENT: 1 everywhere), then its shift, as bits, and its power.

const ABSENT: u32 = 0xffffffffu;

fn factor(start: u32, index: u32) -> f32 {
    if start == ABSENT {
        return 1.0;
    }
    return factors[start + index];
}

fn score_of(weight: f32, row: u32, column: u32) -> f32 {
    var score = 0.0;
    for (var t = 0u; t < p.term_count; t++) {
        let starts = p.terms[2u * t];
        let shape = p.terms[2u * t + 1u];
        let x = weight * (factor(starts.z, row) * factor(starts.w, column)) + bitcast<f32>(shape.x);
        var power = abs(x);
        if shape.y == 2u {
            power = x * x;
        } else if shape.y == 3u {
            power = abs(x * x * x);
        }
        score += factor(starts.x, row) * factor(starts.y, column) * power;
    }
    return score;
}
