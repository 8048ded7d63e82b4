//! The adjoints: each against a plain `f64` loop, and the loops against differences of what they are adjoints of.

use super::{Attending, Suite, activate, attention, wide};
use ndarray::{Array2, Axis, concatenate, s};
use zprune::backend::gradient::{Gradient, GradientNeeds};
use zprune::backend::{Backend, RotaryTable};
use zprune::error::Result;
use zprune::spec::{Activation, AttentionSpec, NormKind};

/// The epsilon of norms.
const EPSILON: f64 = 1e-5f32 as f64;

const ACTIVATIONS: [(&str, Activation); 4] = [
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("gelu", Activation::Gelu),
    ("gelu by tanh", Activation::GeluTanh),
];

/// Asserts that a gradient is the one of `loss` at `x`, by central differences at some entries.
fn differs_as(case: &str, gradient: &Array2<f64>, x: &Array2<f64>, loss: impl Fn(&Array2<f64>) -> f64) {
    const STEP: f64 = 1e-5;
    let largest = gradient.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let (rows, columns) = x.dim();
    for entry in 0..7 {
        let place = entry * (rows * columns - 1) / 6;
        let place = [place / columns, place % columns];
        let at = |step: f64| {
            let mut x = x.clone();
            x[place] += step;
            loss(&x)
        };
        let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        let error = (slope - gradient[place]).abs();
        assert!(
            error <= 1e-6 * largest,
            "{case}: the loop's gradient at {place:?} is {}, differences give {slope}",
            gradient[place]
        );
    }
}

fn norm(kind: NormKind, width: usize, gain: Option<&Array2<f64>>, x: &Array2<f64>) -> Array2<f64> {
    let mut y = x.clone();
    for mut row in y.rows_mut() {
        for mut run in row.exact_chunks_mut(width) {
            if kind == NormKind::Layer {
                let mean = run.sum() / width as f64;
                run -= mean;
            }
            let square = run.mapv(|v| v * v).sum() / width as f64;
            run /= (square + EPSILON).sqrt();
            if let Some(gain) = gain {
                run *= &gain.row(0);
            }
        }
    }
    y
}

/// Of one run: the change of entry `i` of the result with entry `j` of the input, summed up over `i`.
fn norm_backward(
    kind: NormKind,
    width: usize,
    gain: Option<&Array2<f64>>,
    x: &Array2<f64>,
    dy: &Array2<f64>,
) -> Array2<f64> {
    let mut dx = Array2::zeros(x.dim());
    for (t, row) in x.rows().into_iter().enumerate() {
        for (run, x) in row.exact_chunks(width).into_iter().enumerate() {
            let n = width as f64;
            let centred = f64::from(u8::from(kind == NormKind::Layer));
            let mean = centred * x.sum() / n;
            let scale = (x.mapv(|v| (v - mean).powi(2)).sum() / n + EPSILON).powf(-0.5);
            for j in 0..width {
                for i in 0..width {
                    let own = f64::from(u8::from(i == j)) - centred / n;
                    let slope = scale * own - scale.powi(3) * (x[i] - mean) * (x[j] - mean) / n;
                    let gain = gain.map_or(1.0, |gain| gain[[0, i]]);
                    dx[[t, run * width + j]] += dy[[t, run * width + i]] * gain * slope;
                }
            }
        }
    }
    dx
}

fn slope(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Relu => f64::from(u8::from(x > 0.0)),
        Activation::Silu => sigmoid(x) + x * sigmoid(x) * sigmoid(-x),
        Activation::Gelu => {
            super::normal_distribution(x) + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
        }
        Activation::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = (root * (x + 0.044715 * x.powi(3))).tanh();
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * root * (1.0 + 3.0 * 0.044715 * x * x)
        }
    }
}

