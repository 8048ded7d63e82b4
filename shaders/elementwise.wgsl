// Element by element, one invocation each. `x` changes in place; what is read beside it is `z`.

alias X = f32;
alias Z = f32;

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read_write> x: array<X>;
@group(0) @binding(2) var<storage, read> z: array<Z>;
// What changes beside `x`.
@group(0) @binding(3) var<storage, read_write> y: array<X>;

@compute @workgroup_size(LANES)
fn add(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) + f32(z[i]));
    }
}

// Row `r` of `x` times `z[r]`.
@compute @workgroup_size(LANES)
fn scale_rows(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) * f32(z[i / p.width]));
    }
}

@compute @workgroup_size(LANES)
fn scale(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) * p.factor);
    }
}

@compute @workgroup_size(LANES)
fn activate(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(activate_one(f32(x[i])));
    }
}

// `x` is the up projection, `z` the gate.
@compute @workgroup_size(LANES)
fn gate(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) * activate_one(f32(z[i])));
    }
}

@compute @workgroup_size(LANES)
fn add_positions(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        let row = p.offset + (i / p.width) % p.length;
        x[i] = X(f32(x[i]) + f32(z[row * p.width + i % p.width]));
    }
}

// `x` takes the elements of `z`, in its own number format.
@compute @workgroup_size(LANES)
fn convert(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(z[i]);
    }
}

// `x` takes the chosen columns of `z`.
@compute @workgroup_size(LANES)
fn columns(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        let row = i / p.width;
        let column = i % p.width;
        let source = p.first + column / p.run * p.stride + column % p.run;
        x[i] = X(z[row * p.source_width + source]);
    }
}

// `x` takes the runs of the part `z`: `run` columns in every `stride`, which begin at `first`.
@compute @workgroup_size(LANES)
fn interleave(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        let column = i % p.width;
        let place = column % p.stride;
        if place >= p.first && place < p.first + p.run {
            let source = column / p.stride * p.run + place - p.first;
            x[i] = X(z[i / p.width * p.source_width + source]);
        }
    }
}

// `x` is the gradient after the activation of `z`, and becomes that before it.
@compute @workgroup_size(LANES)
fn activate_backward(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X(f32(x[i]) * slope_one(f32(z[i])));
    }
}

// The gate `x` and the up projection `y` become the gradients with respect to them; `z` is that after the gate.
@compute @workgroup_size(LANES)
fn gate_backward(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        let gate = f32(x[i]);
        let up = f32(y[i]);
        let dy = f32(z[i]);
        x[i] = X(dy * up * slope_one(gate));
        y[i] = X(dy * activate_one(gate));
    }
}

// Sums of gradients, of their squares and of their magnitudes.
#for u in scaled, squares, magnitudes
@compute @workgroup_size(LANES)
fn add_{u}(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        let v = p.factor * f32(z[i]);
        x[i] = X(f32(x[i]) + {u}(v));
    }
}

#end
fn scaled(v: f32) -> f32 {
    return v;
}

fn squares(v: f32) -> f32 {
    return v * v;
}

fn magnitudes(v: f32) -> f32 {
    return abs(v);
}
