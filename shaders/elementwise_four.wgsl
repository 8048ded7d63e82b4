// Element by element, four neighbours an invocation: for matrices whose number of elements is a multiple of 4, and kernels that read
// nothing but the same places. With elements of 16 bits, one an invocation reaches half of the memory's rate.

alias X4 = vec4<f32>;
alias Z4 = vec4<f32>;

@group(0) @binding(0) var<uniform> p: Parameters;
@group(0) @binding(1) var<storage, read_write> x: array<X4>;
@group(0) @binding(2) var<storage, read> z: array<Z4>;
// What changes beside `x`.
@group(0) @binding(3) var<storage, read_write> y: array<X4>;

// A kernel that replaces every `x`.
#define replaced(by)
    let i = index(group, groups, lane);
    if i < p.count {
        x[i] = X4({by});
    }
#end

@compute @workgroup_size(LANES)
fn add(
    #invocation()
) {
    #replaced(vec4<f32>(x[i]) + vec4<f32>(z[i]))
}

@compute @workgroup_size(LANES)
fn scale(
    #invocation()
) {
    #replaced(vec4<f32>(x[i]) * p.factor)
}

// `x` takes the elements of `z`, in its own number format.
@compute @workgroup_size(LANES)
fn convert(
    #invocation()
) {
    #replaced(z[i])
}

@compute @workgroup_size(LANES)
fn activate(
    #invocation()
) {
    #replaced(activate_four(vec4<f32>(x[i])))
}

// `x` is the up projection, `z` the gate.
@compute @workgroup_size(LANES)
fn gate(
    #invocation()
) {
    #replaced(vec4<f32>(x[i]) * activate_four(vec4<f32>(z[i])))
}

// `x` is the gradient after the activation of `z`, and becomes that before it.
@compute @workgroup_size(LANES)
fn activate_backward(
    #invocation()
) {
    #replaced(vec4<f32>(x[i]) * slope_four(vec4<f32>(z[i])))
}

// The gate `x` and the up projection `y` become the gradients with respect to them; `z` is that after the gate.
@compute @workgroup_size(LANES)
fn gate_backward(
    #invocation()
) {
    let i = index(group, groups, lane);
    if i < p.count {
        let gate = vec4<f32>(x[i]);
        let up = vec4<f32>(y[i]);
        let dy = vec4<f32>(z[i]);
        x[i] = X4(dy * up * slope_four(gate));
        y[i] = X4(dy * activate_four(gate));
    }
}

fn activate_four(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(activate_one(v.x), activate_one(v.y), activate_one(v.z), activate_one(v.w));
}

fn slope_four(v: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(slope_one(v.x), slope_one(v.y), slope_one(v.z), slope_one(v.w));
}
