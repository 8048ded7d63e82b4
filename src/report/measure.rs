//! What scores measure: how their values and differences are shown, and which tables they belong to.

use super::format::digits;
use crate::experiment::plan::Experiment;

/// What a score measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// Perplexity in an evaluation; lower is better. The texts are windows, and their values are mean negative
    /// log-likelihoods in nats per token.
    Perplexity {
        /// Name of the evaluation in the experiment.
        evaluation: String,
    },
    /// Kullback-Leibler divergence from the dense model in an evaluation; lower is better. The texts are windows, and their values are
    /// nats per token.
    Divergence {
        /// Name of the evaluation in the experiment.
        evaluation: String,
    },
    /// How often the likeliest token is the dense model's in an evaluation; higher is better. The texts are windows, and their values
    /// are shares of tokens.
    Agreement {
        /// Name of the evaluation in the experiment.
        evaluation: String,
    },
    /// Accuracy on a zero-shot task; higher is better. The texts are documents, and their values are 0 or 1.
    Accuracy {
        /// Name of the zero-shot task.
        task: String,
        /// Name of the metric, `acc` or `acc_norm`.
        metric: &'static str,
    },
}

/// The tables that a measure belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeasureKind {
    /// Perplexities.
    Perplexity,
    /// Distances from the dense model.
    ToDense,
    /// Accuracies on tasks.
    Accuracy,
}

impl Measure {
    /// The tables that the measure belongs to.
    pub fn kind(&self) -> MeasureKind {
        match self {
            Measure::Perplexity { .. } => MeasureKind::Perplexity,
            Measure::Divergence { .. } | Measure::Agreement { .. } => MeasureKind::ToDense,
            Measure::Accuracy { .. } => MeasureKind::Accuracy,
        }
    }

    /// The evaluation that it is measured in; none on tasks.
    pub fn evaluation(&self) -> Option<&String> {
        match self {
            Measure::Perplexity { evaluation }
            | Measure::Divergence { evaluation }
            | Measure::Agreement { evaluation } => Some(evaluation),
            Measure::Accuracy { .. } => None,
        }
    }

    /// What is measured, in a word or two.
    pub fn quantity(&self) -> &'static str {
        match self {
            Measure::Perplexity { .. } => "perplexity",
            Measure::Divergence { .. } => "KL divergence",
            Measure::Agreement { .. } => "agreement",
            Measure::Accuracy { .. } => "accuracy",
        }
    }

    /// Name of the measure in tables.
    pub fn label(&self) -> String {
        match self {
            Measure::Perplexity { evaluation } => evaluation.clone(),
            Measure::Divergence { evaluation } => format!("{evaluation} (KL)"),
            Measure::Agreement { evaluation } => format!("{evaluation} (agreement)"),
            Measure::Accuracy { task, metric } => format!("{task} ({metric})"),
        }
    }

    /// Whether larger values are better.
    pub fn higher_is_better(&self) -> bool {
        matches!(self, Measure::Agreement { .. } | Measure::Accuracy { .. })
    }

    /// What a table shows for a mean over texts: a perplexity, nats, or a share in percent.
    pub fn shown(&self, mean: f64) -> f64 {
        match self {
            Measure::Perplexity { .. } => mean.exp(),
            Measure::Divergence { .. } => mean,
            Measure::Agreement { .. } | Measure::Accuracy { .. } => 100.0 * mean,
        }
    }

    /// What a table shows for a difference of means over texts: change of perplexity in percent, nats, or percentage points.
    pub fn difference(&self, difference: f64) -> f64 {
        match self {
            Measure::Perplexity { .. } => 100.0 * difference.exp_m1(),
            _ => self.shown(difference),
        }
    }

    /// The unit of [`Measure::difference`], for programs.
    pub fn unit(&self) -> &'static str {
        match self {
            Measure::Perplexity { .. } => "percent",
            Measure::Divergence { .. } => "nats",
            Measure::Agreement { .. } | Measure::Accuracy { .. } => "points",
        }
    }

    /// The same behind a number in a table.
    pub fn sign(&self) -> &'static str {
        match self {
            Measure::Perplexity { .. } => " %",
            Measure::Divergence { .. } => " nats",
            Measure::Agreement { .. } | Measure::Accuracy { .. } => "",
        }
    }

    /// Number of digits after the point of a value in a table.
    pub fn digits(&self, value: f64) -> usize {
        match self {
            Measure::Divergence { .. } => 4,
            _ => digits(value),
        }
    }
}

/// The distances from the dense model that an experiment measures.
pub fn to_dense(experiment: &Experiment) -> impl Iterator<Item = Measure> {
    let compared = experiment.evaluations.iter().filter(|it| it.compare_to_dense);
    compared.flat_map(|it| {
        let evaluation = it.name.clone();
        [
            Measure::Divergence {
                evaluation: evaluation.clone(),
            },
            Measure::Agreement { evaluation },
        ]
    })
}
