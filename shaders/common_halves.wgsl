
// The first four of eight halves that were loaded together.
fn low(v: vec4<u32>) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)));
}

// The last four.
fn high(v: vec4<u32>) -> vec4<f16> {
    return vec4<f16>(vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)));
}