fn attention_backward(
    (shape, window, length): Attending,
    [queries, keys, values]: [&Array2<f64>; 3],
    dy: &Array2<f64>,
) -> [Array2<f64>; 3] {
    let dim = shape.head_dim;
    let scale = f64::from(shape.scale);
    let mut gradients = [queries, keys, values].map(|x| Array2::zeros(x.dim()));
    for t in 0..queries.nrows() {
        let sequence = t / length * length;
        let start = sequence.max((t + 1).saturating_sub(window.unwrap_or(length)));
        for head in 0..shape.heads {
            let kv = head / (shape.heads / shape.kv_heads) * dim;
            let own = head * dim;
            let product = |a: &Array2<f64>, s: usize, b: &Array2<f64>| -> f64 {
                (0..dim).map(|f| a[[t, own + f]] * b[[s, kv + f]]).sum()
            };
            let mut scores = Vec::new();
            let mut slopes = Vec::new();
            for s in start..=t {
                let score = scale * product(queries, s, keys);
                let bounded = shape.softcap.map(f64::from).map(|c| (c, (score / c).tanh()));
                scores.push(bounded.map_or(score, |(c, tanh)| c * tanh));
                slopes.push(bounded.map_or(1.0, |(_, tanh)| 1.0 - tanh * tanh));
            }
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp() / total).collect();
            let for_weights: Vec<f64> = (start..=t).map(|s| product(dy, s, values)).collect();
            let mean: f64 = weights.iter().zip(&for_weights).map(|(w, d)| w * d).sum();
            for (index, s) in (start..=t).enumerate() {
                let for_score = weights[index] * (for_weights[index] - mean) * slopes[index] * scale;
                for f in 0..dim {
                    gradients[0][[t, own + f]] += for_score * keys[[s, kv + f]];
                    gradients[1][[s, kv + f]] += for_score * queries[[t, own + f]];
                    gradients[2][[s, kv + f]] += weights[index] * dy[[t, own + f]];
                }
            }
        }
    }
    gradients
}

/// Log-likelihoods of targets, and the gradient of their sum in which each counts as much as its factor.
fn likelihoods_backward(
    head: &Array2<f64>,
    softcap: Option<f64>,
    x: &Array2<f64>,
    targets: &[u32],
    factors: &[f32],
) -> (Vec<f64>, Array2<f64>) {
    let mut for_logits = x.dot(&head.t());
    let mut likelihoods = Vec::new();
    for (t, mut row) in for_logits.rows_mut().into_iter().enumerate() {
        let slopes = row.mapv(|v| softcap.map_or(1.0, |c| 1.0 - (v / c).tanh().powi(2)));
        row.mapv_inplace(|v| softcap.map_or(v, |c| c * (v / c).tanh()));
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = largest + row.mapv(|v| (v - largest).exp()).sum().ln();
        let place = targets[t] as usize;
        likelihoods.push(row[place] - log_sum);
        row.mapv_inplace(|v| -(v - log_sum).exp());
        row[place] += 1.0;
        row *= &slopes;
        row *= f64::from(factors[t]);
    }
    (likelihoods, for_logits.dot(head))
}

impl<B: Backend> Suite<B> {
    pub fn adjoints(&mut self) -> Result<()> {
        self.rotated_back()?;
        self.interleave()?;
        self.norms_backward()?;
        self.linear_backward()?;
        self.attention_backward()?;
        self.activations_backward()?;
        self.likelihoods_backward()?;
        self.gradients()
    }

    fn rotated_back(&mut self) -> Result<()> {
        let (length, head_dim) = (17, 13);
        let table = RotaryTable::new(&[1.0, 0.3, 0.05], length);
        let x = self.normal(2 * length, 4 * head_dim);
        let mut there = self.backend.upload(x.view())?;
        for table in [&table, &table.inverse(), &table, &table.inverse()] {
            self.backend.rotate(&mut there, table, head_dim, length)?;
        }
        let got = self.backend.download(&there)?;
        // Four roundings.
        self.check("linear", "rotated there and back", &got, &wide(&x));
        Ok(())
    }

