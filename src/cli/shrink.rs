//! `zprune shrink`.

use super::calibration::{CalibrationText, how_drawn};
use super::choice::choice;
use super::common::{Common, FollowLinks};
use super::display::Display;
use super::streams::print_lines;
use crate::error::{Error, Result};
use crate::experiment::single;
use crate::jobs::shrink::{self, Shrinking};
use crate::jobs::structure::{BlockLeft, Loaders, Size, Structure};
use crate::model::export::STRUCTURE;
use crate::prune::criterion::CRITERIA;
use crate::prune::units::uniform::MOST_UNITS;
use crate::prune::units::{UNITS, Widths};
use bytesize::ByteSize;
use clap::Args;
use std::path::{Path, PathBuf};

/// Arguments of `zprune shrink`.
#[derive(Debug, Args)]
#[command(
    override_usage = "zprune shrink [OPTIONS] --model <DIR> --method <NAME> --units <SHARE>\n              --out <DIR>"
)]
pub struct Shrink {
    #[command(flatten)]
    common: Common,
    /// Method that chooses what is removed: flap, llm-pruner, olica, two-ssp, unit-sum or block-drop; see `zprune list`
    #[arg(long, value_name = "NAME")]
    method: String,
    /// Parameter of the method, such as --set metric=wifn; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Fraction of the weights of the blocks' linear layers to remove, such as 0.2 or 20%; at most 0.95
    #[arg(long, value_name = "SHARE", value_parser = share)]
    units: f64,
    /// Whether blocks have the same sizes afterwards
    #[arg(long, default_value = "uniform", value_parser = choice::<Widths>(&[
        "All blocks have the same numbers of heads and of neurons, so that every program can load the model",
        "Each block has the sizes that the method gives it. transformers loads such a model with trust_remote_code=True",
    ]))]
    widths: Widths,
    /// Put zeros where a block is smaller than the widest one, so that every program can load the model. It is larger, and no faster
    #[arg(long)]
    pad: bool,
    #[command(flatten)]
    text: CalibrationText,
    #[command(flatten)]
    links: FollowLinks,
    /// Folder to make; it must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The share of `--units`: `0.2` or `20%`.
fn share(text: &str) -> std::result::Result<f64, String> {
    single::fraction(text).map_err(|error| error.to_string())
}

/// Carries out the command `zprune shrink`.
pub fn run(arguments: &Shrink) -> Result<()> {
    if UNITS.find(&arguments.method).is_err() && CRITERIA.find(&arguments.method).is_ok() {
        let name = &arguments.method;
        return Err(Error::config(format!(
            "`{name}` removes single weights, not whole units: use `zprune prune --method {name}`, or a method of whole units, such as flap"
        )));
    }
    let built = UNITS.build(&arguments.method, &single::parameters(&arguments.set)?)?;
    let shrinking = Shrinking {
        name: &arguments.method,
        parameters: built.parameters,
        method: built.component.as_ref(),
        share: arguments.units,
        widths: arguments.widths,
        pad: arguments.pad,
    };
    if !(0.0..=MOST_UNITS).contains(&shrinking.share) {
        let share = shrinking.share;
        let percent = match (1.0..100.0).contains(&share) {
            true => format!("; {share} % is written \"{share}%\""),
            false => String::new(),
        };
        let message = format!("--units {share} must be a fraction of the weights between 0 and {MOST_UNITS}{percent}");
        return Err(Error::config(message));
    }
    if shrinking.share == 0.0 {
        return Err(Error::config("--units 0 removes nothing; give a share, such as 0.2"));
    }
    shrinking.method.check(shrinking.widths)?;
    // A method that looks at weights only does not read standard input.
    let read = shrinking
        .method
        .calibrates()
        .then(|| arguments.text.read())
        .transpose()?;
    let free = arguments.common.protocol.is_none();
    let text = read.as_ref().map(|read| arguments.text.raw(read.path.as_deref(), free));
    let common = arguments.common.resolved();
    let experiment = single::calibrating(&common, &arguments.method, text, arguments.text.seed)?;
    let links = arguments.links.links();
    let done = shrink::shrink(&experiment, &shrinking, &arguments.out, links, &Display::new())?;
    let calibrated = match &experiment.calibration {
        Some(calibration) => format!(
            "calibration {} windows{}\n",
            calibration.sequences,
            how_drawn(&experiment)
        ),
        None => String::new(),
    };
    print_lines(&format!("{calibrated}{}", told(&done, &arguments.out)))
}

