// y = x W^T + bias in single precision, for widths that are multiples of 4: 128 x 128 tiles, 128 invocations
// with 16 x 8 results each, 8 inputs at a time through 16 KiB of workgroup memory, the next 8 fetched
// into registers before the products. Operands may be stored in half precision.
//
// Unrolled: a loop over an array of results costs a third of the speed.

alias X4 = vec4<f32>;
alias W4 = vec4<f32>;
alias Y4 = vec4<f32>;

struct Params { rows: u32, columns: u32, inner: u32, has_bias: u32, row_tiles: u32, column_tiles: u32, stride: u32, reserved: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X4>;
@group(0) @binding(2) var<storage, read> w: array<W4>;
@group(0) @binding(3) var<storage, read_write> y: array<Y4>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
var<workgroup> xs: array<vec4<f32>, 512>;
var<workgroup> ws: array<vec4<f32>, 512>;
@compute @workgroup_size(128)
fn matmul(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let linear = wid.x + wid.y * nwg.x;
  if (linear >= params.row_tiles * params.column_tiles) { return; }
  let band = linear / (8u * params.column_tiles);
  let first = band * 8u;
  let height = min(8u, params.row_tiles - first);
  let inside = linear - band * 8u * params.column_tiles;
  let row0 = (first + inside % height) * 128u;
  let col0 = (inside / height) * 128u;
  let K = params.inner;
  let warp = lid / 32u; let ln = lid % 32u;
  let ty = (warp / 2u) * 4u + ln / 8u; let tx = (warp % 2u) * 8u + ln % 8u;
  let kc = (lid % 2u) * 4u; let lr = lid / 2u;
  var xo0 = (min(row0 + lr + 0u, params.rows - 1u) * K + kc) / 4u;
  var xo1 = (min(row0 + lr + 64u, params.rows - 1u) * K + kc) / 4u;
  var wo0 = (min(col0 + lr + 0u, params.columns - 1u) * K + kc) / 4u;
  var wo1 = (min(col0 + lr + 64u, params.columns - 1u) * K + kc) / 4u;
  var xr0: vec4<f32>;
  var xr1: vec4<f32>;
  var wr0: vec4<f32>;
  var wr1: vec4<f32>;
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
  if (0u + kc < K) { xr0 = vec4<f32>(x[xo0]); xr1 = vec4<f32>(x[xo1]); wr0 = vec4<f32>(w[wo0]); wr1 = vec4<f32>(w[wo1]); } else { xr0 = vec4<f32>(); xr1 = vec4<f32>(); wr0 = vec4<f32>(); wr1 = vec4<f32>(); }
  xo0 += 2u;
  xo1 += 2u;
  wo0 += 2u;
  wo1 += 2u;
  { let o = 0u * 1024u + kc * 128u + lr + 0u; xs[(o + 0u) / 4u][(o + 0u) % 4u] = xr0.x; xs[(o + 128u) / 4u][(o + 128u) % 4u] = xr0.y; xs[(o + 256u) / 4u][(o + 256u) % 4u] = xr0.z; xs[(o + 384u) / 4u][(o + 384u) % 4u] = xr0.w; }
  { let o = 0u * 1024u + kc * 128u + lr + 64u; xs[(o + 0u) / 4u][(o + 0u) % 4u] = xr1.x; xs[(o + 128u) / 4u][(o + 128u) % 4u] = xr1.y; xs[(o + 256u) / 4u][(o + 256u) % 4u] = xr1.z; xs[(o + 384u) / 4u][(o + 384u) % 4u] = xr1.w; }
  { let o = 0u * 1024u + kc * 128u + lr + 0u; ws[(o + 0u) / 4u][(o + 0u) % 4u] = wr0.x; ws[(o + 128u) / 4u][(o + 128u) % 4u] = wr0.y; ws[(o + 256u) / 4u][(o + 256u) % 4u] = wr0.z; ws[(o + 384u) / 4u][(o + 384u) % 4u] = wr0.w; }
  { let o = 0u * 1024u + kc * 128u + lr + 64u; ws[(o + 0u) / 4u][(o + 0u) % 4u] = wr1.x; ws[(o + 128u) / 4u][(o + 128u) % 4u] = wr1.y; ws[(o + 256u) / 4u][(o + 256u) % 4u] = wr1.z; ws[(o + 384u) / 4u][(o + 384u) % 4u] = wr1.w; }
  workgroupBarrier();
  var cur = 0u;
  for (var k = 0u; k < K; k += 8u) {
    if (k + 8u + kc < K) { xr0 = vec4<f32>(x[xo0]); xr1 = vec4<f32>(x[xo1]); wr0 = vec4<f32>(w[wo0]); wr1 = vec4<f32>(w[wo1]); } else { xr0 = vec4<f32>(); xr1 = vec4<f32>(); wr0 = vec4<f32>(); wr1 = vec4<f32>(); }
    xo0 += 2u;
    xo1 += 2u;
    wo0 += 2u;
    wo1 += 2u;
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
    { let o = cur * 1024u + kc * 128u + lr + 0u; xs[(o + 0u) / 4u][(o + 0u) % 4u] = xr0.x; xs[(o + 128u) / 4u][(o + 128u) % 4u] = xr0.y; xs[(o + 256u) / 4u][(o + 256u) % 4u] = xr0.z; xs[(o + 384u) / 4u][(o + 384u) % 4u] = xr0.w; }
    { let o = cur * 1024u + kc * 128u + lr + 64u; xs[(o + 0u) / 4u][(o + 0u) % 4u] = xr1.x; xs[(o + 128u) / 4u][(o + 128u) % 4u] = xr1.y; xs[(o + 256u) / 4u][(o + 256u) % 4u] = xr1.z; xs[(o + 384u) / 4u][(o + 384u) % 4u] = xr1.w; }
    { let o = cur * 1024u + kc * 128u + lr + 0u; ws[(o + 0u) / 4u][(o + 0u) % 4u] = wr0.x; ws[(o + 128u) / 4u][(o + 128u) % 4u] = wr0.y; ws[(o + 256u) / 4u][(o + 256u) % 4u] = wr0.z; ws[(o + 384u) / 4u][(o + 384u) % 4u] = wr0.w; }
    { let o = cur * 1024u + kc * 128u + lr + 64u; ws[(o + 0u) / 4u][(o + 0u) % 4u] = wr1.x; ws[(o + 128u) / 4u][(o + 128u) % 4u] = wr1.y; ws[(o + 256u) / 4u][(o + 256u) % 4u] = wr1.z; ws[(o + 384u) / 4u][(o + 384u) % 4u] = wr1.w; }
    workgroupBarrier();
  }
  let stride4 = params.stride / 4u;
  { let r = row0 + xb + 0u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c0_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c0_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 1u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c1_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c1_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 2u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c2_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c2_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 3u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c3_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c3_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 32u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c4_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c4_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 33u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c5_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c5_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 34u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c6_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c6_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 35u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c7_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c7_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 64u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c8_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c8_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 65u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c9_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c9_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 66u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c10_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c10_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 67u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c11_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c11_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 96u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c12_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c12_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 97u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c13_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c13_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 98u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c14_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c14_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
  { let r = row0 + xb + 99u; if (r < params.rows) {
    { let n = col0 + wb + 0u; if (n < params.columns) { var v = c15_0; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
    { let n = col0 + wb + 64u; if (n < params.columns) { var v = c15_1; if (params.has_bias != 0u) { v += vec4<f32>(bias[n], bias[n + 1u], bias[n + 2u], bias[n + 3u]); } y[r * stride4 + n / 4u] = Y4(v); } }
  } }
}
