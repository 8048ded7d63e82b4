//! From a recipe's allocator to the pattern of every layer: the survey of the dense model that it asks for, and its shares
//! rounded to whole weights.

use super::allocator::{Allocator, PlacedLinear, Survey};
use super::pattern::Pattern;
use super::recipe::Recipe;
use super::shares::{Levelling, extent, levelled, patterns};
use super::workbench::{Workbench, Workpiece};
use crate::calibrate::statistics::Factoring;
use crate::calibrate::{BlockMoments, passes};
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::linalg::Provider;
use crate::model::blocks;
use crate::model::forward::{Block, Ends};
use crate::model::source::WeightSource;
use crate::spec::{ModelSpec, Tap};
use std::collections::BTreeMap;

/// The pattern of each linear layer of a model, in their order. `trial` prunes the model with other patterns and tells how well it
/// then predicts text that was held out.
///
/// # Errors
/// The allocator fails, or does not give one finite share for each layer.
pub fn allocate(
    recipe: &Recipe,
    spec: &ModelSpec,
    whole: Pattern,
    survey: &Survey,
    trial: &mut dyn FnMut(&[Pattern]) -> Result<f64>,
) -> Result<Vec<Pattern>> {
    let layers = PlacedLinear::all(spec);
    let dims: Vec<[usize; 2]> = layers.iter().map(PlacedLinear::dim).collect();
    let weights: Vec<usize> = layers.iter().map(PlacedLinear::weights).collect();
    let level = |shares: &[f64]| levelled(shares, &weights, whole.sparsity(), Levelling::Shift);
    let rounded = |shares: &[f64]| patterns(&dims, shares, whole, recipe.group);
    let mut trial = |shares: &[f64]| trial(&rounded(&level(shares)?));
    let allocator = &recipe.allocator;
    let shares = allocator.allocate(&layers, whole.sparsity(), survey, &mut trial);
    let shares = shares.and_then(|shares| level(&shares)).at("allocator")?;
    let patterns = rounded(&shares);
    let (least, most) = extent(&shares);
    if most - least > 1e-9 && patterns.iter().all(|pattern| *pattern == whole) {
        tracing::warn!(
            "the allocator's shares are between {least:.3} and {most:.3}, but every layer is pruned {whole}, because the shares differ by \
             less than one weight of a group. With larger groups, such as 8:16, layers can differ"
        );
    }
    Ok(patterns)
}

/// Checks shares that nothing but the model's layers decides, such as a table's, before any weight is read. Those of an allocator
/// that looks at the dense model or tries shares out are not known yet.
///
/// # Errors
/// As [`allocate`].
pub fn check(recipe: &Recipe, spec: &ModelSpec, whole: Pattern) -> Result<()> {
    if recipe.allocator.survey().is_some() || recipe.allocator.tries() {
        return Ok(());
    }
    let never = &mut |_: &[Pattern]| -> Result<f64> { Err(Error::config("shares are tried out later")) };
    allocate(recipe, spec, whole, &Survey::default(), never).map(drop)
}

/// What an allocator measures of every layer of the dense model; nothing where it asks for no survey. `known` are the moments of
/// a dense pass and its number of sequences, where there was one; else `windows` make another.
///
/// # Errors
/// The checkpoint is unusable, a statistic was not gathered, a value is not finite, or the backend fails.
pub fn survey<B: Workbench>(
    backend: &B,
    source: &dyn WeightSource,
    ends: &Ends<B>,
    allocator: &dyn Allocator,
    provider: Provider,
    windows: Option<&TokenWindows>,
    known: Option<(&[BlockMoments<B>], usize)>,
) -> Result<Survey> {
    let mut survey = Survey::default();
    let Some(question) = allocator.survey() else {
        return Ok(survey);
    };
    let mut measure = |index: usize, mut block: Block<B>, moments: Option<(&BlockMoments<B>, usize)>| {
        let none = backend.no_statistics();
        let mut statistics: BTreeMap<Tap, B::Statistics> = BTreeMap::new();
        if let Some((moments, sequences)) = moments {
            for (tap, moments) in moments.taps() {
                let found = backend.statistics(moments, sequences, Factoring::from(provider));
                statistics.insert(tap, found.at(format_args!("block {index}, tap {:?}", tap.place))?);
            }
        }
        let layers = block.layers();
        let taps: Vec<Tap> = layers.iter().map(|(id, ..)| block.spec().linear(*id).tap()).collect();
        let each = block.weights_mut().zip(&layers).zip(&taps);
        let mut pieces: Vec<Box<dyn Workpiece + '_>> = each
            .map(|((weight, (.., storage)), tap)| {
                backend.workpiece(weight, *storage, statistics.get(tap).unwrap_or(&none))
            })
            .collect();
        let values = allocator.measure(&mut pieces).at(format_args!("block {index}"))?;
        if values.len() != layers.len() {
            let message = format!("the allocator measured {} of {} layers", values.len(), layers.len());
            return Err(Error::numeric(message).at(format_args!("block {index}")));
        }
        for (value, (_, name, _)) in values.iter().zip(&layers) {
            if !value.is_finite() {
                return Err(Error::numeric(format!("the allocator measured {value}")).at(name));
            }
        }
        survey.values.extend(values);
        Ok(())
    };
    match (windows, known) {
        (_, Some((moments, sequences))) => {
            blocks::each(backend, source, |index, block| {
                measure(index, block, Some((&moments[index], sequences)))
            })?;
        }
        (Some(windows), None) if question.needs.anything() => {
            passes::dense(
                backend,
                source,
                ends,
                windows,
                question.needs,
                |index, block, moments| measure(index, block, Some((&moments, windows.count()))),
            )?;
        }
        _ => blocks::each(backend, source, |index, block| measure(index, block, None))?,
    }
    Ok(survey)
}
