//! An experiment file: parsed, resolved, its grid laid out, and read back from what a plan file would hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zprune::experiment::plan::Experiment;
use zprune::experiment::source::Source;
use zprune::experiment::resolve;

fuzz_target!(|text: String| {
    let source = Source {
        path: "x.toml".into(),
        text,
    };
    if let Ok(experiment) = resolve::parse(&source) {
        if experiment.seeds.len() * experiment.patterns.len() * experiment.methods.len() < 10_000 {
            for cell in experiment.cells() {
                assert!(!experiment.describe(&cell).is_empty());
            }
        }
        let text = toml::to_string(&experiment).expect("a resolved experiment can be written");
        let again: Experiment = toml::from_str(&text).expect("and read again");
        assert_eq!(again, experiment);
    }
});
