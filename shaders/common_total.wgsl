// Sums over the invocations of a workgroup.

const THREADS: u32 = 256u;

var<workgroup> parts: array<f32, THREADS>;

// The sum over all lanes, by halves.
fn total(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    parts[lane] = value;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if lane < half {
            parts[lane] += parts[lane + half];
        }
        workgroupBarrier();
    }
    return parts[0];
}
