//! The windows of a search: those that are held out, and those that rungs calibrate with.
//!
//! They are drawn once and written into files, so that every rung is an experiment on the same windows: a rung with fewer windows takes
//! the first of them. The folder of the files is named after their content. With another text or other settings it is another folder, and
//! records of the first one are not taken for those of the second.

use crate::data::corpus::Corpus;
use crate::data::digest;
use crate::data::sampler::CalibrationSource;
use crate::data::tokenizer::Tokenizer;
use crate::data::windows::TokenWindows;
use crate::error::{Error, Located, Result};
use crate::experiment::inputs::Inputs;
use crate::experiment::plan::Experiment;
use crate::experiment::search::{SAME_TEXT, SearchPlan, WindowFiles};
use crate::files::{Access, OutputFile, no_links};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// The folder of the files in the folder of a search.
const FOLDER: &str = "windows";

/// All windows of a search.
pub struct Windows {
    /// Those that decide which methods go on.
    pub selecting: TokenWindows,
    /// Those on which the winner is compared.
    pub confirming: TokenWindows,
    /// Calibration windows by seed.
    pub calibration: BTreeMap<u64, TokenWindows>,
    /// Who may read the text.
    access: Access,
}

/// Draws the windows of a search. Held-out windows are taken out of the text first, so that no others overlap them.
///
/// # Errors
/// Something is missing, the text is too short, or has the same passage twice and one of them is held out.
pub fn draw(plan: &SearchPlan) -> Result<Windows> {
    let inputs = texts(plan)?;
    // Those of the last comparison as well: they are wanted when all rungs are done.
    inputs.require_all()?;
    drawn(plan, &inputs)?.ok_or_else(|| inputs.lacks())
}

/// Checks that the windows of a search can be drawn, as far as the tokenizer and the text are on this machine.
///
/// # Errors
/// As [`draw`], but what is missing is none.
pub fn check(plan: &SearchPlan) -> Result<()> {
    drawn(plan, &texts(plan)?).map(drop)
}

/// The texts of a search, for all of its seeds.
fn texts(plan: &SearchPlan) -> Result<Inputs> {
    Inputs::inspect_texts(&Experiment {
        seeds: plan.seeds(),
        ..plan.base.clone()
    })
}

/// The windows; `None` if the tokenizer or the text is missing.
fn drawn(plan: &SearchPlan, inputs: &Inputs) -> Result<Option<Windows>> {
    let seeds = plan.seeds();
    let model = inputs.folders.first().and_then(Option::as_ref);
    let Some((model, file)) = model.zip(inputs.calibration.values().next()) else {
        return Ok(None);
    };
    let calibration = &plan.calibration;
    let corpus = || Error::config("a search draws its windows from a corpus");
    let (join, sampling) = calibration.join.zip(calibration.sampling).ok_or_else(corpus)?;
    let tokenizer = Tokenizer::load(&model.path)?;
    let (vocabulary, length) = (model.spec.vocabulary, calibration.length.of(&model.spec));
    let name = calibration.source().display();
    let text = Corpus::read(&file.path, join)?;
    let mut source = CalibrationSource::new(text, join, sampling, plan.base.bos, &tokenizer, vocabulary)?;
    let held = source.hold_out(&tokenizer, vocabulary, plan.seed, plan.held_out, length);
    let held = held.at(&name)?;
    let last = plan.sequences.last().copied().unwrap_or(1);
    let drawn = seeds.iter().map(|seed| {
        let windows = source.draw(&tokenizer, vocabulary, *seed, last, length).at(&name)?;
        Ok((*seed, windows))
    });
    let drawn: BTreeMap<u64, TokenWindows> = drawn.collect::<Result<_>>()?;
    apart(&held, &drawn).at(&name)?;
    reported_elsewhere(plan, inputs, &file.digest, &held)?;
    Ok(Some(Windows {
        selecting: every_second(&held, 0)?,
        confirming: every_second(&held, 1)?,
        calibration: drawn,
        access: Access::of(&file.path)?,
    }))
}

/// Refuses an evaluation on the text of the search, whatever its file is called, and one with windows that are held out: what is reported
/// must have had no say in the choice.
fn reported_elsewhere(plan: &SearchPlan, inputs: &Inputs, digest: &str, held: &TokenWindows) -> Result<()> {
    let known: HashSet<&[u32]> = held.ids().chunks(held.length()).collect();
    for (evaluation, input) in plan.base.evaluations.iter().zip(&inputs.evaluations) {
        let Some(input) = input else { continue };
        let chosen_on = match evaluation.tokens {
            None => input.digest == digest,
            Some(_) => {
                let windows = TokenWindows::read(&input.path)?;
                windows
                    .ids()
                    .chunks(windows.length())
                    .any(|window| known.contains(window))
            }
        };
        if chosen_on {
            let at = format!("evaluation `{}`", evaluation.name);
            return Err(Error::input(SAME_TEXT).at(input.path.display()).at(at));
        }
    }
    Ok(())
}

/// Every second window: both halves are spread over the whole text.
fn every_second(windows: &TokenWindows, first: usize) -> Result<TokenWindows> {
    let length = windows.length();
    let half = windows.ids().chunks(length).skip(first).step_by(2);
    TokenWindows::new(half.flatten().copied().collect(), length)
}

/// Refuses calibration windows with the same tokens as one that is held out: the text has the passage twice.
fn apart(held: &TokenWindows, calibration: &BTreeMap<u64, TokenWindows>) -> Result<()> {
    let known: HashSet<&[u32]> = held.ids().chunks(held.length()).collect();
    for (seed, windows) in calibration {
        let mut drawn = windows.ids().chunks(windows.length());
        if let Some(window) = drawn.position(|window| known.contains(window)) {
            return Err(Error::input(format!(
                "calibration window {window} of seed {seed} has the same tokens as a window that is held out: the text has this passage \
                 more than once; remove the copies, or choose another `seed` in [search]"
            )));
        }
    }
    Ok(())
}

impl Windows {
    /// Writes the windows that are not there yet into the folder of a search.
    ///
    /// # Errors
    /// The disk refuses, or a file that is there holds something else.
    pub fn write(&self, folder: &Path) -> Result<WindowFiles> {
        let digests: Vec<String> = [&self.selecting, &self.confirming]
            .into_iter()
            .map(TokenWindows::digest)
            .chain(
                self.calibration
                    .iter()
                    .map(|(seed, windows)| format!("{seed} {}", windows.digest())),
            )
            .collect();
        let name = &digest::of_bytes(digests.join("\n").as_bytes())[..16];
        no_links(folder, Path::new(FOLDER).join(name))?;
        let files = WindowFiles {
            folder: folder.join(FOLDER).join(name),
        };
        let own = [
            (files.selecting(), &self.selecting),
            (files.confirming(), &self.confirming),
        ];
        let drawn = self
            .calibration
            .iter()
            .map(|(seed, windows)| (files.of_seed(*seed), windows));
        let all: Vec<(PathBuf, &TokenWindows)> = own.into_iter().chain(drawn).collect();
        for (path, windows) in all {
            if path.exists() {
                let there = TokenWindows::read(&path)?;
                if there != *windows {
                    let message = "it was changed since zprune wrote it; remove it, so that it can be written again";
                    return Err(Error::output(&path, message));
                }
                continue;
            }
            // Tokens are the text to whoever has the tokenizer.
            let output = OutputFile {
                path: &path,
                inputs: &[],
                force: false,
                ours: |path| TokenWindows::read(path).is_ok(),
                access: self.access,
            };
            output.write(&windows.file()?)?;
        }
        Ok(files)
    }
}
