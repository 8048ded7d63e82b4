//! What the tables of a report say: methods by patterns, methods by models, methods by tasks, distances from the dense model, sizes, comparisons, sources of
//! uncertainty, and published values beside ours.

mod axes;
mod detection;
mod differences;
mod notes;
mod scores;
mod sizes;
mod to_dense;
mod uncertainty;
mod view;

use super::comparison::ComparisonFamily;
use super::results::Results;
use super::sheet::Chapter;
use view::View;

/// All chapters of a report that are not empty. `methods` says which methods tables show, and in which order; all if it is not
/// said.
pub fn chapters(results: &Results, families: &[ComparisonFamily], methods: Option<&[String]>) -> Vec<Chapter> {
    let view = View::new(results, families, methods);
    let chapter = |file, title, sheets| Chapter { file, title, sheets };
    let chapters = [
        chapter("perplexity", "Perplexity", view.perplexity()),
        chapter("axes", "By axes", view.by_axes()),
        chapter("accuracy", "Zero-shot accuracy", view.accuracy()),
        chapter("to_dense", "Beside perplexity", view.to_dense()),
        chapter("sizes", "Sizes and times", view.sizes()),
        chapter("published", "Against published values", view.published()),
        chapter("comparisons", "Comparisons", view.comparisons()),
        chapter("uncertainty", "Where uncertainty comes from", view.uncertainty()),
    ];
    chapters
        .into_iter()
        .filter(|chapter| !chapter.sheets.is_empty())
        .collect()
}
