//! A criterion's formula: read, given its meaning, printed, and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use zprune::prune::criterion::CRITERIA;
use zprune::prune::formula::written::read;

fuzz_target!(|text: &str| {
    let Ok(written) = read(text) else {
        return;
    };
    let normal = written.to_string();
    let again = read(&normal).expect("the normal form is a formula");
    assert_eq!(again.to_string(), normal);
    let table = |text: &str| toml::Table::from_iter([("expression".to_string(), toml::Value::from(text))]);
    let made = CRITERIA.build("expression", &table(text));
    let of_normal = CRITERIA.build("expression", &table(&normal));
    match (made, of_normal) {
        (Ok(made), Ok(of_normal)) => assert_eq!(made.component.score(), of_normal.component.score()),
        (Err(_), Err(_)) => {}
        _ => panic!("a formula and its normal form are not both a criterion"),
    }
});
