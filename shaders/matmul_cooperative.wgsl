// y = x W^T + bias in half precision with sums in single precision, on cooperative matrices; inputs are a
// multiple of 8, the results' stride of 4. 128 x 128 tiles, four subgroups of 32 with 64 x 64 results each,
// 32 inputs at a time, the next 32 fetched into registers before the products.

enable f16;
enable wgpu_cooperative_matrix;

alias Y4 = vec4<f16>;

struct Params { rows: u32, columns: u32, inner: u32, has_bias: u32, row_tiles: u32, column_tiles: u32, stride: u32, reserved: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<Y4>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
var<workgroup> xs: array<vec4<f16>, 1280>;
var<workgroup> ws: array<vec4<f16>, 1280>;
var<workgroup> stage: array<f32, 1024>;
@compute @workgroup_size(128)
fn matmul(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) sg: u32, @builtin(subgroup_invocation_id) lane: u32) {
  let linear = wid.x + wid.y * nwg.x;
  if (linear >= params.row_tiles * params.column_tiles) { return; }
  let band = linear / (16u * params.column_tiles);
  let first = band * 16u;
  let height = min(16u, params.row_tiles - first);
  let inside = linear - band * 16u * params.column_tiles;
  let row0 = (first + inside % height) * 128u;
  let col0 = (inside / height) * 128u;
  let kc = (lid % 4u) * 8u;
  let lr = (lid / 32u) * 8u + ((lid / 4u) % 2u) * 4u + (lid / 8u) % 4u;
  let K = params.inner;
  var xo0 = (min(row0 + lr + 0u, params.rows - 1u) * K + kc) / 8u;
  var xo1 = (min(row0 + lr + 32u, params.rows - 1u) * K + kc) / 8u;
  var xo2 = (min(row0 + lr + 64u, params.rows - 1u) * K + kc) / 8u;
  var xo3 = (min(row0 + lr + 96u, params.rows - 1u) * K + kc) / 8u;
  var wo0 = (min(col0 + lr + 0u, params.columns - 1u) * K + kc) / 8u;
  var wo1 = (min(col0 + lr + 32u, params.columns - 1u) * K + kc) / 8u;
  var wo2 = (min(col0 + lr + 64u, params.columns - 1u) * K + kc) / 8u;
  var wo3 = (min(col0 + lr + 96u, params.columns - 1u) * K + kc) / 8u;
  let so = lr * 40u + kc;
  var xr0: vec4<u32>;
  var xr1: vec4<u32>;
  var xr2: vec4<u32>;
  var xr3: vec4<u32>;
  var wr0: vec4<u32>;
  var wr1: vec4<u32>;
  var wr2: vec4<u32>;
  var wr3: vec4<u32>;
  var c0_0 = coop_mat16x16<f32, C>();
  var c0_1 = coop_mat16x16<f32, C>();
  var c0_2 = coop_mat16x16<f32, C>();
  var c0_3 = coop_mat16x16<f32, C>();
  var c1_0 = coop_mat16x16<f32, C>();
  var c1_1 = coop_mat16x16<f32, C>();
  var c1_2 = coop_mat16x16<f32, C>();
  var c1_3 = coop_mat16x16<f32, C>();
  var c2_0 = coop_mat16x16<f32, C>();
  var c2_1 = coop_mat16x16<f32, C>();
  var c2_2 = coop_mat16x16<f32, C>();
  var c2_3 = coop_mat16x16<f32, C>();
  var c3_0 = coop_mat16x16<f32, C>();
  var c3_1 = coop_mat16x16<f32, C>();
  var c3_2 = coop_mat16x16<f32, C>();
  var c3_3 = coop_mat16x16<f32, C>();
  let ab = (sg / 2u) * 2560u; let bb = (sg % 2u) * 2560u;
  if (0u + kc < K) {
    xr0 = x[xo0];
    xr1 = x[xo1];
    xr2 = x[xo2];
    xr3 = x[xo3];
    wr0 = w[wo0];
    wr1 = w[wo1];
    wr2 = w[wo2];
    wr3 = w[wo3];
  } else {
    xr0 = vec4<u32>();
    xr1 = vec4<u32>();
    xr2 = vec4<u32>();
    xr3 = vec4<u32>();
    wr0 = vec4<u32>();
    wr1 = vec4<u32>();
    wr2 = vec4<u32>();
    wr3 = vec4<u32>();
  }
  xo0 += 4u;
  xo1 += 4u;
  xo2 += 4u;
  xo3 += 4u;
  wo0 += 4u;
  wo1 += 4u;
  wo2 += 4u;
  wo3 += 4u;
  for (var k = 0u; k < K; k += 32u) {
    workgroupBarrier();
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(xr0.x), unpack2x16float(xr0.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(xr0.z), unpack2x16float(xr0.w)));
    { let o = (so + 0u) / 4u; xs[o] = p0; xs[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(xr1.x), unpack2x16float(xr1.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(xr1.z), unpack2x16float(xr1.w)));
    { let o = (so + 1280u) / 4u; xs[o] = p0; xs[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(xr2.x), unpack2x16float(xr2.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(xr2.z), unpack2x16float(xr2.w)));
    { let o = (so + 2560u) / 4u; xs[o] = p0; xs[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(xr3.x), unpack2x16float(xr3.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(xr3.z), unpack2x16float(xr3.w)));
    { let o = (so + 3840u) / 4u; xs[o] = p0; xs[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(wr0.x), unpack2x16float(wr0.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(wr0.z), unpack2x16float(wr0.w)));
    { let o = (so + 0u) / 4u; ws[o] = p0; ws[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(wr1.x), unpack2x16float(wr1.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(wr1.z), unpack2x16float(wr1.w)));
    { let o = (so + 1280u) / 4u; ws[o] = p0; ws[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(wr2.x), unpack2x16float(wr2.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(wr2.z), unpack2x16float(wr2.w)));
    { let o = (so + 2560u) / 4u; ws[o] = p0; ws[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(wr3.x), unpack2x16float(wr3.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(wr3.z), unpack2x16float(wr3.w)));
    { let o = (so + 3840u) / 4u; ws[o] = p0; ws[o + 1u] = p1; }
    }
    workgroupBarrier();
    if (k + 32u + kc < K) {
      xr0 = x[xo0];
      xr1 = x[xo1];
      xr2 = x[xo2];
      xr3 = x[xo3];
      wr0 = w[wo0];
      wr1 = w[wo1];
      wr2 = w[wo2];
      wr3 = w[wo3];
    } else {
      xr0 = vec4<u32>();
      xr1 = vec4<u32>();
      xr2 = vec4<u32>();
      xr3 = vec4<u32>();
      wr0 = vec4<u32>();
      wr1 = vec4<u32>();
      wr2 = vec4<u32>();
      wr3 = vec4<u32>();
    }
    xo0 += 4u;
    xo1 += 4u;
    xo2 += 4u;
    xo3 += 4u;
    wo0 += 4u;
    wo1 += 4u;
    wo2 += 4u;
    wo3 += 4u;
    let a0_0 = coopLoadT<coop_mat16x16<f16, A>>(&xs[(ab + 0u) / 4u], 10u);
    let a0_1 = coopLoadT<coop_mat16x16<f16, A>>(&xs[(ab + 640u) / 4u], 10u);
    let a0_2 = coopLoadT<coop_mat16x16<f16, A>>(&xs[(ab + 1280u) / 4u], 10u);
    let a0_3 = coopLoadT<coop_mat16x16<f16, A>>(&xs[(ab + 1920u) / 4u], 10u);
    let b0_0 = coopLoad<coop_mat16x16<f16, B>>(&ws[(bb + 0u) / 4u], 10u);
    let b0_1 = coopLoad<coop_mat16x16<f16, B>>(&ws[(bb + 640u) / 4u], 10u);
    let b0_2 = coopLoad<coop_mat16x16<f16, B>>(&ws[(bb + 1280u) / 4u], 10u);
    let b0_3 = coopLoad<coop_mat16x16<f16, B>>(&ws[(bb + 1920u) / 4u], 10u);
    c0_0 = coopMultiplyAdd(a0_0, b0_0, c0_0);
    c1_0 = coopMultiplyAdd(a0_1, b0_0, c1_0);
    c2_0 = coopMultiplyAdd(a0_2, b0_0, c2_0);
    c3_0 = coopMultiplyAdd(a0_3, b0_0, c3_0);
    c0_1 = coopMultiplyAdd(a0_0, b0_1, c0_1);
    c1_1 = coopMultiplyAdd(a0_1, b0_1, c1_1);
    c2_1 = coopMultiplyAdd(a0_2, b0_1, c2_1);
    c3_1 = coopMultiplyAdd(a0_3, b0_1, c3_1);
    c0_2 = coopMultiplyAdd(a0_0, b0_2, c0_2);
    c1_2 = coopMultiplyAdd(a0_1, b0_2, c1_2);
    c2_2 = coopMultiplyAdd(a0_2, b0_2, c2_2);
    c3_2 = coopMultiplyAdd(a0_3, b0_2, c3_2);
    c0_3 = coopMultiplyAdd(a0_0, b0_3, c0_3);
    c1_3 = coopMultiplyAdd(a0_1, b0_3, c1_3);
    c2_3 = coopMultiplyAdd(a0_2, b0_3, c2_3);
    c3_3 = coopMultiplyAdd(a0_3, b0_3, c3_3);
    let a1_0 = coopLoadT<coop_mat16x16<f16, A>>(&xs[(ab + 16u) / 4u], 10u);
    let a1_1 = coopLoadT<coop_mat16x16<f16, A>>(&xs[(ab + 656u) / 4u], 10u);
    let a1_2 = coopLoadT<coop_mat16x16<f16, A>>(&xs[(ab + 1296u) / 4u], 10u);
    let a1_3 = coopLoadT<coop_mat16x16<f16, A>>(&xs[(ab + 1936u) / 4u], 10u);
    let b1_0 = coopLoad<coop_mat16x16<f16, B>>(&ws[(bb + 16u) / 4u], 10u);
    let b1_1 = coopLoad<coop_mat16x16<f16, B>>(&ws[(bb + 656u) / 4u], 10u);
    let b1_2 = coopLoad<coop_mat16x16<f16, B>>(&ws[(bb + 1296u) / 4u], 10u);
    let b1_3 = coopLoad<coop_mat16x16<f16, B>>(&ws[(bb + 1936u) / 4u], 10u);
    c0_0 = coopMultiplyAdd(a1_0, b1_0, c0_0);
    c1_0 = coopMultiplyAdd(a1_1, b1_0, c1_0);
    c2_0 = coopMultiplyAdd(a1_2, b1_0, c2_0);
    c3_0 = coopMultiplyAdd(a1_3, b1_0, c3_0);
    c0_1 = coopMultiplyAdd(a1_0, b1_1, c0_1);
    c1_1 = coopMultiplyAdd(a1_1, b1_1, c1_1);
    c2_1 = coopMultiplyAdd(a1_2, b1_1, c2_1);
    c3_1 = coopMultiplyAdd(a1_3, b1_1, c3_1);
    c0_2 = coopMultiplyAdd(a1_0, b1_2, c0_2);
    c1_2 = coopMultiplyAdd(a1_1, b1_2, c1_2);
    c2_2 = coopMultiplyAdd(a1_2, b1_2, c2_2);
    c3_2 = coopMultiplyAdd(a1_3, b1_2, c3_2);
    c0_3 = coopMultiplyAdd(a1_0, b1_3, c0_3);
    c1_3 = coopMultiplyAdd(a1_1, b1_3, c1_3);
    c2_3 = coopMultiplyAdd(a1_2, b1_3, c2_3);
    c3_3 = coopMultiplyAdd(a1_3, b1_3, c3_3);
  }
  let sb = sg * 256u;
  let er = lane / 2u; let ec = (lane % 2u) * 8u;
  let stride4 = params.stride / 4u;
  let yr0 = row0 + (sg / 2u) * 64u + er; let yc0 = col0 + (sg % 2u) * 64u + ec;
  { let m = c0_0; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 0u; let yc = yc0 + 0u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c0_1; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 0u; let yc = yc0 + 16u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c0_2; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 0u; let yc = yc0 + 32u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c0_3; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 0u; let yc = yc0 + 48u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c1_0; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 16u; let yc = yc0 + 0u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c1_1; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 16u; let yc = yc0 + 16u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c1_2; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 16u; let yc = yc0 + 32u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c1_3; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 16u; let yc = yc0 + 48u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c2_0; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 32u; let yc = yc0 + 0u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c2_1; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 32u; let yc = yc0 + 16u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c2_2; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 32u; let yc = yc0 + 32u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c2_3; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 32u; let yc = yc0 + 48u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c3_0; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 48u; let yc = yc0 + 0u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c3_1; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 48u; let yc = yc0 + 16u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c3_2; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 48u; let yc = yc0 + 32u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
  { let m = c3_3; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 16u); workgroupBarrier();
    let yr = yr0 + 48u; let yc = yc0 + 48u; let s = sb + er * 16u + ec;
    if (yr < params.rows) { let yo = yr * stride4 + yc / 4u;
      if (yc + 0u < params.columns) { var v = vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]); if (params.has_bias != 0u) { let bc = yc + 0u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 0u] = Y4(v); }
      if (yc + 4u < params.columns) { var v = vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]); if (params.has_bias != 0u) { let bc = yc + 4u; v += vec4<f32>(bias[bc], bias[bc + 1u], bias[bc + 2u], bias[bc + 3u]); } y[yo + 1u] = Y4(v); }
    }
  }
}
