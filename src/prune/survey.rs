//! A look at the dense model before anything is pruned, for allocators that share sparsity out by what they find there.

use super::allocator::Survey;
use super::recipe::Recipe;
use super::workbench::Workbench;
use crate::calibrate::{BlockMoments, passes};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::model::forward::{Block, Ends};
use crate::model::source::WeightSource;
use crate::spec::Tap;
use std::collections::BTreeMap;

/// What the recipe's allocator measures of every layer of the dense model; nothing where it asks for no survey. `known` are
/// the moments of a dense pass and its number of sequences, where there was one; else `windows` make another.
///
/// # Errors
/// The checkpoint is unusable, a statistic was not gathered, a value is not finite, or the backend fails.
pub(super) fn survey<B: Workbench>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    recipe: &Recipe,
    windows: Option<&TokenWindows>,
    known: Option<(&[BlockMoments<B>], usize)>,
) -> Result<Survey> {
    let mut survey = Survey::default();
    let Some(needs) = recipe.allocator.survey() else {
        return Ok(survey);
    };
    let mut measure = |index: usize, mut block: Block<B>, moments: Option<(&BlockMoments<B>, usize)>| {
        let none = backend.no_statistics();
        let mut statistics: BTreeMap<Tap, B::Statistics> = BTreeMap::new();
        if let Some((moments, sequences)) = moments {
            for (tap, moments) in moments.taps() {
                let found = backend.statistics(moments, sequences, recipe.factoring());
                statistics.insert(tap, found.at(format_args!("tap {:?}", tap.place))?);
            }
        }
        for (id, name, storage) in block.layers() {
            let linear = block.spec().linear(id);
            let (role, tap) = (linear.role, linear.tap());
            let of_tap = statistics.get(&tap).unwrap_or(&none);
            let piece = backend.workpiece(block.weight_mut(id), storage, of_tap);
            let value = recipe.allocator.measure(piece.as_ref()).at(&name)?;
            if !value.is_finite() {
                return Err(Error::numeric(format!("the allocator measured {value}")).at(&name));
            }
            survey.values.insert((index, role), value);
        }
        Ok(())
    };
    match (windows, known) {
        (_, Some((moments, sequences))) => {
            for (index, moments) in moments.iter().enumerate() {
                measure(index, Block::load(backend, source, index)?, Some((moments, sequences)))?;
            }
        }
        (Some(windows), None) if needs.anything() => {
            passes::dense(backend, source, ends, windows, needs, |index, block, moments| {
                measure(index, block, Some((&moments, windows.count())))
            })?;
        }
        _ => {
            for index in 0..source.spec().blocks {
                measure(index, Block::load(backend, source, index)?, None)?;
            }
        }
    }
    Ok(survey)
}
