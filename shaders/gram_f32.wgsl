// g += x^T x in single precision for widths that are multiples of 4: the 128 x 128 tiles on and below the
// diagonal. 128 invocations with 16 x 8 results each take 8 rows at a time through 16 KiB of workgroup memory; the
// next 8 are fetched into registers before the products. Rows may be stored in half precision.
//
// Unrolled: a loop over an array of results costs a third of the speed.

alias X4 = vec4<f32>;

struct Params { rows: u32, columns: u32, tiles: u32, reserved: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X4>;
@group(0) @binding(2) var<storage, read_write> g: array<vec4<f32>>;
var<workgroup> xs: array<vec4<f32>, 512>;
var<workgroup> ws: array<vec4<f32>, 512>;
@compute @workgroup_size(128)
fn gram(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let linear = wid.x + wid.y * nwg.x;
  if (linear >= params.tiles * (params.tiles + 1u) / 2u) { return; }
  var ti = u32((sqrt(8.0 * f32(linear) + 1.0) - 1.0) * 0.5);
  if ((ti + 1u) * (ti + 2u) / 2u <= linear) { ti += 1u; }
  if (ti * (ti + 1u) / 2u > linear) { ti -= 1u; }
  let tj = linear - ti * (ti + 1u) / 2u;
  let row0 = ti * 128u; let col0 = tj * 128u;
  let K = params.columns;
  let warp = lid / 32u; let ln = lid % 32u;
  let ty = (warp / 2u) * 4u + ln / 8u; let tx = (warp % 2u) * 8u + ln % 8u;
  // An invocation fetches four columns of two rows, for either side.
  let lc = ln * 4u;
  let xin = row0 + lc < K; let win = col0 + lc < K;
  var xo = (warp * K + row0 + lc) / 4u; var wo = (warp * K + col0 + lc) / 4u;
  var xr0 = vec4<f32>();
  var xr1 = vec4<f32>();
  var wr0 = vec4<f32>();
  var wr1 = vec4<f32>();
  var c0_0 = vec4<f32>();
  var c0_1 = vec4<f32>();
  var c1_0 = vec4<f32>();
  var c1_1 = vec4<f32>();
  var c2_0 = vec4<f32>();
  var c2_1 = vec4<f32>();
  var c3_0 = vec4<f32>();
  var c3_1 = vec4<f32>();
  var c4_0 = vec4<f32>();
  var c4_1 = vec4<f32>();
  var c5_0 = vec4<f32>();
  var c5_1 = vec4<f32>();
  var c6_0 = vec4<f32>();
  var c6_1 = vec4<f32>();
  var c7_0 = vec4<f32>();
  var c7_1 = vec4<f32>();
  var c8_0 = vec4<f32>();
  var c8_1 = vec4<f32>();
  var c9_0 = vec4<f32>();
  var c9_1 = vec4<f32>();
  var c10_0 = vec4<f32>();
  var c10_1 = vec4<f32>();
  var c11_0 = vec4<f32>();
  var c11_1 = vec4<f32>();
  var c12_0 = vec4<f32>();
  var c12_1 = vec4<f32>();
  var c13_0 = vec4<f32>();
  var c13_1 = vec4<f32>();
  var c14_0 = vec4<f32>();
  var c14_1 = vec4<f32>();
  var c15_0 = vec4<f32>();
  var c15_1 = vec4<f32>();
  let xb = ty * 4u; let wb = tx * 4u;
  xr0 = vec4<f32>(); wr0 = vec4<f32>();
  if (0u + warp + 0u < params.rows) { if (xin) { xr0 = vec4<f32>(x[xo + 0u * K]); } if (win) { wr0 = vec4<f32>(x[wo + 0u * K]); } }
  xr1 = vec4<f32>(); wr1 = vec4<f32>();
  if (0u + warp + 4u < params.rows) { if (xin) { xr1 = vec4<f32>(x[xo + 1u * K]); } if (win) { wr1 = vec4<f32>(x[wo + 1u * K]); } }
  xo += 2u * K; wo += 2u * K;
  xs[0u * 256u + (warp + 0u) * 32u + ln] = xr0; ws[0u * 256u + (warp + 0u) * 32u + ln] = wr0;
  xs[0u * 256u + (warp + 4u) * 32u + ln] = xr1; ws[0u * 256u + (warp + 4u) * 32u + ln] = wr1;
  workgroupBarrier();
  var cur = 0u;
  for (var k = 0u; k < params.rows; k += 8u) {
    xr0 = vec4<f32>(); wr0 = vec4<f32>();
    if (k + 8u + warp + 0u < params.rows) { if (xin) { xr0 = vec4<f32>(x[xo + 0u * K]); } if (win) { wr0 = vec4<f32>(x[wo + 0u * K]); } }
    xr1 = vec4<f32>(); wr1 = vec4<f32>();
    if (k + 8u + warp + 4u < params.rows) { if (xin) { xr1 = vec4<f32>(x[xo + 1u * K]); } if (win) { wr1 = vec4<f32>(x[wo + 1u * K]); } }
    xo += 2u * K; wo += 2u * K;
    {
      let a0 = xs[(cur * 1024u + xb + 0u) / 4u];
      let a1 = xs[(cur * 1024u + xb + 32u) / 4u];
      let a2 = xs[(cur * 1024u + xb + 64u) / 4u];
      let a3 = xs[(cur * 1024u + xb + 96u) / 4u];
      let b0 = ws[(cur * 1024u + wb + 0u) / 4u];
      let b1 = ws[(cur * 1024u + wb + 64u) / 4u];
      c0_0 = fma(vec4<f32>(a0.x), b0, c0_0);
      c0_1 = fma(vec4<f32>(a0.x), b1, c0_1);
      c1_0 = fma(vec4<f32>(a0.y), b0, c1_0);
      c1_1 = fma(vec4<f32>(a0.y), b1, c1_1);
      c2_0 = fma(vec4<f32>(a0.z), b0, c2_0);
      c2_1 = fma(vec4<f32>(a0.z), b1, c2_1);
      c3_0 = fma(vec4<f32>(a0.w), b0, c3_0);
      c3_1 = fma(vec4<f32>(a0.w), b1, c3_1);
      c4_0 = fma(vec4<f32>(a1.x), b0, c4_0);
      c4_1 = fma(vec4<f32>(a1.x), b1, c4_1);
      c5_0 = fma(vec4<f32>(a1.y), b0, c5_0);
      c5_1 = fma(vec4<f32>(a1.y), b1, c5_1);
      c6_0 = fma(vec4<f32>(a1.z), b0, c6_0);
      c6_1 = fma(vec4<f32>(a1.z), b1, c6_1);
      c7_0 = fma(vec4<f32>(a1.w), b0, c7_0);
      c7_1 = fma(vec4<f32>(a1.w), b1, c7_1);
      c8_0 = fma(vec4<f32>(a2.x), b0, c8_0);
      c8_1 = fma(vec4<f32>(a2.x), b1, c8_1);
      c9_0 = fma(vec4<f32>(a2.y), b0, c9_0);
      c9_1 = fma(vec4<f32>(a2.y), b1, c9_1);
      c10_0 = fma(vec4<f32>(a2.z), b0, c10_0);
      c10_1 = fma(vec4<f32>(a2.z), b1, c10_1);
      c11_0 = fma(vec4<f32>(a2.w), b0, c11_0);
      c11_1 = fma(vec4<f32>(a2.w), b1, c11_1);
      c12_0 = fma(vec4<f32>(a3.x), b0, c12_0);
      c12_1 = fma(vec4<f32>(a3.x), b1, c12_1);
      c13_0 = fma(vec4<f32>(a3.y), b0, c13_0);
      c13_1 = fma(vec4<f32>(a3.y), b1, c13_1);
      c14_0 = fma(vec4<f32>(a3.z), b0, c14_0);
      c14_1 = fma(vec4<f32>(a3.z), b1, c14_1);
      c15_0 = fma(vec4<f32>(a3.w), b0, c15_0);
      c15_1 = fma(vec4<f32>(a3.w), b1, c15_1);
    }
    {
      let a0 = xs[(cur * 1024u + xb + 128u) / 4u];
      let a1 = xs[(cur * 1024u + xb + 160u) / 4u];
      let a2 = xs[(cur * 1024u + xb + 192u) / 4u];
      let a3 = xs[(cur * 1024u + xb + 224u) / 4u];
      let b0 = ws[(cur * 1024u + wb + 128u) / 4u];
      let b1 = ws[(cur * 1024u + wb + 192u) / 4u];
      c0_0 = fma(vec4<f32>(a0.x), b0, c0_0);
      c0_1 = fma(vec4<f32>(a0.x), b1, c0_1);
      c1_0 = fma(vec4<f32>(a0.y), b0, c1_0);
      c1_1 = fma(vec4<f32>(a0.y), b1, c1_1);
      c2_0 = fma(vec4<f32>(a0.z), b0, c2_0);
      c2_1 = fma(vec4<f32>(a0.z), b1, c2_1);
      c3_0 = fma(vec4<f32>(a0.w), b0, c3_0);
      c3_1 = fma(vec4<f32>(a0.w), b1, c3_1);
      c4_0 = fma(vec4<f32>(a1.x), b0, c4_0);
      c4_1 = fma(vec4<f32>(a1.x), b1, c4_1);
      c5_0 = fma(vec4<f32>(a1.y), b0, c5_0);
      c5_1 = fma(vec4<f32>(a1.y), b1, c5_1);
      c6_0 = fma(vec4<f32>(a1.z), b0, c6_0);
      c6_1 = fma(vec4<f32>(a1.z), b1, c6_1);
      c7_0 = fma(vec4<f32>(a1.w), b0, c7_0);
      c7_1 = fma(vec4<f32>(a1.w), b1, c7_1);
      c8_0 = fma(vec4<f32>(a2.x), b0, c8_0);
      c8_1 = fma(vec4<f32>(a2.x), b1, c8_1);
      c9_0 = fma(vec4<f32>(a2.y), b0, c9_0);
      c9_1 = fma(vec4<f32>(a2.y), b1, c9_1);
      c10_0 = fma(vec4<f32>(a2.z), b0, c10_0);
      c10_1 = fma(vec4<f32>(a2.z), b1, c10_1);
      c11_0 = fma(vec4<f32>(a2.w), b0, c11_0);
      c11_1 = fma(vec4<f32>(a2.w), b1, c11_1);
      c12_0 = fma(vec4<f32>(a3.x), b0, c12_0);
      c12_1 = fma(vec4<f32>(a3.x), b1, c12_1);
      c13_0 = fma(vec4<f32>(a3.y), b0, c13_0);
      c13_1 = fma(vec4<f32>(a3.y), b1, c13_1);
      c14_0 = fma(vec4<f32>(a3.z), b0, c14_0);
      c14_1 = fma(vec4<f32>(a3.z), b1, c14_1);
      c15_0 = fma(vec4<f32>(a3.w), b0, c15_0);
      c15_1 = fma(vec4<f32>(a3.w), b1, c15_1);
    }
    {
      let a0 = xs[(cur * 1024u + xb + 256u) / 4u];
      let a1 = xs[(cur * 1024u + xb + 288u) / 4u];
      let a2 = xs[(cur * 1024u + xb + 320u) / 4u];
      let a3 = xs[(cur * 1024u + xb + 352u) / 4u];
      let b0 = ws[(cur * 1024u + wb + 256u) / 4u];
      let b1 = ws[(cur * 1024u + wb + 320u) / 4u];
      c0_0 = fma(vec4<f32>(a0.x), b0, c0_0);
      c0_1 = fma(vec4<f32>(a0.x), b1, c0_1);
      c1_0 = fma(vec4<f32>(a0.y), b0, c1_0);
      c1_1 = fma(vec4<f32>(a0.y), b1, c1_1);
      c2_0 = fma(vec4<f32>(a0.z), b0, c2_0);
      c2_1 = fma(vec4<f32>(a0.z), b1, c2_1);
      c3_0 = fma(vec4<f32>(a0.w), b0, c3_0);
      c3_1 = fma(vec4<f32>(a0.w), b1, c3_1);
      c4_0 = fma(vec4<f32>(a1.x), b0, c4_0);
      c4_1 = fma(vec4<f32>(a1.x), b1, c4_1);
      c5_0 = fma(vec4<f32>(a1.y), b0, c5_0);
      c5_1 = fma(vec4<f32>(a1.y), b1, c5_1);
      c6_0 = fma(vec4<f32>(a1.z), b0, c6_0);
      c6_1 = fma(vec4<f32>(a1.z), b1, c6_1);
      c7_0 = fma(vec4<f32>(a1.w), b0, c7_0);
      c7_1 = fma(vec4<f32>(a1.w), b1, c7_1);
      c8_0 = fma(vec4<f32>(a2.x), b0, c8_0);
      c8_1 = fma(vec4<f32>(a2.x), b1, c8_1);
      c9_0 = fma(vec4<f32>(a2.y), b0, c9_0);
      c9_1 = fma(vec4<f32>(a2.y), b1, c9_1);
      c10_0 = fma(vec4<f32>(a2.z), b0, c10_0);
      c10_1 = fma(vec4<f32>(a2.z), b1, c10_1);
      c11_0 = fma(vec4<f32>(a2.w), b0, c11_0);
      c11_1 = fma(vec4<f32>(a2.w), b1, c11_1);
      c12_0 = fma(vec4<f32>(a3.x), b0, c12_0);
      c12_1 = fma(vec4<f32>(a3.x), b1, c12_1);
      c13_0 = fma(vec4<f32>(a3.y), b0, c13_0);
      c13_1 = fma(vec4<f32>(a3.y), b1, c13_1);
      c14_0 = fma(vec4<f32>(a3.z), b0, c14_0);
      c14_1 = fma(vec4<f32>(a3.z), b1, c14_1);
      c15_0 = fma(vec4<f32>(a3.w), b0, c15_0);
      c15_1 = fma(vec4<f32>(a3.w), b1, c15_1);
    }
    {
      let a0 = xs[(cur * 1024u + xb + 384u) / 4u];
      let a1 = xs[(cur * 1024u + xb + 416u) / 4u];
      let a2 = xs[(cur * 1024u + xb + 448u) / 4u];
      let a3 = xs[(cur * 1024u + xb + 480u) / 4u];
      let b0 = ws[(cur * 1024u + wb + 384u) / 4u];
      let b1 = ws[(cur * 1024u + wb + 448u) / 4u];
      c0_0 = fma(vec4<f32>(a0.x), b0, c0_0);
      c0_1 = fma(vec4<f32>(a0.x), b1, c0_1);
      c1_0 = fma(vec4<f32>(a0.y), b0, c1_0);
      c1_1 = fma(vec4<f32>(a0.y), b1, c1_1);
      c2_0 = fma(vec4<f32>(a0.z), b0, c2_0);
      c2_1 = fma(vec4<f32>(a0.z), b1, c2_1);
      c3_0 = fma(vec4<f32>(a0.w), b0, c3_0);
      c3_1 = fma(vec4<f32>(a0.w), b1, c3_1);
      c4_0 = fma(vec4<f32>(a1.x), b0, c4_0);
      c4_1 = fma(vec4<f32>(a1.x), b1, c4_1);
      c5_0 = fma(vec4<f32>(a1.y), b0, c5_0);
      c5_1 = fma(vec4<f32>(a1.y), b1, c5_1);
      c6_0 = fma(vec4<f32>(a1.z), b0, c6_0);
      c6_1 = fma(vec4<f32>(a1.z), b1, c6_1);
      c7_0 = fma(vec4<f32>(a1.w), b0, c7_0);
      c7_1 = fma(vec4<f32>(a1.w), b1, c7_1);
      c8_0 = fma(vec4<f32>(a2.x), b0, c8_0);
      c8_1 = fma(vec4<f32>(a2.x), b1, c8_1);
      c9_0 = fma(vec4<f32>(a2.y), b0, c9_0);
      c9_1 = fma(vec4<f32>(a2.y), b1, c9_1);
      c10_0 = fma(vec4<f32>(a2.z), b0, c10_0);
      c10_1 = fma(vec4<f32>(a2.z), b1, c10_1);
      c11_0 = fma(vec4<f32>(a2.w), b0, c11_0);
      c11_1 = fma(vec4<f32>(a2.w), b1, c11_1);
      c12_0 = fma(vec4<f32>(a3.x), b0, c12_0);
      c12_1 = fma(vec4<f32>(a3.x), b1, c12_1);
      c13_0 = fma(vec4<f32>(a3.y), b0, c13_0);
      c13_1 = fma(vec4<f32>(a3.y), b1, c13_1);
      c14_0 = fma(vec4<f32>(a3.z), b0, c14_0);
      c14_1 = fma(vec4<f32>(a3.z), b1, c14_1);
      c15_0 = fma(vec4<f32>(a3.w), b0, c15_0);
      c15_1 = fma(vec4<f32>(a3.w), b1, c15_1);
    }
    {
      let a0 = xs[(cur * 1024u + xb + 512u) / 4u];
      let a1 = xs[(cur * 1024u + xb + 544u) / 4u];
      let a2 = xs[(cur * 1024u + xb + 576u) / 4u];
      let a3 = xs[(cur * 1024u + xb + 608u) / 4u];
      let b0 = ws[(cur * 1024u + wb + 512u) / 4u];
      let b1 = ws[(cur * 1024u + wb + 576u) / 4u];
      c0_0 = fma(vec4<f32>(a0.x), b0, c0_0);
      c0_1 = fma(vec4<f32>(a0.x), b1, c0_1);
      c1_0 = fma(vec4<f32>(a0.y), b0, c1_0);
      c1_1 = fma(vec4<f32>(a0.y), b1, c1_1);
      c2_0 = fma(vec4<f32>(a0.z), b0, c2_0);
      c2_1 = fma(vec4<f32>(a0.z), b1, c2_1);
      c3_0 = fma(vec4<f32>(a0.w), b0, c3_0);
      c3_1 = fma(vec4<f32>(a0.w), b1, c3_1);
      c4_0 = fma(vec4<f32>(a1.x), b0, c4_0);
      c4_1 = fma(vec4<f32>(a1.x), b1, c4_1);
      c5_0 = fma(vec4<f32>(a1.y), b0, c5_0);
      c5_1 = fma(vec4<f32>(a1.y), b1, c5_1);
      c6_0 = fma(vec4<f32>(a1.z), b0, c6_0);
      c6_1 = fma(vec4<f32>(a1.z), b1, c6_1);
      c7_0 = fma(vec4<f32>(a1.w), b0, c7_0);
      c7_1 = fma(vec4<f32>(a1.w), b1, c7_1);
      c8_0 = fma(vec4<f32>(a2.x), b0, c8_0);
      c8_1 = fma(vec4<f32>(a2.x), b1, c8_1);
      c9_0 = fma(vec4<f32>(a2.y), b0, c9_0);
      c9_1 = fma(vec4<f32>(a2.y), b1, c9_1);
      c10_0 = fma(vec4<f32>(a2.z), b0, c10_0);
      c10_1 = fma(vec4<f32>(a2.z), b1, c10_1);
      c11_0 = fma(vec4<f32>(a2.w), b0, c11_0);
      c11_1 = fma(vec4<f32>(a2.w), b1, c11_1);
      c12_0 = fma(vec4<f32>(a3.x), b0, c12_0);
      c12_1 = fma(vec4<f32>(a3.x), b1, c12_1);
      c13_0 = fma(vec4<f32>(a3.y), b0, c13_0);
      c13_1 = fma(vec4<f32>(a3.y), b1, c13_1);
      c14_0 = fma(vec4<f32>(a3.z), b0, c14_0);
      c14_1 = fma(vec4<f32>(a3.z), b1, c14_1);
      c15_0 = fma(vec4<f32>(a3.w), b0, c15_0);
      c15_1 = fma(vec4<f32>(a3.w), b1, c15_1);
    }
    {
      let a0 = xs[(cur * 1024u + xb + 640u) / 4u];
      let a1 = xs[(cur * 1024u + xb + 672u) / 4u];
      let a2 = xs[(cur * 1024u + xb + 704u) / 4u];
      let a3 = xs[(cur * 1024u + xb + 736u) / 4u];
      let b0 = ws[(cur * 1024u + wb + 640u) / 4u];
      let b1 = ws[(cur * 1024u + wb + 704u) / 4u];
      c0_0 = fma(vec4<f32>(a0.x), b0, c0_0);
      c0_1 = fma(vec4<f32>(a0.x), b1, c0_1);
      c1_0 = fma(vec4<f32>(a0.y), b0, c1_0);
      c1_1 = fma(vec4<f32>(a0.y), b1, c1_1);
      c2_0 = fma(vec4<f32>(a0.z), b0, c2_0);
      c2_1 = fma(vec4<f32>(a0.z), b1, c2_1);
      c3_0 = fma(vec4<f32>(a0.w), b0, c3_0);
      c3_1 = fma(vec4<f32>(a0.w), b1, c3_1);
      c4_0 = fma(vec4<f32>(a1.x), b0, c4_0);
      c4_1 = fma(vec4<f32>(a1.x), b1, c4_1);
      c5_0 = fma(vec4<f32>(a1.y), b0, c5_0);
      c5_1 = fma(vec4<f32>(a1.y), b1, c5_1);
      c6_0 = fma(vec4<f32>(a1.z), b0, c6_0);
      c6_1 = fma(vec4<f32>(a1.z), b1, c6_1);
      c7_0 = fma(vec4<f32>(a1.w), b0, c7_0);
      c7_1 = fma(vec4<f32>(a1.w), b1, c7_1);
      c8_0 = fma(vec4<f32>(a2.x), b0, c8_0);
      c8_1 = fma(vec4<f32>(a2.x), b1, c8_1);
      c9_0 = fma(vec4<f32>(a2.y), b0, c9_0);
      c9_1 = fma(vec4<f32>(a2.y), b1, c9_1);
      c10_0 = fma(vec4<f32>(a2.z), b0, c10_0);
      c10_1 = fma(vec4<f32>(a2.z), b1, c10_1);
      c11_0 = fma(vec4<f32>(a2.w), b0, c11_0);
      c11_1 = fma(vec4<f32>(a2.w), b1, c11_1);
      c12_0 = fma(vec4<f32>(a3.x), b0, c12_0);
      c12_1 = fma(vec4<f32>(a3.x), b1, c12_1);
      c13_0 = fma(vec4<f32>(a3.y), b0, c13_0);
      c13_1 = fma(vec4<f32>(a3.y), b1, c13_1);
      c14_0 = fma(vec4<f32>(a3.z), b0, c14_0);
      c14_1 = fma(vec4<f32>(a3.z), b1, c14_1);
      c15_0 = fma(vec4<f32>(a3.w), b0, c15_0);
      c15_1 = fma(vec4<f32>(a3.w), b1, c15_1);
    }
    {
      let a0 = xs[(cur * 1024u + xb + 768u) / 4u];
      let a1 = xs[(cur * 1024u + xb + 800u) / 4u];
      let a2 = xs[(cur * 1024u + xb + 832u) / 4u];
      let a3 = xs[(cur * 1024u + xb + 864u) / 4u];
      let b0 = ws[(cur * 1024u + wb + 768u) / 4u];
      let b1 = ws[(cur * 1024u + wb + 832u) / 4u];
      c0_0 = fma(vec4<f32>(a0.x), b0, c0_0);
      c0_1 = fma(vec4<f32>(a0.x), b1, c0_1);
      c1_0 = fma(vec4<f32>(a0.y), b0, c1_0);
      c1_1 = fma(vec4<f32>(a0.y), b1, c1_1);
      c2_0 = fma(vec4<f32>(a0.z), b0, c2_0);
      c2_1 = fma(vec4<f32>(a0.z), b1, c2_1);
      c3_0 = fma(vec4<f32>(a0.w), b0, c3_0);
      c3_1 = fma(vec4<f32>(a0.w), b1, c3_1);
      c4_0 = fma(vec4<f32>(a1.x), b0, c4_0);
      c4_1 = fma(vec4<f32>(a1.x), b1, c4_1);
      c5_0 = fma(vec4<f32>(a1.y), b0, c5_0);
      c5_1 = fma(vec4<f32>(a1.y), b1, c5_1);
      c6_0 = fma(vec4<f32>(a1.z), b0, c6_0);
      c6_1 = fma(vec4<f32>(a1.z), b1, c6_1);
      c7_0 = fma(vec4<f32>(a1.w), b0, c7_0);
      c7_1 = fma(vec4<f32>(a1.w), b1, c7_1);
      c8_0 = fma(vec4<f32>(a2.x), b0, c8_0);
      c8_1 = fma(vec4<f32>(a2.x), b1, c8_1);
      c9_0 = fma(vec4<f32>(a2.y), b0, c9_0);
      c9_1 = fma(vec4<f32>(a2.y), b1, c9_1);
      c10_0 = fma(vec4<f32>(a2.z), b0, c10_0);
      c10_1 = fma(vec4<f32>(a2.z), b1, c10_1);
      c11_0 = fma(vec4<f32>(a2.w), b0, c11_0);
      c11_1 = fma(vec4<f32>(a2.w), b1, c11_1);
      c12_0 = fma(vec4<f32>(a3.x), b0, c12_0);
      c12_1 = fma(vec4<f32>(a3.x), b1, c12_1);
      c13_0 = fma(vec4<f32>(a3.y), b0, c13_0);
      c13_1 = fma(vec4<f32>(a3.y), b1, c13_1);
      c14_0 = fma(vec4<f32>(a3.z), b0, c14_0);
      c14_1 = fma(vec4<f32>(a3.z), b1, c14_1);
      c15_0 = fma(vec4<f32>(a3.w), b0, c15_0);
      c15_1 = fma(vec4<f32>(a3.w), b1, c15_1);
    }
    {
      let a0 = xs[(cur * 1024u + xb + 896u) / 4u];
      let a1 = xs[(cur * 1024u + xb + 928u) / 4u];
      let a2 = xs[(cur * 1024u + xb + 960u) / 4u];
      let a3 = xs[(cur * 1024u + xb + 992u) / 4u];
      let b0 = ws[(cur * 1024u + wb + 896u) / 4u];
      let b1 = ws[(cur * 1024u + wb + 960u) / 4u];
      c0_0 = fma(vec4<f32>(a0.x), b0, c0_0);
      c0_1 = fma(vec4<f32>(a0.x), b1, c0_1);
      c1_0 = fma(vec4<f32>(a0.y), b0, c1_0);
      c1_1 = fma(vec4<f32>(a0.y), b1, c1_1);
      c2_0 = fma(vec4<f32>(a0.z), b0, c2_0);
      c2_1 = fma(vec4<f32>(a0.z), b1, c2_1);
      c3_0 = fma(vec4<f32>(a0.w), b0, c3_0);
      c3_1 = fma(vec4<f32>(a0.w), b1, c3_1);
      c4_0 = fma(vec4<f32>(a1.x), b0, c4_0);
      c4_1 = fma(vec4<f32>(a1.x), b1, c4_1);
      c5_0 = fma(vec4<f32>(a1.y), b0, c5_0);
      c5_1 = fma(vec4<f32>(a1.y), b1, c5_1);
      c6_0 = fma(vec4<f32>(a1.z), b0, c6_0);
      c6_1 = fma(vec4<f32>(a1.z), b1, c6_1);
      c7_0 = fma(vec4<f32>(a1.w), b0, c7_0);
      c7_1 = fma(vec4<f32>(a1.w), b1, c7_1);
      c8_0 = fma(vec4<f32>(a2.x), b0, c8_0);
      c8_1 = fma(vec4<f32>(a2.x), b1, c8_1);
      c9_0 = fma(vec4<f32>(a2.y), b0, c9_0);
      c9_1 = fma(vec4<f32>(a2.y), b1, c9_1);
      c10_0 = fma(vec4<f32>(a2.z), b0, c10_0);
      c10_1 = fma(vec4<f32>(a2.z), b1, c10_1);
      c11_0 = fma(vec4<f32>(a2.w), b0, c11_0);
      c11_1 = fma(vec4<f32>(a2.w), b1, c11_1);
      c12_0 = fma(vec4<f32>(a3.x), b0, c12_0);
      c12_1 = fma(vec4<f32>(a3.x), b1, c12_1);
      c13_0 = fma(vec4<f32>(a3.y), b0, c13_0);
      c13_1 = fma(vec4<f32>(a3.y), b1, c13_1);
      c14_0 = fma(vec4<f32>(a3.z), b0, c14_0);
      c14_1 = fma(vec4<f32>(a3.z), b1, c14_1);
      c15_0 = fma(vec4<f32>(a3.w), b0, c15_0);
      c15_1 = fma(vec4<f32>(a3.w), b1, c15_1);
    }
    cur = 1u - cur;
    xs[cur * 256u + (warp + 0u) * 32u + ln] = xr0; ws[cur * 256u + (warp + 0u) * 32u + ln] = wr0;
    xs[cur * 256u + (warp + 4u) * 32u + ln] = xr1; ws[cur * 256u + (warp + 4u) * 32u + ln] = wr1;
    workgroupBarrier();
  }
  { let r = row0 + xb + 0u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c0_0; } }
  { let r = row0 + xb + 0u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c0_1; } }
  { let r = row0 + xb + 1u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c1_0; } }
  { let r = row0 + xb + 1u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c1_1; } }
  { let r = row0 + xb + 2u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c2_0; } }
  { let r = row0 + xb + 2u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c2_1; } }
  { let r = row0 + xb + 3u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c3_0; } }
  { let r = row0 + xb + 3u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c3_1; } }
  { let r = row0 + xb + 32u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c4_0; } }
  { let r = row0 + xb + 32u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c4_1; } }
  { let r = row0 + xb + 33u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c5_0; } }
  { let r = row0 + xb + 33u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c5_1; } }
  { let r = row0 + xb + 34u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c6_0; } }
  { let r = row0 + xb + 34u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c6_1; } }
  { let r = row0 + xb + 35u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c7_0; } }
  { let r = row0 + xb + 35u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c7_1; } }
  { let r = row0 + xb + 64u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c8_0; } }
  { let r = row0 + xb + 64u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c8_1; } }
  { let r = row0 + xb + 65u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c9_0; } }
  { let r = row0 + xb + 65u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c9_1; } }
  { let r = row0 + xb + 66u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c10_0; } }
  { let r = row0 + xb + 66u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c10_1; } }
  { let r = row0 + xb + 67u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c11_0; } }
  { let r = row0 + xb + 67u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c11_1; } }
  { let r = row0 + xb + 96u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c12_0; } }
  { let r = row0 + xb + 96u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c12_1; } }
  { let r = row0 + xb + 97u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c13_0; } }
  { let r = row0 + xb + 97u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c13_1; } }
  { let r = row0 + xb + 98u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c14_0; } }
  { let r = row0 + xb + 98u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c14_1; } }
  { let r = row0 + xb + 99u; let c = col0 + wb + 0u; if (r < K && c < K) { g[(r * K + c) / 4u] += c15_0; } }
  { let r = row0 + xb + 99u; let c = col0 + wb + 64u; if (r < K && c < K) { g[(r * K + c) / 4u] += c15_1; } }
}
