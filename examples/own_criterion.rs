//! A criterion of one's own, in a sweep beside a built-in one.
//!
//! A program that adds its components and then calls `zprune::cli::main(std::env::args_os())` is a `zprune` that has them
//! in every command.

use std::path::Path;
use zprune::error::Result;
use zprune::experiment::inputs::Inputs;
use zprune::experiment::resolve;
use zprune::progress::Silent;
use zprune::prune::component::Name;
use zprune::prune::criterion::register_formula;
use zprune::prune::pattern::Group;
use zprune::prune::score::{input_squares, weight};
use zprune::report::Report;
use zprune::run::{self, Options};

/// Runs the sweep, and gives its table.
pub fn run(results: &Path) -> Result<String> {
    let name = Name {
        name: "gentle-wanda",
        version: 1,
        summary: "|w| times the fourth root of the input's sum of squares",
    };
    register_formula(name, Group::Row, weight().abs() * input_squares().power(0.25))?;

    let experiment = resolve::read(Path::new("examples/own_criterion.toml"))?;
    let folder = results.join(&experiment.name);
    let inputs = Inputs::inspect(&experiment)?;
    let outcome = run::run(&experiment, &inputs, &folder, &Options::default(), &Silent)?;
    outcome.check(&folder)?;
    Ok(Report::read(&folder)?.terminal(None))
}

#[allow(dead_code, reason = "the tests call `run`")]
fn main() -> Result<()> {
    println!("{}", run(Path::new("results"))?);
    Ok(())
}