    fn interleave(&mut self) -> Result<()> {
        for (parts, run) in [(3, 5), (3, 20), (2, 1), (1, 4)] {
            let host: Vec<Array2<f32>> = (0..parts).map(|_| self.normal(37, 20)).collect();
            let there: Vec<B::Tensor> = host
                .iter()
                .map(|part| self.backend.upload(part.view()))
                .collect::<Result<_>>()?;
            let there: Vec<&B::Tensor> = there.iter().collect();
            let got = self.backend.download(&self.backend.interleave(&there, run)?)?;
            let want = Array2::from_shape_fn((37, 20 * parts), |(t, column)| {
                let (place, inside) = (column / run, column % run);
                f64::from(host[place % parts][[t, place / parts * run + inside]])
            });
            self.check("interleave", &format!("{parts} parts, runs of {run}"), &got, &want);
        }
        Ok(())
    }

    fn norms_backward(&mut self) -> Result<()> {
        for (case, kind, tokens, heads, width, with_gain) in [
            ("rms", NormKind::Rms, 61, 1, 257, true),
            ("rms without gain", NormKind::Rms, 61, 1, 257, false),
            ("layer norm", NormKind::Layer, 61, 1, 257, true),
            ("layer norm without gain", NormKind::Layer, 61, 1, 257, false),
            ("rms, head by head", NormKind::Rms, 77, 5, 14, true),
            ("layer norm, head by head", NormKind::Layer, 77, 5, 14, true),
        ] {
            let (x, dy) = (
                self.normal(tokens, heads * width) + 0.3,
                self.normal(tokens, heads * width),
            );
            let gain = with_gain.then(|| self.normal(1, width));
            let gain_wide = gain.as_ref().map(wide);
            let want = norm_backward(kind, width, gain_wide.as_ref(), &wide(&x), &wide(&dy));
            differs_as(case, &want, &wide(&x), |x| {
                (norm(kind, width, gain_wide.as_ref(), x) * wide(&dy)).sum()
            });
            let gain = gain.map(|gain| self.backend.upload_vector(gain.row(0))).transpose()?;
            let (x, dy) = (self.backend.upload(x.view())?, self.backend.upload(dy.view())?);
            let got = self
                .backend
                .normalise_backward(kind, EPSILON as f32, width, gain.as_ref(), &x, &dy)?;
            let got = self.backend.download(&got)?;
            self.check("normalise_backward", case, &got, &want);
        }
        Ok(())
    }

    fn linear_backward(&mut self) -> Result<()> {
        for (tokens, inputs, outputs) in [
            (1, 5, 3),
            (130, 67, 45),
            (259, 132, 64),
            (257, 200, 260),
            (300, 24, 1032),
        ] {
            let (weight, dy) = (self.normal(outputs, inputs), self.normal(tokens, outputs));
            let want = wide(&dy).dot(&wide(&weight));
            let (there, dy) = (self.backend.upload_weight(weight)?, self.backend.upload(dy.view())?);
            let got = self.backend.download(&self.backend.linear_backward(&there, &dy)?)?;
            self.check(
                "linear_backward",
                &format!("{tokens} x {outputs} x {inputs}"),
                &got,
                &want,
            );
        }
        Ok(())
    }

