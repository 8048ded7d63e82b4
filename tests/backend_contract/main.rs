//! Claim: every operation of every backend agrees with a plain `f64` loop as closely as
//! `backend::OPERATIONS` declares.
//!
//! One suite, run against each backend. Sizes are awkward on purpose (no multiples of any tile), and
//! every operation that walks several sequences is tested with more than one.

mod adjoints;
#[path = "../gpu/mod.rs"]
mod gpu;

use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use zprune::backend::cpu::{Bf16Kernel, Cpu, CpuBf16};
use zprune::backend::gpu::adapter::Tier;
use zprune::backend::moments::{Moments, Needs};
use zprune::backend::{Agreement, Backend, Columns, Compute, OPERATIONS, Predictions, RotaryTable};
use zprune::error::Result;
use zprune::linalg::Provider;
use zprune::prune::workbench::Workbench;
use zprune::spec::{Activation, AttentionSpec, NormKind};
use zprune::tensor::StorageType;

#[test]
fn cpu_keeps_the_contract() {
    let mut suite = Suite::new(Cpu, on_host);
    // Double precision sums: closer than the contract asks.
    suite.tighter = vec![
        ("accumulate squares", 1e-10),
        ("accumulate gram", 1e-10),
        ("accumulate cross", 1e-10),
        ("accumulate sums", 1e-10),
    ];
    suite.run().expect("the CPU backend computes");
}

#[test]
fn the_cpu_keeps_the_contract_in_bfloat16_with_every_kernel_it_has() {
    for kernel in Bf16Kernel::ALL {
        match CpuBf16::with(kernel) {
            Ok(cpu) => in_bfloat16(cpu),
            Err(error) => println!("not tested: {error}"),
        }
    }
}

fn in_bfloat16(cpu: CpuBf16) {
    let mut suite = Suite::new(cpu, on_host);
    println!("{:?}", suite.backend.device());
    suite.tighter = vec![
        ("accumulate squares", 1e-10),
        ("accumulate gram", 1e-10),
        ("accumulate cross", 1e-10),
        ("accumulate sums", 1e-10),
    ];
    // One rounding of 2^-9 of each operand; nothing but products rounds anything.
    suite.rounding = 1.0 / 128.0;
    suite.rounded = Some(&["linear", "attention", "log_likelihoods", "divergences"]);
    suite.run().expect("the CPU backend computes");
}

#[test]
fn the_gpu_keeps_the_contract_in_every_tier_it_has() {
    let Some(best) = gpu::best_tier() else { return };
    for tier in [Tier::Base, Tier::Subgroups, Tier::F16, Tier::Cooperative] {
        if tier > best {
            println!("tier {tier}: not offered here");
            continue;
        }
        let gpu = gpu::open(tier, Compute::F32);
        println!("tier {tier}: {} in f32", gpu.hardware().name());
        Suite::new(gpu, as_statistics)
            .run()
            .unwrap_or_else(|error| panic!("tier {tier}: {error}"));
        if tier >= Tier::F16 {
            let gpu = gpu::open(tier, Compute::F16);
            println!("tier {tier}: in f16");
            let mut suite = Suite::new(gpu, as_statistics);
            suite.rounding = 1.0 / 512.0;
            suite.run().unwrap_or_else(|error| panic!("tier {tier}, f16: {error}"));
        }
    }
}

/// What a backend's moments hold: sums of squares, the Gram matrix and the sums over all sequences.
struct Found {
    squares: Vec<f64>,
    gram: Array2<f64>,
    cross: Array2<f64>,
    goal: Array2<f64>,
    sums: Vec<f64>,
}

/// How moments are read.
type Read<B> = fn(&B, &<B as Backend>::Moments) -> Result<Found>;

/// The lengths of the sequences whose moments are gathered, in two parts.
const SEQUENCES: [&[f64]; 2] = [&[350.0, 350.0], &[333.0]];

/// The CPU's moments are on the host.
fn on_host<B>(_: &B, moments: &Moments) -> Result<Found> {
    assert_eq!(moments.tokens, 1033);
    let found = moments.sums.as_ref().expect("sums were asked for");
    assert_eq!(found.weights, SEQUENCES.concat());
    let sums = (0..moments.squares.len()).map(|feature| found.sums.iter().map(|sums| sums[feature]).sum());
    Ok(Found {
        squares: moments.squares.clone(),
        gram: moments.gram.clone().expect("a Gram matrix was asked for").into_owned(),
        cross: moments.cross.clone().expect("products were asked for").into_owned(),
        goal: moments.goal.clone().expect("they were asked for").into_owned(),
        sums: sums.collect(),
    })
}