/// What was done, for the user.
fn told(done: &Structure, out: &Path) -> String {
    let parts = |of: fn(&Size) -> f64, [less, more]: [&str; 2]| {
        let percent = 100.0 * (1.0 - of(&done.after) / of(&done.before));
        format!("{:.1} % {}", percent.abs(), if percent < 0.0 { more } else { less })
    };
    let (before, after) = (&done.before, &done.after);
    let heads: Vec<usize> = done.blocks.iter().map(|block| block.heads.len()).collect();
    let neurons: Vec<usize> = done.blocks.iter().map(|block| block.neurons.len()).collect();
    let mut text = format!(
        "{}: {}, {:.1} % of the weights of the blocks removed\n\
         blocks      {} left, with {} heads and {} neurons\n\
         parameters  {} -> {} ({})\n\
         stored      {} -> {}\n\
         a token     {:.1} -> {:.1} million multiply-adds ({})\n\
         scoring     {:.3} -> {:.3} ms a token as measured here{}\n",
        out.display(),
        done.method,
        100.0 * done.removed,
        done.blocks.len(),
        range(&heads),
        range(&neurons),
        before.parameters,
        after.parameters,
        parts(|size| size.parameters as f64, ["fewer", "more"]),
        ByteSize(before.bytes),
        ByteSize(after.bytes),
        before.multiply_adds as f64 / 1e6,
        after.multiply_adds as f64 / 1e6,
        parts(|size| size.multiply_adds as f64, ["fewer", "more"]),
        1e3 * before.seconds_per_token,
        1e3 * after.seconds_per_token,
        match before.multiply_adds == after.multiply_adds {
            // A difference would be that between two measurements of the same.
            true => String::new(),
            false => format!(" ({})", parts(|size| size.seconds_per_token, ["less", "more"])),
        },
    );
    match heads.iter().filter(|heads| **heads == 0).count() {
        0 => {}
        1 => text.push_str("one block has no attention\n"),
        without => text.push_str(&format!("{without} blocks have no attention\n")),
    }
    let branches = done.blocks.iter().filter_map(|block| block.branch).count();
    let narrow = |block: &BlockLeft| !block.ranks.is_empty() || !block.values.is_empty() || block.branch.is_some();
    if done.blocks.iter().any(narrow) {
        let fewer = 100.0 * (1.0 - done.left.parameters as f64 / before.parameters as f64);
        text.push_str(&format!(
            "With narrow matrices the model has {} parameters ({:.1} % fewer), {} of them in linear layers. {} No other loader knows narrow matrices, so \
             the dense equivalent is written, too: products, and zeros for removed features of values{}. The times and sizes above are its own.\n",
            done.left.parameters,
            fewer,
            done.left.weights,
            match &done.factored {
                Some(factored) => format!(
                    "They are stored in {} ({}), which zprune loads where model.safetensors is not.",
                    factored.file,
                    ByteSize(factored.bytes)
                ),
                None => "They are not stored, since zeros were asked for (--pad).".to_string(),
            },
            match branches {
                0 => String::new(),
                1 => ", and neurons for the branch beside an MLP".to_string(),
                _ => format!(", and neurons for the branches beside {branches} MLPs"),
            }
        ));
    }
    let zeros = after.parameters.saturating_sub(done.left.parameters);
    if zeros > 0 && !done.padded && !done.blocks.iter().any(narrow) {
        text.push_str(&format!(
            "{zeros} of the parameters are biases that are 0: a key of config.json gives biases to several layers at once, and some of these \
             layers need none\n"
        ));
    }
    text.push_str(match (done.loaders, done.padded) {
        (Loaders::Class, _) => {
            "Blocks differ. zprune loads the model, and so does transformers with trust_remote_code=True, which runs the class in \
             modeling_zprune.py. Others refuse it; --pad writes a model with zeros that they load.\n"
        }
        (Loaders::Zprune, _) => {
            "The number of heads does not divide the width: zprune loads the model, transformers and others refuse it. --pad writes a model \
             with zeros that they load.\n"
        }
        (Loaders::Stock, true) => "Blocks that are smaller than the widest one have zeros, which make the model larger and no faster.\n",
        (Loaders::Stock, false) => "",
    });
    let [now, original] = &done.families;
    if now != original {
        text.push_str(&format!(
            "config.json says `{now}` and not `{original}`: transformers refuses a {original} whose width is not divisible by its heads\n"
        ));
    }
    text.push_str(&format!(
        "Checked: the logits are those of the original {}; they differ by at most {:.0e} of the largest. {STRUCTURE} says what is left.",
        match done.compared_without_blocks {
            true =>
                "without the removed blocks, and with zeros in place of everything else that was removed (in this model a block of zeros would \
                 not leave its input as it is)",
            false => "with zeros in place of what was removed",
        },
        done.logit_difference
    ));
    text
}

/// The smallest and the largest of some numbers.
fn range(numbers: &[usize]) -> String {
    match (numbers.iter().min(), numbers.iter().max()) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
        (Some(all), _) => all.to_string(),
        _ => "no".to_string(),
    }
}
