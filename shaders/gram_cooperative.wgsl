// g += x^T x for half precision rows, sums in single precision, on cooperative matrices: the 128 x 128 tiles
// on and below the diagonal. Columns are a multiple of 8.

enable f16;
enable wgpu_cooperative_matrix;

struct Params { rows: u32, columns: u32, tiles: u32, pad0: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;
var<workgroup> xs: array<vec4<f16>, 1088>;
var<workgroup> ws: array<vec4<f16>, 1088>;
var<workgroup> stage: array<f32, 1280>;
@compute @workgroup_size(128)
fn gram(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) sg: u32, @builtin(subgroup_invocation_id) lane: u32) {
  let linear = wid.x + wid.y * nwg.x;
  if (linear >= params.tiles * (params.tiles + 1u) / 2u) { return; }
  var ti = u32((sqrt(8.0 * f32(linear) + 1.0) - 1.0) * 0.5);
  if ((ti + 1u) * (ti + 2u) / 2u <= linear) { ti += 1u; }
  if (ti * (ti + 1u) / 2u > linear) { ti -= 1u; }
  let tj = linear - ti * (ti + 1u) / 2u;
  let row0 = ti * 128u; let col0 = tj * 128u;
  let K = params.columns;
  let cc = (lid % 16u) * 8u; let lr = lid / 16u;
  let xin = row0 + cc < K; let win = col0 + cc < K;
  let so = lr * 136u + cc;
  var xo = (lr * K + row0 + cc) / 8u; var wo = (lr * K + col0 + cc) / 8u; let rs = 8u * K / 8u;
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
  let ab = (sg / 2u) * 64u; let bb = (sg % 2u) * 64u;
  if (0u + 32u <= params.rows && xin && win) {
    xr0 = x[xo + 0u * rs];
    xr1 = x[xo + 1u * rs];
    xr2 = x[xo + 2u * rs];
    xr3 = x[xo + 3u * rs];
    wr0 = x[wo + 0u * rs];
    wr1 = x[wo + 1u * rs];
    wr2 = x[wo + 2u * rs];
    wr3 = x[wo + 3u * rs];
  } else {
    xr0 = vec4<u32>(); if (xin && 0u + lr + 0u < params.rows) { xr0 = x[xo + 0u * rs]; }
    xr1 = vec4<u32>(); if (xin && 0u + lr + 8u < params.rows) { xr1 = x[xo + 1u * rs]; }
    xr2 = vec4<u32>(); if (xin && 0u + lr + 16u < params.rows) { xr2 = x[xo + 2u * rs]; }
    xr3 = vec4<u32>(); if (xin && 0u + lr + 24u < params.rows) { xr3 = x[xo + 3u * rs]; }
    wr0 = vec4<u32>(); if (win && 0u + lr + 0u < params.rows) { wr0 = x[wo + 0u * rs]; }
    wr1 = vec4<u32>(); if (win && 0u + lr + 8u < params.rows) { wr1 = x[wo + 1u * rs]; }
    wr2 = vec4<u32>(); if (win && 0u + lr + 16u < params.rows) { wr2 = x[wo + 2u * rs]; }
    wr3 = vec4<u32>(); if (win && 0u + lr + 24u < params.rows) { wr3 = x[wo + 3u * rs]; }
  }
  xo += 4u * rs;
  wo += 4u * rs;
  for (var k = 0u; k < params.rows; k += 32u) {
    workgroupBarrier();
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(xr0.x), unpack2x16float(xr0.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(xr0.z), unpack2x16float(xr0.w)));
    { let o = (so + 0u) / 4u; xs[o] = p0; xs[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(xr1.x), unpack2x16float(xr1.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(xr1.z), unpack2x16float(xr1.w)));
    { let o = (so + 1088u) / 4u; xs[o] = p0; xs[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(xr2.x), unpack2x16float(xr2.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(xr2.z), unpack2x16float(xr2.w)));
    { let o = (so + 2176u) / 4u; xs[o] = p0; xs[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(xr3.x), unpack2x16float(xr3.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(xr3.z), unpack2x16float(xr3.w)));
    { let o = (so + 3264u) / 4u; xs[o] = p0; xs[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(wr0.x), unpack2x16float(wr0.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(wr0.z), unpack2x16float(wr0.w)));
    { let o = (so + 0u) / 4u; ws[o] = p0; ws[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(wr1.x), unpack2x16float(wr1.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(wr1.z), unpack2x16float(wr1.w)));
    { let o = (so + 1088u) / 4u; ws[o] = p0; ws[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(wr2.x), unpack2x16float(wr2.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(wr2.z), unpack2x16float(wr2.w)));
    { let o = (so + 2176u) / 4u; ws[o] = p0; ws[o + 1u] = p1; }
    }
    { let p0 = vec4<f16>(vec4<f32>(unpack2x16float(wr3.x), unpack2x16float(wr3.y))); let p1 = vec4<f16>(vec4<f32>(unpack2x16float(wr3.z), unpack2x16float(wr3.w)));
    { let o = (so + 3264u) / 4u; ws[o] = p0; ws[o + 1u] = p1; }
    }
    workgroupBarrier();
    if (k + 32u + 32u <= params.rows && xin && win) {
      xr0 = x[xo + 0u * rs];
      xr1 = x[xo + 1u * rs];
      xr2 = x[xo + 2u * rs];
      xr3 = x[xo + 3u * rs];
      wr0 = x[wo + 0u * rs];
      wr1 = x[wo + 1u * rs];
      wr2 = x[wo + 2u * rs];
      wr3 = x[wo + 3u * rs];
    } else {
      xr0 = vec4<u32>(); if (xin && k + 32u + lr + 0u < params.rows) { xr0 = x[xo + 0u * rs]; }
      xr1 = vec4<u32>(); if (xin && k + 32u + lr + 8u < params.rows) { xr1 = x[xo + 1u * rs]; }
      xr2 = vec4<u32>(); if (xin && k + 32u + lr + 16u < params.rows) { xr2 = x[xo + 2u * rs]; }
      xr3 = vec4<u32>(); if (xin && k + 32u + lr + 24u < params.rows) { xr3 = x[xo + 3u * rs]; }
      wr0 = vec4<u32>(); if (win && k + 32u + lr + 0u < params.rows) { wr0 = x[wo + 0u * rs]; }
      wr1 = vec4<u32>(); if (win && k + 32u + lr + 8u < params.rows) { wr1 = x[wo + 1u * rs]; }
      wr2 = vec4<u32>(); if (win && k + 32u + lr + 16u < params.rows) { wr2 = x[wo + 2u * rs]; }
      wr3 = vec4<u32>(); if (win && k + 32u + lr + 24u < params.rows) { wr3 = x[wo + 3u * rs]; }
    }
    xo += 4u * rs;
    wo += 4u * rs;
    let a0_0 = coopLoad<coop_mat16x16<f16, A>>(&xs[(ab + 0u) / 4u], 34u);
    let a0_1 = coopLoad<coop_mat16x16<f16, A>>(&xs[(ab + 16u) / 4u], 34u);
    let a0_2 = coopLoad<coop_mat16x16<f16, A>>(&xs[(ab + 32u) / 4u], 34u);
    let a0_3 = coopLoad<coop_mat16x16<f16, A>>(&xs[(ab + 48u) / 4u], 34u);
    let b0_0 = coopLoadT<coop_mat16x16<f16, B>>(&ws[(bb + 0u) / 4u], 34u);
    c0_0 = coopMultiplyAdd(a0_0, b0_0, c0_0);
    c1_0 = coopMultiplyAdd(a0_1, b0_0, c1_0);
    c2_0 = coopMultiplyAdd(a0_2, b0_0, c2_0);
    c3_0 = coopMultiplyAdd(a0_3, b0_0, c3_0);
    let b0_1 = coopLoadT<coop_mat16x16<f16, B>>(&ws[(bb + 16u) / 4u], 34u);
    c0_1 = coopMultiplyAdd(a0_0, b0_1, c0_1);
    c1_1 = coopMultiplyAdd(a0_1, b0_1, c1_1);
    c2_1 = coopMultiplyAdd(a0_2, b0_1, c2_1);
    c3_1 = coopMultiplyAdd(a0_3, b0_1, c3_1);
    let b0_2 = coopLoadT<coop_mat16x16<f16, B>>(&ws[(bb + 32u) / 4u], 34u);
    c0_2 = coopMultiplyAdd(a0_0, b0_2, c0_2);
    c1_2 = coopMultiplyAdd(a0_1, b0_2, c1_2);
    c2_2 = coopMultiplyAdd(a0_2, b0_2, c2_2);
    c3_2 = coopMultiplyAdd(a0_3, b0_2, c3_2);
    let b0_3 = coopLoadT<coop_mat16x16<f16, B>>(&ws[(bb + 48u) / 4u], 34u);
    c0_3 = coopMultiplyAdd(a0_0, b0_3, c0_3);
    c1_3 = coopMultiplyAdd(a0_1, b0_3, c1_3);
    c2_3 = coopMultiplyAdd(a0_2, b0_3, c2_3);
    c3_3 = coopMultiplyAdd(a0_3, b0_3, c3_3);
    let a1_0 = coopLoad<coop_mat16x16<f16, A>>(&xs[(ab + 2176u) / 4u], 34u);
    let a1_1 = coopLoad<coop_mat16x16<f16, A>>(&xs[(ab + 2192u) / 4u], 34u);
    let a1_2 = coopLoad<coop_mat16x16<f16, A>>(&xs[(ab + 2208u) / 4u], 34u);
    let a1_3 = coopLoad<coop_mat16x16<f16, A>>(&xs[(ab + 2224u) / 4u], 34u);
    let b1_0 = coopLoadT<coop_mat16x16<f16, B>>(&ws[(bb + 2176u) / 4u], 34u);
    c0_0 = coopMultiplyAdd(a1_0, b1_0, c0_0);
    c1_0 = coopMultiplyAdd(a1_1, b1_0, c1_0);
    c2_0 = coopMultiplyAdd(a1_2, b1_0, c2_0);
    c3_0 = coopMultiplyAdd(a1_3, b1_0, c3_0);
    let b1_1 = coopLoadT<coop_mat16x16<f16, B>>(&ws[(bb + 2192u) / 4u], 34u);
    c0_1 = coopMultiplyAdd(a1_0, b1_1, c0_1);
    c1_1 = coopMultiplyAdd(a1_1, b1_1, c1_1);
    c2_1 = coopMultiplyAdd(a1_2, b1_1, c2_1);
    c3_1 = coopMultiplyAdd(a1_3, b1_1, c3_1);
    let b1_2 = coopLoadT<coop_mat16x16<f16, B>>(&ws[(bb + 2208u) / 4u], 34u);
    c0_2 = coopMultiplyAdd(a1_0, b1_2, c0_2);
    c1_2 = coopMultiplyAdd(a1_1, b1_2, c1_2);
    c2_2 = coopMultiplyAdd(a1_2, b1_2, c2_2);
    c3_2 = coopMultiplyAdd(a1_3, b1_2, c3_2);
    let b1_3 = coopLoadT<coop_mat16x16<f16, B>>(&ws[(bb + 2224u) / 4u], 34u);
    c0_3 = coopMultiplyAdd(a1_0, b1_3, c0_3);
    c1_3 = coopMultiplyAdd(a1_1, b1_3, c1_3);
    c2_3 = coopMultiplyAdd(a1_2, b1_3, c2_3);
    c3_3 = coopMultiplyAdd(a1_3, b1_3, c3_3);
  }
  let sb = sg * 320u;
  let er = lane / 2u; let ec = (lane % 2u) * 8u;
  let gr0 = row0 + ab + er; let gc0 = col0 + bb + ec;
  { let m = c0_0; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 0u; let gc = gc0 + 0u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c0_1; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 0u; let gc = gc0 + 16u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c0_2; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 0u; let gc = gc0 + 32u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c0_3; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 0u; let gc = gc0 + 48u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c1_0; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 16u; let gc = gc0 + 0u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c1_1; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 16u; let gc = gc0 + 16u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c1_2; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 16u; let gc = gc0 + 32u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c1_3; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 16u; let gc = gc0 + 48u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c2_0; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 32u; let gc = gc0 + 0u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c2_1; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 32u; let gc = gc0 + 16u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c2_2; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 32u; let gc = gc0 + 32u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c2_3; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 32u; let gc = gc0 + 48u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c3_0; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 48u; let gc = gc0 + 0u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c3_1; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 48u; let gc = gc0 + 16u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c3_2; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 48u; let gc = gc0 + 32u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
  { let m = c3_3; let p = &stage[sb]; workgroupBarrier(); coopStoreT(m, p, 20u); workgroupBarrier();
    let gr = gr0 + 48u; let gc = gc0 + 48u; let s = sb + er * 20u + ec;
    if (gr < K && gc < K) { let o = gr * K + gc;
      g[o / 4u + 0u] += vec4<f32>(stage[s + 0u], stage[s + 1u], stage[s + 2u], stage[s + 3u]);
      g[o / 4u + 1u] += vec4<f32>(stage[s + 4u], stage[s + 5u], stage[s + 6u], stage[s + 7u]);
    }
  }
}
