//! An allocator of one's own that looks at the dense model first: blocks with more outliers among their scores keep more
//! weights (the idea of OWL, arXiv 2310.05175).

use serde::{Deserialize, Serialize};
use std::path::Path;
use zprune::backend::cpu::Cpu;
use zprune::backend::moments::Needs;
use zprune::data::corpus::{Corpus, Join};
use zprune::data::tokenizer::{Bos, Tokenizer};
use zprune::data::windows::TokenWindows;
use zprune::error::{Error, Result};
use zprune::model::checkpoint::Checkpoint;
use zprune::model::families::read_spec;
use zprune::model::forward::Ends;
use zprune::prune::allocator::{ALLOCATORS, Allocator, PlacedLinear, Question, Survey, Trial};
use zprune::prune::component::Name;
use zprune::prune::criterion::Wanda;
use zprune::prune::formula::Formula;
use zprune::prune::layer::LayerRecord;
use zprune::prune::model::{Calibration, prune_model};
use zprune::prune::pattern::Pattern;
use zprune::prune::recipe::Recipe;
use zprune::prune::score::{input_squares, resolve, weight};
use zprune::prune::shares::falling;
use zprune::prune::solver::OneShot;
use zprune::prune::values::Values;
use zprune::prune::workbench::Workpiece;

/// The allocator, with its parameters.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outliers {
    /// A score above so many times the layer's mean is an outlier.
    pub above: f64,
    /// The sparsities of two blocks differ by at most twice this.
    pub spread: f64,
}

impl Default for Outliers {
    fn default() -> Self {
        Outliers {
            above: 5.0,
            spread: 0.08,
        }
    }
}

impl Allocator for Outliers {
    fn validate(&self) -> Result<()> {
        match self.above > 0.0 && (0.0..0.5).contains(&self.spread) {
            true => Ok(()),
            false => Err(Error::config(
                "`above` is positive, and `spread` at least 0 and below 0.5",
            )),
        }
    }

    fn survey(&self) -> Option<Question> {
        Some(Question {
            about: format!("share of scores above {} times their layer's mean", self.above),
            needs: Needs::SQUARES,
        })
    }

    fn measure(&self, block: &mut [Box<dyn Workpiece + '_>]) -> Result<Vec<f64>> {
        let values = block.iter().map(|layer| {
            let (rows, columns) = layer.dim();
            let scores = resolve(&(weight().abs() * input_squares().root()), layer.as_ref())?;
            let mean = layer.total(layer.dim(), &scores)? / (rows * columns) as f64;
            let outliers = Values {
                formula: Formula::Number(self.above * mean).below(scores.formula),
                ..scores
            };
            Ok(layer.total(layer.dim(), &outliers)? / (rows * columns) as f64)
        });
        values.collect()
    }

    fn allocate(&self, layers: &[PlacedLinear], _: f64, survey: &Survey, _: &mut Trial<'_>) -> Result<Vec<f64>> {
        Ok(falling(&survey.by_block(layers)?, self.spread))
    }
}

/// Makes the allocator known as `outliers`.
pub fn register() -> Result<()> {
    let name = Name {
        name: "outliers",
        version: 1,
        summary: "blocks with more outliers among their scores keep more; parameters above, spread",
    };
    ALLOCATORS.register(name, |it: Outliers| Box::new(it))
}

/// Prunes the embedded model with it, and gives what became of every layer.
pub fn run() -> Result<Vec<LayerRecord>> {
    let folder = Path::new("models/tiny-llama");
    let checkpoint = Checkpoint::open(folder, read_spec(folder)?)?;
    let corpus = Corpus::read(Path::new("corpora/austen_calibration.txt"), Join::None)?;
    let vocabulary = checkpoint.spec().vocabulary;
    let ids = Tokenizer::load(folder)?.encode(&corpus.joined(Join::None), Bos::Tokenizer, vocabulary)?;
    let windows = TokenWindows::consecutive(&ids, 128, Some(4))?;

    let recipe = Recipe {
        allocator: Box::new(Outliers::default()),
        ..Recipe::new(Box::new(Wanda {}), Box::new(OneShot {}))
    };
    let ends = Ends::upload(&Cpu, &checkpoint)?;
    let pattern = Pattern::Unstructured { sparsity: 0.5 };
    let calibration = Calibration::Windows(&windows);
    let (layers, _) = prune_model(&Cpu, &checkpoint, &ends, &recipe, pattern, &calibration, |_| Ok(()))?;
    Ok(layers)
}

#[allow(dead_code, reason = "the tests call `run`")]
fn main() -> Result<()> {
    for layer in run()? {
        let pattern = layer.pattern.map_or(String::new(), |pattern| pattern.to_string());
        println!("{}: {pattern}, {} weights removed", layer.tensor, layer.removed);
    }
    Ok(())
}