    fn attention_backward(&mut self) -> Result<()> {
        for (heads, kv_heads, head_dim, length, window, softcap) in [
            (4, 4, 6, 1, None, None),
            (6, 2, 10, 70, None, None),
            (3, 1, 8, 131, None, None),
            (2, 1, 8, 201, Some(1), None),
            (2, 2, 8, 201, Some(37), None),
            (4, 2, 6, 140, Some(128), Some(2.5)),
            (2, 1, 8, 70, Some(500), Some(50.0)),
            (2, 1, 64, 150, None, None),
            (1, 1, 80, 96, Some(40), None),
            (4, 2, 16, 201, None, Some(2.5)),
            (6, 2, 48, 133, Some(37), None),
            (2, 1, 112, 70, None, Some(50.0)),
            (4, 2, 128, 259, None, None),
            (2, 2, 128, 200, Some(150), None),
            (1, 1, 256, 70, None, None),
        ] {
            let mut shape = AttentionSpec::new(heads, kv_heads, head_dim);
            if softcap.is_some() {
                shape.scale = 0.7;
                shape.softcap = softcap;
            }
            let case = format!("{heads}/{kv_heads} heads, length {length}, window {window:?}, bound {softcap:?}");
            let attending = (shape, window, length);
            let mut draw = |heads: usize| self.normal(2 * length, heads * head_dim);
            let (host, dy) = ([draw(heads), draw(kv_heads), draw(kv_heads)], draw(heads));
            let [q, k, v] = host.each_ref().map(wide);
            let result = attention(attending, &q, &k, &v).mapv(|value| value as f32);
            let want = attention_backward(attending, [&q, &k, &v], &wide(&dy));
            if length < 100 {
                let along = |y: Array2<f64>| (y * wide(&dy)).sum();
                differs_as(&case, &want[0], &q, |q| along(attention(attending, q, &k, &v)));
                differs_as(&case, &want[1], &k, |k| along(attention(attending, &q, k, &v)));
                differs_as(&case, &want[2], &v, |v| along(attention(attending, &q, &k, v)));
            }
            let upload = |x: &Array2<f32>| self.backend.upload(x.view());
            let [q, k, v] = &host;
            let (q, k, v) = (upload(q)?, upload(k)?, upload(v)?);
            let (result, dy) = (upload(&result)?, upload(&dy)?);
            let got = self
                .backend
                .attention_backward(shape, window, length, [&q, &k, &v], &result, &dy)?;
            for ((got, want), of) in got.iter().zip(&want).zip(["queries", "keys", "values"]) {
                let got = self.backend.download(got)?;
                // A query that sees one key has no gradient: there is only rounding to compare.
                let one = window == Some(1) || length == 1;
                let (got, want) = match one && of != "values" {
                    true => (
                        concatenate![Axis(1), got, Array2::ones((got.nrows(), 1))],
                        concatenate![Axis(1), *want, Array2::ones((want.nrows(), 1))],
                    ),
                    false => (got, want.clone()),
                };
                self.check("attention_backward", &format!("{case}: {of}"), &got, &want);
            }
        }
        Ok(())
    }

    fn activations_backward(&mut self) -> Result<()> {
        // A number of elements that is no multiple of 4, and one that is.
        for columns in [41, 44] {
            self.activations_backward_of(90, columns)?;
        }
        Ok(())
    }

    fn activations_backward_of(&mut self, rows: usize, columns: usize) -> Result<()> {
        let x = self.normal(rows, columns) * 3.0;
        let (up, dy) = (self.normal(rows, columns), self.normal(rows, columns));
        for (case, activation) in ACTIVATIONS {
            let slopes = wide(&x).mapv(|x| slope(activation, x));
            let want = &slopes * &wide(&dy);
            differs_as(case, &want, &wide(&x), |x| {
                (x.mapv(|x| activate(activation, x)) * wide(&dy)).sum()
            });
            let there = self.backend.upload(x.view())?;
            let mut gradient = self.backend.upload(dy.view())?;
            self.backend.activate_backward(activation, &there, &mut gradient)?;
            let got = self.backend.download(&gradient)?;
            self.check("activate_backward", case, &got, &want);
        }
        for (case, activation) in ACTIVATIONS {
            let for_gate = wide(&x).mapv(|x| slope(activation, x)) * wide(&up) * wide(&dy);
            let for_up = wide(&x).mapv(|x| activate(activation, x)) * wide(&dy);
            let (mut gate, mut there) = (self.backend.upload(x.view())?, self.backend.upload(up.view())?);
            let gradient = self.backend.upload(dy.view())?;
            self.backend
                .gate_backward(activation, &mut gate, &mut there, &gradient)?;
            let (gate, there) = (self.backend.download(&gate)?, self.backend.download(&there)?);
            self.check("gate_backward", &format!("{case}: gate"), &gate, &for_gate);
            self.check("gate_backward", &format!("{case}: up"), &there, &for_up);
        }
        Ok(())
    }

