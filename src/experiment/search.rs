//! A search, resolved: which methods are tried, and the ordinary experiments that its rungs are.
//!
//! Every rung calibrates with more windows than the one before it, and only the best methods of a rung go on. Rungs are scored on one
//! half of the windows that are held out. The winner is compared on the other half, calibrated with seeds that no rung has: neither
//! text nor seed of the comparison had a say in the choice.

use super::draw::Setting;
use super::plan::{CalibrationPlan, Comparison, EvaluationPlan, Experiment, MethodPlan};
use std::path::{Path, PathBuf};

/// Label of the held-out windows that decide which methods go on.
pub const SELECTING: &str = "selecting half";

/// Label of the held-out windows on which the winner is compared.
pub const CONFIRMING: &str = "other half";

/// Name of the family of the winner's comparisons.
pub const FAMILY: &str = "the winner";

/// Why an evaluation is refused.
pub const SAME_TEXT: &str = "it is the text of the search: the search calibrates with it and chooses the winner on it, so the perplexity \
                             of the winner would be too good. Use another text, or leave the evaluation out (the search compares the \
                             winner on windows that it did not choose by)";

/// A resolved search.
#[derive(Debug, Clone)]
pub struct SearchPlan {
    /// What all rungs have in common. Its methods are those that the winner is compared with, its evaluations and tasks are only
    /// measured with the winner, and its calibration names the corpus.
    pub base: Experiment,
    /// Where all windows come from: a corpus.
    pub calibration: CalibrationPlan,
    /// The methods that are tried; no two have the same meaning.
    pub trials: Vec<Trial>,
    /// Names of drawn methods that mean the same as a trial, and the name of that trial.
    pub merged: Vec<(String, String)>,
    /// How many methods the space has; none if a range has no end of numbers.
    pub points: Option<u64>,
    /// Of so many methods, one goes on.
    pub halve: usize,
    /// Numbers of calibration windows, rung by rung.
    pub sequences: Vec<usize>,
    /// Number of windows that are held out.
    pub held_out: usize,
    /// Calibration seeds of the comparison at the end.
    pub confirm: Vec<u64>,
    /// The seed that decided which methods were drawn, and decides which windows are held out.
    pub seed: u64,
}

/// A method that is tried.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The method.
    pub method: MethodPlan,
    /// What was chosen: axis and value.
    pub settings: Vec<(String, Setting)>,
    /// The method as it can be written into an experiment file.
    pub block: String,
}

/// The files with the windows of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowFiles {
    /// The folder that all of them are in.
    pub folder: PathBuf,
}

impl WindowFiles {
    /// The calibration windows; `{seed}` stands for the seed.
    pub fn calibration(&self) -> PathBuf {
        self.folder.join("calibration-{seed}.safetensors")
    }

    /// The calibration windows of a seed.
    pub fn of_seed(&self, seed: u64) -> PathBuf {
        self.folder.join(format!("calibration-{seed}.safetensors"))
    }

    /// The windows that decide.
    pub fn selecting(&self) -> PathBuf {
        self.folder.join("selecting.safetensors")
    }

    /// The windows of the comparison at the end.
    pub fn confirming(&self) -> PathBuf {
        self.folder.join("confirming.safetensors")
    }
}

impl SearchPlan {
    /// The numbers of methods of all rungs.
    pub fn sizes(&self) -> Vec<usize> {
        let next = |count: &usize| Some(count.div_ceil(self.halve));
        let sizes = std::iter::successors(Some(self.trials.len()), next);
        sizes.take(self.sequences.len()).collect()
    }

    /// How many methods of a rung go on: to the next rung, or as the winner.
    pub fn kept(&self, rung: usize) -> usize {
        self.sizes().get(rung + 1).copied().unwrap_or(1)
    }

    /// The folder of a rung in the folder of the search.
    pub fn rung_folder(folder: &Path, rung: usize) -> PathBuf {
        folder.join(format!("rung-{}", rung + 1))
    }

    /// The folder of the comparison at the end.
    pub fn confirm_folder(folder: &Path) -> PathBuf {
        folder.join("confirm")
    }

    /// How many of the held-out windows decide; the others are for the comparison at the end.
    pub fn selecting(&self) -> usize {
        self.held_out.div_ceil(2)
    }

    /// All seeds that calibration windows are drawn with.
    pub fn seeds(&self) -> Vec<u64> {
        self.base.seeds.iter().chain(&self.confirm).copied().collect()
    }

    /// The experiment of a rung with these trials.
    pub fn rung(&self, rung: usize, trials: &[usize], files: &WindowFiles) -> Experiment {
        Experiment {
            name: format!("{}-rung-{}", self.base.name, rung + 1),
            description: format!("Rung {} of the search {}", rung + 1, self.base.name),
            methods: trials.iter().map(|trial| self.trials[*trial].method.clone()).collect(),
            evaluations: vec![self.windows(SELECTING, files.selecting(), self.selecting())],
            tasks: Vec::new(),
            generations: Vec::new(),
            ..self.with_calibration(self.sequences[rung], files)
        }
    }

    /// The experiment that compares the winner.
    pub fn confirmation(&self, winner: usize, files: &WindowFiles) -> Experiment {
        let winner = &self.trials[winner].method;
        let own = [
            self.windows(SELECTING, files.selecting(), self.selecting()),
            self.windows(CONFIRMING, files.confirming(), self.held_out - self.selecting()),
        ];
        let last = self.sequences.last().copied().unwrap_or(1);
        Experiment {
            name: format!("{}-confirm", self.base.name),
            description: format!(
                "The winner of the search {} against methods that it was not chosen from",
                self.base.name
            ),
            seeds: self.confirm.clone(),
            methods: std::iter::once(winner).chain(&self.base.methods).cloned().collect(),
            evaluations: own.into_iter().chain(self.base.evaluations.iter().cloned()).collect(),
            comparisons: vec![Comparison {
                family: FAMILY.to_string(),
                ours: winner.name.clone(),
                against: self.base.methods.iter().map(|method| method.name.clone()).collect(),
                pairs: Vec::new(),
                models: self.base.models.iter().map(|model| model.name.clone()).collect(),
                patterns: self.base.patterns.clone(),
                evaluations: vec![CONFIRMING.to_string()],
                tasks: Vec::new(),
            }],
            ..self.with_calibration(last, files)
        }
    }

    /// The experiment with windows that are in files.
    fn with_calibration(&self, sequences: usize, files: &WindowFiles) -> Experiment {
        let calibration = CalibrationPlan {
            corpus: None,
            tokens: Some(files.calibration()),
            join: None,
            sampling: None,
            sequences,
            ..self.calibration.clone()
        };
        Experiment {
            calibration: Some(calibration),
            ..self.base.clone()
        }
    }

    fn windows(&self, name: &str, file: PathBuf, windows: usize) -> EvaluationPlan {
        EvaluationPlan {
            name: name.to_string(),
            corpus: None,
            tokens: Some(file),
            obtain: None,
            join: None,
            rows: None,
            length: self.calibration.length,
            windows: Some(windows),
            compare_to_dense: false,
        }
    }
}
