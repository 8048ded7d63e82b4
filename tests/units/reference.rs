//! The golden values of `tests/golden/units`, and how results are compared with them.

use ndarray::{Array2, s};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};
use zprune::backend::Backend;
use zprune::backend::cpu::Cpu;
use zprune::data::windows::TokenWindows;
use zprune::model::blocks;
use zprune::model::checkpoint::Checkpoint;
use zprune::model::edit::{BlockEdit, Edit};
use zprune::model::families::read_spec;
use zprune::model::forward::{Ends, Hidden};
use zprune::model::source::WeightSource;
use zprune::prune::units::dense::Dense;
use zprune::spec::ModelSpec;

/// The reference's models, and where they are.
pub(crate) const MODELS: [(&str, &str); 2] = [("llama_gqa_tied", "gradients"), ("opt_pre", "units")];

/// Single precision may differ from the reference by this fraction of a tensor's largest entry.
pub(crate) const TOLERANCE: f64 = 1e-4;

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub(crate) fn opened(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder, read_spec(folder).expect("supported")).expect("a golden checkpoint")
}

pub(crate) struct Golden {
    tensors: Vec<u8>,
    pub(crate) facts: Value,
}

impl Golden {
    pub(crate) fn new() -> Self {
        Golden::of("units")
    }

    pub(crate) fn of(name: &str) -> Self {
        let read = |ending: &str| std::fs::read(golden("units").join(format!("{name}.{ending}"))).expect("committed");
        Golden {
            tensors: read("safetensors"),
            facts: serde_json::from_slice(&read("json")).expect("JSON"),
        }
    }

    /// Those beside a model with golden gradients, where there are no other facts.
    pub(crate) fn beside(model: &Path) -> Self {
        Golden {
            tensors: std::fs::read(model.join("golden.safetensors")).expect("committed"),
            facts: Value::Null,
        }
    }

    pub(crate) fn values(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.tensors).expect("safetensors");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (bytes, wide) = (tensor.data(), tensor.dtype() == safetensors::Dtype::F64);
        match wide {
            true => bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes))
                .collect(),
            false => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
                .collect(),
        }
    }

    pub(crate) fn windows(&self, model: &str) -> TokenWindows {
        self.windows_in(&format!("{model}/ids"))
    }

    pub(crate) fn windows_in(&self, name: &str) -> TokenWindows {
        let file = SafeTensors::deserialize(&self.tensors).expect("safetensors");
        let tensor = file.tensor(name).expect("there");
        let ids = tensor
            .data()
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes) as u32);
        TokenWindows::new(ids.collect(), tensor.shape()[1]).expect("whole windows")
    }
}

pub(crate) fn close(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            (got - want).abs() <= TOLERANCE * largest,
            "{what}, entry {index}: {got} and not {want}"
        );
    }
}

/// Logits of all tokens.
pub(crate) fn logits<B: Backend>(backend: &B, source: &dyn WeightSource, windows: &TokenWindows) -> Array2<f32> {
    let ends = Ends::upload(backend, source).expect("room");
    let mut hidden = Hidden::embed(backend, source.spec(), &ends, windows).expect("room");
    blocks::each(backend, source, |_, block| {
        hidden.advance(backend, source.spec(), &block, |_, _| Ok(()))
    })
    .expect("computes");
    hidden.logits(backend, &ends).expect("room")
}

/// Those of every fourth token.
pub(crate) fn some_logits(source: &dyn WeightSource, windows: &TokenWindows) -> Vec<f64> {
    let all = logits(&Cpu, source, windows);
    all.slice(s![..;4, ..]).iter().map(|value| f64::from(*value)).collect()
}

pub(crate) fn ids(value: &Value) -> Vec<usize> {
    let ids = value.as_array().expect("a list").iter();
    ids.map(|id| id.as_u64().expect("a number") as usize).collect()
}

/// The edit keeps what the reference keeps; blocks that it does not name keep all.
pub(crate) fn keeps(what: &str, edit: &Edit, spec: &ModelSpec, facts: &Value) {
    for edit in &edit.blocks {
        let whole = BlockEdit::whole(edit.block, spec.block(edit.block));
        let want = match &facts["kept"][edit.block.to_string()] {
            Value::Null => [whole.heads, whole.kv_heads, whole.neurons],
            kept => ["q", "kv", "n"].map(|kind| ids(&kept[kind])),
        };
        let got = [&edit.heads, &edit.kv_heads, &edit.neurons];
        assert_eq!(got, want.each_ref(), "{what}, block {}", edit.block);
    }
}

pub(crate) fn parameters(spec: &ModelSpec) -> usize {
    spec.tensors().map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// The dense model with its calibration windows, on the CPU.
pub(crate) fn on_cpu<'a>(source: &'a Checkpoint, ends: &'a Ends<Cpu>, windows: &'a TokenWindows) -> Dense<'a, Cpu> {
    Dense {
        backend: &Cpu,
        source,
        ends,
        windows: Some(windows),
    }
}