/// As pruning sees moments: as statistics of a layer, here of one sequence.
fn as_statistics<B: Workbench>(backend: &B, moments: &B::Moments) -> Result<Found> {
    let statistics = backend.statistics(moments, 1, Provider::Faer)?;
    let mut weight = backend.upload_weight(Array2::zeros((1, 1)))?;
    let piece = backend.workpiece(&mut weight, StorageType::F32, &statistics);
    let gram = piece.read(&piece.gram()?)?;
    let means = piece.means()?.mean.iter();
    Ok(Found {
        squares: piece.squared_norms()?.to_vec(),
        gram: gram.mapv(f64::from),
        cross: piece.read(&piece.cross()?)?.mapv(f64::from),
        goal: piece.read(&piece.goal_gram()?)?.mapv(f64::from),
        sums: means.map(|mean| mean * 1033.0).collect(),
    })
}

struct Suite<B: Backend> {
    backend: B,
    read: Read<B>,
    /// Operations that must agree to a smaller relative difference than the contract's.
    tighter: Vec<(&'static str, f64)>,
    /// What roundings of stored values and operands may add to a bound, as a part of the largest value. In half
    /// precision 2^-9: one rounding of each operand and of the result.
    rounding: f64,
    /// The operations that round, if not all do.
    rounded: Option<&'static [&'static str]>,
    random: ChaCha8Rng,
    tested: Vec<&'static str>,
    failures: Vec<String>,
}