    fn likelihoods_backward(&mut self) -> Result<()> {
        for (tokens, width, vocabulary) in [(90, 41, 301), (300, 36, 256)] {
            let (x, head) = (self.normal(tokens, width), self.normal(vocabulary, width));
            let targets: Vec<u32> = (0..tokens).map(|t| (t * 31 % vocabulary) as u32).collect();
            let factors: Vec<f32> = (0..tokens).map(|t| (t % 3) as f32 * -0.5).collect();
            let (there, head_there) = (
                self.backend.upload(x.view())?,
                self.backend.upload_weight(head.clone())?,
            );
            for softcap in [None, Some(4.0f32)] {
                let case = format!("{tokens} tokens, {vocabulary} words, bound {softcap:?}");
                let bound = softcap.map(f64::from);
                let (likelihoods, want) = likelihoods_backward(&wide(&head), bound, &wide(&x), &targets, &factors);
                differs_as(&case, &want, &wide(&x), |x| {
                    let (found, _) = likelihoods_backward(&wide(&head), bound, x, &targets, &factors);
                    found
                        .iter()
                        .zip(&factors)
                        .map(|(it, factor)| it * f64::from(*factor))
                        .sum()
                });
                let (found, got) =
                    self.backend
                        .log_likelihoods_backward(&head_there, softcap, &there, &targets, &factors)?;
                let column = |values: Vec<f64>| Array2::from_shape_fn((tokens, 1), |(t, _)| values[t]);
                let got = self.backend.download(&got)?;
                self.check_wide(
                    "log_likelihoods_backward",
                    &format!("{case}: themselves"),
                    &column(found),
                    &column(likelihoods),
                );
                self.check("log_likelihoods_backward", &case, &got, &want);
            }
        }
        Ok(())
    }

    fn gradients(&mut self) -> Result<()> {
        let needs = GradientNeeds {
            sum: true,
            squares: true,
            magnitudes: true,
        };
        for (inputs, outputs, length) in [(67, 45, 35), (132, 136, 32), (136, 264, 70), (20, 100, 1)] {
            let factor = 0.5f32;
            let zeros = || self.backend.zeros(outputs, inputs);
            let mut there = Gradient::new(needs, zeros)?;
            let mut alone = Gradient::new(GradientNeeds::SUM, zeros)?;
            let mut want = [(); 3].map(|()| Array2::<f64>::zeros((outputs, inputs)));
            for sequences in [3, 2] {
                let (x, dy) = (
                    self.normal(sequences * length, inputs),
                    self.normal(sequences * length, outputs),
                );
                for sequence in 0..sequences {
                    let rows = s![sequence * length..(sequence + 1) * length, ..];
                    let one = wide(&dy).slice(rows).t().dot(&wide(&x).slice(rows)) * f64::from(factor);
                    want[1] += &one.mapv(|v| v * v);
                    want[2] += &one.mapv(f64::abs);
                    want[0] += &one;
                }
                let (x, dy) = (self.backend.upload(x.view())?, self.backend.upload(dy.view())?);
                self.backend
                    .accumulate_gradient(&mut there, &dy, &x, sequences, factor)?;
                self.backend
                    .accumulate_gradient(&mut alone, &dy, &x, sequences, factor)?;
            }
            assert!(alone.squares.is_none() && alone.magnitudes.is_none());
            let sums = [
                ("sum", there.sum, &want[0]),
                ("sum of squares", there.squares, &want[1]),
                ("sum of magnitudes", there.magnitudes, &want[2]),
                ("sum alone", alone.sum, &want[0]),
            ];
            for (case, got, want) in sums {
                let got = self.backend.download(&got.expect("it was asked for"))?;
                let case = format!("{case}, {outputs} x {inputs}");
                self.check("accumulate_gradient", &case, &got, want);
            }
        }
        Ok(())
    }
}