impl<B: Backend> Suite<B> {
    fn new(backend: B, read: Read<B>) -> Self {
        Suite {
            backend,
            read,
            tighter: Vec::new(),
            rounding: 0.0,
            rounded: None,
            random: ChaCha8Rng::seed_from_u64(15),
            tested: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn run(mut self) -> Result<()> {
        self.transfer()?;
        self.embedding()?;
        self.elementwise()?;
        self.norms()?;
        self.linear()?;
        self.rotate()?;
        self.attention()?;
        self.likelihoods()?;
        self.divergences()?;
        self.likeliest()?;
        self.distances()?;
        self.moments()?;
        self.adjoints()?;
        let declared: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
        let mut tested: Vec<&str> = Vec::new();
        for name in &self.tested {
            if !tested.contains(name) {
                tested.push(name);
            }
        }
        assert_eq!(tested, declared, "the suite must cover every declared operation");
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        Ok(())
    }

    fn normal(&mut self, rows: usize, columns: usize) -> Array2<f32> {
        let random = &mut self.random;
        // A sum of uniforms: near enough to normal, and independent of a library's normal sampler.
        Array2::from_shape_fn((rows, columns), |_| (0..6).map(|_| random.random::<f32>() - 0.5).sum())
    }

    fn check(&mut self, operation: &'static str, case: &str, got: &Array2<f32>, want: &Array2<f64>) {
        self.check_wide(operation, case, &got.mapv(f64::from), want);
    }

    fn check_wide(&mut self, operation: &'static str, case: &str, got: &Array2<f64>, want: &Array2<f64>) {
        assert_eq!(got.dim(), want.dim(), "{operation}, {case}");
        self.tested.push(operation);
        let (_, agreement) = OPERATIONS
            .iter()
            .find(|(name, _)| *name == operation)
            .expect("only declared operations are tested");
        let largest = want.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let tighter = self.tighter.iter().find(|(name, _)| *name == operation);
        let mut bound = match (agreement, tighter) {
            (_, Some((_, rel))) => rel * largest,
            (Agreement::Exact, None) => 0.0,
            (Agreement::Close { abs, rel }, None) => abs + rel * largest,
        };
        if self.rounded.is_none_or(|rounded| rounded.contains(&operation)) {
            bound += largest * self.rounding;
        }
        let worst = got
            .iter()
            .zip(want)
            .map(|(got, want)| (got - want).abs())
            .fold(0.0f64, |worst, error| {
                if error.is_nan() {
                    f64::INFINITY
                } else {
                    worst.max(error)
                }
            });
        if worst > bound {
            self.failures.push(format!(
                "{}: {operation}, {case}: differs by {worst:.2e}, allowed {bound:.2e}",
                self.backend.name()
            ));
        }
    }

    fn transfer(&mut self) -> Result<()> {
        let x = self.normal(37, 19);
        let there = self.backend.upload(x.view())?;
        let back = self.backend.download(&there)?;
        self.check("upload and download", "37 x 19", &back, &wide(&x));
        let there = self.backend.upload(x.t())?;
        let back = self.backend.download(&there)?;
        self.check(
            "upload and download",
            "a transposed view",
            &back,
            &wide(&x.t().to_owned()),
        );
        for (case, host) in [
            ("37 x 19", x.clone()),
            ("a transposed matrix", x.clone().reversed_axes()),
        ] {
            let want = wide(&host);
            let there = self.backend.upload_weight(host)?;
            let back = self.backend.download_weight(&there)?;
            self.check("upload_weight and download_weight", case, &back, &want);
        }
        // More than is read at a time, in half precision too.
        let large = Array2::from_shape_fn((4101, 4099), |(row, column)| ((row * 4099 + column) % 2047) as f32);
        let there = self.backend.upload(large.view())?;
        let back = self.backend.download(&there)?;
        self.check("upload and download", "a large matrix", &back, &wide(&large));
        Ok(())
    }

    fn embedding(&mut self) -> Result<()> {
        let table = self.normal(11, 13);
        let ids: Vec<u32> = (0..42).map(|t| t * 7 % 11).collect();
        let want = Array2::from_shape_fn((42, 13), |(t, f)| f64::from(table[[ids[t] as usize, f]]));
        let table = self.backend.upload_weight(table)?;
        let mut x = self.backend.embed(&table, &ids)?;
        let got = self.backend.download(&x)?;
        self.check("embed", "42 tokens", &got, &want);

        let positions = self.normal(23, 13);
        let want = Array2::from_shape_fn((42, 13), |(t, f)| want[[t, f]] + f64::from(positions[[2 + t % 21, f]]));
        let positions = self.backend.upload(positions.view())?;
        self.backend.add_positions(&mut x, &positions, 2, 21)?;
        let got = self.backend.download(&x)?;
        self.check("add_positions", "2 sequences of 21", &got, &want);
        Ok(())
    }

    fn elementwise(&mut self) -> Result<()> {
        // Numbers of elements that are multiples of 4, and one that is not.
        for (rows, columns) in [(301, 129), (300, 129), (37, 64)] {
            let case = format!("{rows} x {columns}");
            let (x, y) = (self.normal(rows, columns), self.normal(rows, columns));
            let want = wide(&x) + wide(&y);
            let mut there = self.backend.upload(x.view())?;
            let other = self.backend.upload(y.view())?;
            self.backend.add(&mut there, &other)?;
            let got = self.backend.download(&there)?;
            self.check("add", &case, &got, &want);

            // A sum in single precision of parts that may be stored in half precision, and the sum as products read it.
            let mut sum = self.backend.zeros(rows, columns)?;
            self.backend.add(&mut sum, &other)?;
            let got = self.backend.download(&sum)?;
            self.check("add", &format!("{case}: to zeros"), &got, &wide(&y));
            let operand = self.backend.as_operand(&sum)?;
            let got = self.backend.download(operand.as_ref().unwrap_or(&sum))?;
            self.check("add", &format!("{case}: as an operand"), &got, &wide(&y));

            let mut there = self.backend.upload(x.view())?;
            self.backend.scale(&mut there, 1.7)?;
            let got = self.backend.download(&there)?;
            self.check("scale", &case, &got, &(wide(&x) * f64::from(1.7f32)));
        }
        let x = self.normal(301, 129);
        let factors: Vec<f32> = (0..301).map(|row| (row % 7) as f32 / 3.0).collect();
        let mut there = self.backend.upload(x.view())?;
        self.backend.scale_rows(&mut there, &factors)?;
        let got = self.backend.download(&there)?;
        let want = Array2::from_shape_fn(x.dim(), |(row, column)| {
            f64::from(x[[row, column]]) * f64::from(factors[row])
        });
        self.check("scale_rows", "301 x 129", &got, &want);

        for (case, columns) in [
            ("one run", (43, 50, 50, 1)),
            ("runs with gaps", (5, 7, 31, 4)),
            ("everything", (0, 129, 129, 1)),
        ] {
            let (first, width, stride, count) = columns;
            let want = Array2::from_shape_fn((301, width * count), |(t, column)| {
                f64::from(x[[t, first + column / width * stride + column % width]])
            });
            let there = self.backend.upload(x.view())?;
            let columns = Columns {
                first,
                width,
                stride,
                count,
            };
            let got = self.backend.columns(&there, columns)?;
            let got = self.backend.download(&got)?;
            self.check("columns", case, &got, &want);
        }
        let even = self.normal(6, 10);
        let there = self.backend.upload(even.view())?;
        let whole = Columns {
            first: 0,
            width: 10,
            stride: 10,
            count: 1,
        };
        let got = self.backend.download(&self.backend.columns(&there, whole)?)?;
        self.check("columns", "everything, 6 x 10", &got, &wide(&even));
        let chosen: Vec<u32> = (0..517).map(|t| t * 97 % 301).collect();
        let want = Array2::from_shape_fn((517, 129), |(t, column)| f64::from(x[[chosen[t] as usize, column]]));
        let there = self.backend.upload(x.view())?;
        let got = self.backend.download(&self.backend.rows(&there, &chosen)?)?;
        self.check("rows", "517 of 301, some twice", &got, &want);
        Ok(())
    }

    fn norms(&mut self) -> Result<()> {
        let x = self.normal(150, 257) * 3.0 + 0.7;
        let (gain, bias) = (self.normal(1, 257), self.normal(1, 257));
        let there = self.backend.upload(x.view())?;
        let there_gain = self.backend.upload_vector(gain.row(0))?;
        let there_bias = self.backend.upload_vector(bias.row(0))?;
        for (case, kind, with) in [
            ("rms", NormKind::Rms, (true, false)),
            ("layer", NormKind::Layer, (true, true)),
            ("layer without parameters", NormKind::Layer, (false, false)),
        ] {
            let want = Array2::from_shape_fn(x.dim(), |(t, f)| {
                let row = x.row(t).mapv(f64::from);
                let mean = if kind == NormKind::Rms {
                    0.0
                } else {
                    row.mean().unwrap_or(0.0)
                };
                let variance = row.mapv(|v| (v - mean).powi(2)).mean().unwrap_or(0.0);
                let scaled = (row[f] - mean) / (variance + 1e-5f32 as f64).sqrt();
                let gain = if with.0 { f64::from(gain[[0, f]]) } else { 1.0 };
                scaled * gain + if with.1 { f64::from(bias[[0, f]]) } else { 0.0 }
            });
            let gain = with.0.then_some(&there_gain);
            let got = self
                .backend
                .normalise(kind, 1e-5, 257, gain, with.1.then_some(&there_bias), &there)?;
            let got = self.backend.download(&got)?;
            self.check("normalise", case, &got, &want);
        }
        let (heads, width) = (5, 14);
        let x = self.normal(77, heads * width);
        let gain = self.normal(1, width);
        let want = Array2::from_shape_fn(x.dim(), |(t, column)| {
            let head = column / width;
            let mean: f64 = (0..width)
                .map(|f| f64::from(x[[t, head * width + f]]).powi(2))
                .sum::<f64>()
                / width as f64;
            f64::from(x[[t, column]]) / (mean + f64::from(1e-5f32)).sqrt() * f64::from(gain[[0, column % width]])
        });
        let (there, gain) = (self.backend.upload(x.view())?, self.backend.upload_vector(gain.row(0))?);
        let got = self
            .backend
            .normalise(NormKind::Rms, 1e-5, width, Some(&gain), None, &there)?;
        let got = self.backend.download(&got)?;
        self.check("normalise", "rms, head by head", &got, &want);
        Ok(())
    }

    fn linear(&mut self) -> Result<()> {
        // Widths that are multiples of 4 and 8 have kernels of their own on a GPU.
        for (tokens, inputs, outputs) in [
            (1, 5, 3),
            (130, 67, 45),
            (259, 33, 129),
            (131, 64, 132),
            (7, 20, 4),
            (257, 200, 260),
            (140, 1032, 24),
        ] {
            let (x, weight, bias) = (
                self.normal(tokens, inputs),
                self.normal(outputs, inputs),
                self.normal(1, outputs),
            );
            let want = wide(&x).dot(&wide(&weight).t()) + wide(&bias).row(0);
            let there = self.backend.upload(x.view())?;
            let (weight, bias) = (
                self.backend.upload_weight(weight)?,
                self.backend.upload_vector(bias.row(0))?,
            );
            let got = self.backend.linear(&weight, Some(&bias), &there)?;
            let got = self.backend.download(&got)?;
            self.check("linear", &format!("{tokens} x {inputs} x {outputs}"), &got, &want);
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        let length = 17;
        // All of a head, and all but its last three or four features; four pairs together, and more heads than one invocation takes.
        for (half, heads, head_dim) in [(5, 3, 10), (5, 3, 13), (8, 19, 16), (8, 8, 20)] {
            let frequencies: Vec<f32> = (0..half).map(|pair| 0.3f32.powi(pair as i32)).collect();
            let x = self.normal(2 * length, heads * head_dim);
            let want = Array2::from_shape_fn(x.dim(), |(t, column)| {
                let (head, feature) = (column / head_dim, column % head_dim);
                let value = |f: usize| f64::from(x[[t, head * head_dim + f]]);
                let angle = f64::from((t % length) as f32 * frequencies[feature % half]);
                match feature / half {
                    0 => value(feature) * angle.cos() - value(feature + half) * angle.sin(),
                    1 => value(feature) * angle.cos() + value(feature - half) * angle.sin(),
                    _ => value(feature),
                }
            });
            let mut there = self.backend.upload(x.view())?;
            let table = RotaryTable::new(&frequencies, length);
            self.backend.rotate(&mut there, &table, head_dim, length)?;
            let got = self.backend.download(&there)?;
            self.check("rotate", &format!("{} of {head_dim} features", 2 * half), &got, &want);
        }
        Ok(())
    }

    fn attention(&mut self) -> Result<()> {
        for (heads, kv_heads, head_dim, length, window, softcap) in [
            (4, 4, 6, 1, None, None),
            (6, 2, 10, 70, None, None),
            (3, 1, 8, 131, None, None),
            (2, 1, 8, 201, Some(1), None),
            (2, 2, 8, 201, Some(37), None),
            (4, 2, 6, 140, Some(128), Some(2.5)),
            (2, 1, 8, 70, Some(500), Some(50.0)),
            (2, 1, 64, 150, None, None),
            (2, 2, 80, 131, Some(40), None),
            (1, 1, 128, 129, None, None),
            (1, 1, 256, 70, None, None),
        ] {
            let mut shape = AttentionSpec::new(heads, kv_heads, head_dim);
            if softcap.is_some() {
                shape.scale = 0.7;
                shape.softcap = softcap;
            }
            let queries = self.normal(2 * length, heads * head_dim);
            let (keys, values) = (
                self.normal(2 * length, kv_heads * head_dim),
                self.normal(2 * length, kv_heads * head_dim),
            );
            let want = attention((shape, window, length), &wide(&queries), &wide(&keys), &wide(&values));
            let (q, k, v) = (
                self.backend.upload(queries.view())?,
                self.backend.upload(keys.view())?,
                self.backend.upload(values.view())?,
            );
            let got = self.backend.attention(shape, window, length, &q, &k, &v)?;
            let got = self.backend.download(&got)?;
            self.check(
                "attention",
                &format!("{heads}/{kv_heads} heads, length {length}, window {window:?}, bound {softcap:?}"),
                &got,
                &want,
            );
        }
        Ok(())
    }

    fn likelihoods(&mut self) -> Result<()> {
        let x = self.normal(90, 41) * 3.0;
        for (rows, columns) in [(90, 41), (90, 44)] {
            let (x, y) = (self.normal(rows, columns) * 3.0, self.normal(rows, columns));
            for (case, activation) in [
                ("relu", Activation::Relu),
                ("silu", Activation::Silu),
                ("gelu", Activation::Gelu),
                ("gelu by tanh", Activation::GeluTanh),
            ] {
                let case = format!("{rows} x {columns}, {case}");
                let want = wide(&x).mapv(|v| activate(activation, v));
                let mut there = self.backend.upload(x.view())?;
                self.backend.activate(activation, &mut there)?;
                let got = self.backend.download(&there)?;
                self.check("activate", &case, &got, &want);

                let want = want * wide(&y);
                let gate = self.backend.upload(x.view())?;
                let mut up = self.backend.upload(y.view())?;
                self.backend.gate(activation, &gate, &mut up)?;
                let got = self.backend.download(&up)?;
                self.check("gate", &case, &got, &want);
            }
        }
        let head = self.normal(301, 41);
        let targets: Vec<u32> = (0..90).map(|t| t * 31 % 301).collect();
        let logits = wide(&x).dot(&wide(&head).t());
        let (head, there) = (self.backend.upload_weight(head)?, self.backend.upload(x.view())?);
        for softcap in [None, Some(4.0f32)] {
            let logits = match softcap {
                None => logits.clone(),
                Some(bound) => logits.mapv(|x| f64::from(bound) * (x / f64::from(bound)).tanh()),
            };
            let want = Array2::from_shape_fn((90, 1), |(t, _)| {
                let row = logits.row(t);
                let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row[targets[t] as usize] - largest - row.mapv(|v| (v - largest).exp()).sum().ln()
            });
            let likelihoods = self.backend.log_likelihoods(&head, softcap, &there, &targets)?;
            let got = Array2::from_shape_fn((90, 1), |(t, _)| likelihoods[t].log);
            let case = format!("90 tokens, 301 words, bound {softcap:?}");
            self.check_wide("log_likelihoods", &case, &got, &want);
            // Every row's likeliest token, and the runner-up; where rounding may change which is which, neither is held.
            let mut clear = Vec::new();
            let (mut likeliest, mut second) = (Vec::new(), Vec::new());
            for row in logits.rows() {
                let mut order: Vec<usize> = (0..301).collect();
                order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
                clear.push(row[order[0]] - row[order[1]] > 0.02 * row[order[0]].abs());
                likeliest.push(order[0] as u32);
                second.push(order[1] as u32);
            }
            // A bound of 4 makes nearly equal whatever is much larger.
            let held = clear.iter().filter(|clear| **clear).count();
            assert!(softcap.is_some() || held > 20, "{case}: only {held} rows are clear");
            for (targets, greatest) in [(likeliest, true), (second, false)] {
                let likelihoods = self.backend.log_likelihoods(&head, softcap, &there, &targets)?;
                let mut held = likelihoods.iter().zip(&clear).filter(|(_, clear)| **clear);
                assert!(held.all(|(it, _)| it.greatest == greatest), "{case}: greatest");
            }
        }
        Ok(())
    }

    /// Two models whose heads and inputs have other widths, the second far from the first, near it, and the same.
    fn distances(&mut self) -> Result<()> {
        // One workgroup, and more than one invocation adds up at a time for each of the most there are; all in one call.
        let sizes = [(3, 5), (131, 257), (2100, 2053), (1, 1)];
        let mut hosts = Vec::new();
        for (rows, columns) in sizes {
            // Numbers that half precision has, too: small differences of rounded numbers are not what is tested.
            let stored = |x: Array2<f32>| x.mapv(|v| (v * 64.0).round() / 64.0);
            let x = stored(self.normal(rows, columns));
            let near = &x + &stored(self.normal(rows, columns) * 0.25);
            hosts.push([x, near]);
        }
        let mut there = Vec::new();
        for [x, near] in &hosts {
            there.push([self.backend.upload(x.view())?, self.backend.upload(near.view())?]);
        }
        let pairs: Vec<_> = there.iter().map(|[x, near]| [x, near]).collect();
        let found = self.backend.distances(&pairs)?;
        assert_eq!(found.len(), sizes.len());
        for (([x, near], found), size) in hosts.iter().zip(found).zip(sizes) {
            let (x, near) = (wide(x), wide(near));
            for (what, got, want) in [
                ("of the first", found.all, x.mapv(|v| v * v).sum()),
                ("of differences", found.away, (&x - &near).mapv(|v| v * v).sum()),
            ] {
                let one = |value| Array2::from_elem((1, 1), value);
                self.check_wide("distances", &format!("{size:?}, {what}"), &one(got), &one(want));
            }
        }
        assert!(self.backend.distances(&[])?.is_empty());
        Ok(())
    }

    fn divergences(&mut self) -> Result<()> {
        // Rounded operands move every logit by some d, and a divergence D, about half the variance of the logits' differences,
        // by some d sqrt(D) + d^2: not a part of the largest divergence.
        let moved = 4.0 * self.rounding;
        let (x, head) = (self.normal(90, 41), self.normal(301, 41));
        let noise = |suite: &mut Self, size: f32| suite.normal(301, 41) * size;
        let near = &head + &noise(self, 0.02);
        let nearer = &head + &noise(self, 1e-4);
        let others = [
            ("another model", self.normal(90, 28), self.normal(301, 28)),
            ("a near model", x.clone(), near),
            ("a nearer model", x.clone(), nearer),
            ("itself", x.clone(), head.clone()),
        ];
        let dense_logits = wide(&x).dot(&wide(&head).t());
        let (dense_head, dense_x) = (self.backend.upload_weight(head)?, self.backend.upload(x.view())?);
        for (name, x, head) in others {
            let logits = wide(&x).dot(&wide(&head).t());
            let (head, x) = (self.backend.upload_weight(head)?, self.backend.upload(x.view())?);
            for softcaps in [[None, None], [Some(4.0f32), Some(4.0)], [None, Some(3.0)]] {
                let bounded = |logits: &Array2<f64>, softcap: Option<f32>| match softcap.map(f64::from) {
                    None => logits.clone(),
                    Some(bound) => logits.mapv(|x| bound * (x / bound).tanh()),
                };
                let logarithms = |logits: &Array2<f64>, softcap| {
                    let mut logits = bounded(logits, softcap);
                    for mut row in logits.rows_mut() {
                        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let sum = largest + row.mapv(|v| (v - largest).exp()).sum().ln();
                        row.mapv_inplace(|v| v - sum);
                    }
                    logits
                };
                let (p, q) = (logarithms(&dense_logits, softcaps[0]), logarithms(&logits, softcaps[1]));
                let want = Array2::from_shape_fn((90, 1), |(t, _)| {
                    let pairs = p.row(t).into_iter().zip(q.row(t));
                    pairs.map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
                });
                let dense = Predictions {
                    head: &dense_head,
                    softcap: softcaps[0],
                    x: &dense_x,
                };
                let other = Predictions {
                    head: &head,
                    softcap: softcaps[1],
                    x: &x,
                };
                let found = self.backend.divergences(dense, other)?;
                let case = format!("90 tokens, 301 words, {name}, bounds {softcaps:?}");
                let got = Array2::from_shape_fn((90, 1), |(t, _)| {
                    let (got, want) = (found[t].kl, want[[t, 0]]);
                    let allowed = moved * (want.sqrt() + moved);
                    if (got - want).abs() > allowed { got } else { want }
                });
                self.check_wide("divergences", &case, &got, &want);
                // Whether both have one likeliest token, where rounding cannot change which it is.
                let order = |row: ndarray::ArrayView1<f64>| {
                    let mut order: Vec<usize> = (0..301).collect();
                    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
                    (order[0], row[order[0]] - row[order[1]] > 0.05)
                };
                let mut held = [0; 2];
                for (t, found) in found.iter().enumerate() {
                    let ((one, clear), (other, other_clear)) = (order(p.row(t)), order(q.row(t)));
                    if clear && other_clear || name == "itself" && softcaps[0] == softcaps[1] {
                        assert_eq!(found.agrees, one == other, "{case}: token {t}");
                        held[usize::from(one == other)] += 1;
                    }
                }
                let wanted = usize::from(name != "another model");
                // Bounds make nearly equal whatever is much larger.
                assert!(
                    softcaps[1].is_some() || held[wanted] > 10,
                    "{case}: only {held:?} rows are clear"
                );
            }
        }
        Ok(())
    }

    /// Heads with equal rows, whose logits are equal: the first counts.
    fn likeliest(&mut self) -> Result<()> {
        let (x, mut head) = (self.normal(90, 41), self.normal(301, 41));
        for word in 0..100 {
            let first = head.row(word).to_owned();
            head.row_mut(200 + word).assign(&first);
        }
        let logits = wide(&x).dot(&wide(&head).t());
        let (head, x) = (self.backend.upload_weight(head)?, self.backend.upload(x.view())?);
        for softcap in [None, Some(30.0f32)] {
            let (head, x) = (&head, &x);
            let found = self.backend.likeliest(Predictions { head, softcap, x })?;
            let (mut got, mut want) = (Vec::new(), Vec::new());
            for (row, found) in logits.rows().into_iter().zip(found) {
                let mut order: Vec<usize> = (0..301).collect();
                order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
                let other = order.iter().find(|word| **word % 200 != order[0] % 200);
                let lead = row[order[0]] - row[*other.expect("another word")];
                // Rounding may change which of two nearly equal ones is the greater.
                if lead > 0.05 * row[order[0]].abs() {
                    got.push(f64::from(found));
                    want.push(order[0] as f64);
                }
            }
            assert!(
                got.len() > 3 && want.iter().any(|word| *word < 100.0),
                "only {} rows are clear",
                got.len()
            );
            let column = |words: Vec<f64>| Array2::from_shape_fn((words.len(), 1), |(row, _)| words[row]);
            let rounding = std::mem::take(&mut self.rounding);
            self.check_wide("likeliest", &format!("bound {softcap:?}"), &column(got), &column(want));
            self.rounding = rounding;
        }
        // A head that is no longer finite has no likeliest token.
        let broken = self.backend.upload_weight(Array2::from_elem((3, 41), f32::NAN))?;
        let predictions = Predictions {
            head: &broken,
            softcap: None,
            x: &x,
        };
        assert!(self.backend.likeliest(predictions).is_err());
        Ok(())
    }

    fn moments(&mut self) -> Result<()> {
        for width in [45, 136] {
            let needs = Needs {
                cross: true,
                goal_gram: true,
                ..Needs::GRAM.and(Needs::MEANS)
            };
            // With a mean, so that sums are not small differences.
            let (first, second) = (self.normal(700, width) + 1.0, self.normal(333, width) + 1.0);
            let mut there = self.backend.moments(width, needs)?;
            for (x, lengths) in [&first, &second].into_iter().zip(SEQUENCES) {
                let x = self.backend.upload(x.view())?;
                self.backend.accumulate(&mut there, &x)?;
                self.backend.accumulate_sums(&mut there, &x, lengths)?;
            }
            let others = [self.normal(700, width), self.normal(333, width)];
            for (x, other) in [&first, &second].into_iter().zip(&others) {
                let (x, other) = (self.backend.upload(x.view())?, self.backend.upload(other.view())?);
                self.backend.accumulate_cross(&mut there, &x, &other)?;
            }
            let Found {
                squares,
                gram,
                cross,
                goal,
                sums,
            } = (self.read)(&self.backend, &there)?;
            let want = wide(&first).t().dot(&wide(&first)) + wide(&second).t().dot(&wide(&second));
            let case = format!("1033 tokens, {width} features");
            let squares = Array2::from_shape_fn((1, width), |(_, f)| squares[f]);
            self.check_wide(
                "accumulate squares",
                &case,
                &squares,
                &want.diag().to_owned().insert_axis(ndarray::Axis(0)),
            );
            let lower = |m: &Array2<f64>| Array2::from_shape_fn(m.dim(), |(i, j)| if j <= i { m[[i, j]] } else { 0.0 });
            self.check_wide("accumulate gram", &case, &lower(&gram), &lower(&want));
            let want = wide(&first).t().dot(&wide(&others[0])) + wide(&second).t().dot(&wide(&others[1]));
            self.check_wide("accumulate cross", &case, &cross, &want);
            let want = wide(&others[0]).t().dot(&wide(&others[0])) + wide(&others[1]).t().dot(&wide(&others[1]));
            self.check_wide("accumulate cross", &case, &goal, &want);
            let row = |values: Vec<f64>| Array2::from_shape_fn((1, width), |(_, feature)| values[feature]);
            let want = wide(&first).sum_axis(ndarray::Axis(0)) + wide(&second).sum_axis(ndarray::Axis(0));
            self.check_wide("accumulate sums", &case, &row(sums), &row(want.to_vec()));
        }
        Ok(())
    }
}

fn wide(x: &Array2<f32>) -> Array2<f64> {
    x.mapv(f64::from)
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => x * normal_distribution(x),
        Activation::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            0.5 * x * (1.0 + (root * (x + 0.044715 * x.powi(3))).tanh())
        }
    }
}

/// The normal distribution function, by Simpson's rule from 0 to x.
fn normal_distribution(x: f64) -> f64 {
    let steps = 2000;
    let width = x / f64::from(steps);
    let density = |t: f64| (-0.5 * t * t).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let sum: f64 = (0..=steps)
        .map(|step| {
            let weight = match step {
                0 => 1.0,
                step if step == steps => 1.0,
                step if step % 2 == 1 => 4.0,
                _ => 2.0,
            };
            weight * density(f64::from(step) * width)
        })
        .sum();
    0.5 + sum * width / 3.0
}

/// Attention's shape, window, and the length of sequences.
type Attending = (AttentionSpec, Option<usize>, usize);

fn attention(
    (shape, window, length): Attending,
    queries: &Array2<f64>,
    keys: &Array2<f64>,
    values: &Array2<f64>,
) -> Array2<f64> {
    let dim = shape.head_dim;
    let mut output = Array2::zeros(queries.dim());
    for t in 0..queries.nrows() {
        let sequence = t / length * length;
        let start = sequence.max((t + 1).saturating_sub(window.unwrap_or(length)));
        for head in 0..shape.heads {
            let kv = head / (shape.heads / shape.kv_heads);
            let scores: Vec<f64> = (start..=t)
                .map(|s| {
                    let product: f64 = (0..dim)
                        .map(|f| queries[[t, head * dim + f]] * keys[[s, kv * dim + f]])
                        .sum();
                    let score = product * f64::from(shape.scale);
                    match shape.softcap.map(f64::from) {
                        Some(bound) => bound * (score / bound).tanh(),
                        None => score,
                    }
                })
                .collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            for (s, score) in (start..=t).zip(&scores) {
                let weight = (score - largest).exp() / total;
                for f in 0..dim {
                    output[[t, head * dim + f]] += weight * values[[s, kv * dim + f]];
                }
            }
        }
    }
    output
}
