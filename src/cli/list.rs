//! `zprune list`: everything that has a name, and all that is known of one of them.

use super::formulas;
use super::pages::Page;
use crate::backend::moments::Needs;
use crate::calibrate::gradients::Loss;
use crate::error::{Error, Result};
use crate::eval::tasks::TASKS;
use crate::experiment::known::{KNOWN, KnownRecipe};
use crate::experiment::protocol::PROTOCOLS;
use crate::experiment::single;
use crate::hub::datasets::{DATASETS, PREFIX};
use crate::model::families::FAMILIES;
use crate::model::layer_file::Content;
use crate::prune::allocator::ALLOCATORS;
use crate::prune::compensation::COMPENSATIONS;
use crate::prune::component::Components;
use crate::prune::criterion::CRITERIA;
use crate::prune::described::Parameter;
use crate::prune::pattern::COLUMN_BLOCK;
use crate::prune::permutation::PERMUTATIONS;
use crate::prune::refiner::REFINERS;
use crate::prune::solver::SOLVERS;
use crate::prune::transform::TRANSFORMS;
use crate::prune::units::UNITS;
use crate::registry::{Entry, nearest};
use crate::submit::ENGINES;

/// How patterns are written, and what they mean.
const PATTERNS: [(&str, &str); 2] = [
    (
        "0.5, \"50%\"",
        "unstructured: a fraction of every comparison group; { sparsity = 0.5 } in full",
    ),
    (
        "\"2:4\"",
        "N:M: of every 4 consecutive inputs of an output, 2 are kept; { keep = 2, of = 4 } in full",
    ),
];

/// Which weights compete with each other.
const GROUPS: [(&str, &str); 4] = [
    ("matrix", "all weights of a layer"),
    ("row", "the inputs of one output"),
    (
        "row-share",
        "as row, but every output loses the same share of its scores, not of its weights",
    ),
    ("column-block", "128 consecutive inputs of all outputs"),
];

const _: () = assert!(COLUMN_BLOCK == 128, "the text of column-block says 128");

/// Everything that has a name, in a line each.
pub(super) fn listing() -> String {
    let mut text = String::new();
    section(&mut text, "model families (config.json `model_type`)", FAMILIES.entries);
    section(&mut text, "criteria", CRITERIA.entries());
    section(&mut text, "solvers", SOLVERS.entries());
    section(&mut text, "allocators", ALLOCATORS.entries());
    section(&mut text, "transforms", TRANSFORMS.entries());
    section(&mut text, "permutations", PERMUTATIONS.entries());
    section(&mut text, "mask refinements", REFINERS.entries());
    section(&mut text, "compensations", COMPENSATIONS.entries());
    section(&mut text, "methods of whole units (`zprune shrink`)", UNITS.entries());
    text.push_str("recipes by name (recipe = \"NAME\" in a [[method]], or --method NAME)\n");
    for known in &KNOWN {
        text.push_str(&format!("  {:<23}  {} ({})\n", known.name, known.line(), known.source));
    }
    for (title, words) in [("patterns", &PATTERNS[..]), ("comparison groups", &GROUPS[..])] {
        text.push_str(&format!("{title}\n"));
        for (name, what) in words {
            text.push_str(&format!("  {name:<23}  {what}\n"));
        }
    }
    section(&mut text, "protocols", PROTOCOLS.entries);
    section(&mut text, "engines of `zprune submit`", ENGINES.entries);
    section(
        &mut text,
        "corpora by name (corpus = \"hub:NAME\" or \"hub:NAME:SPLIT\"; any other: \"hub:org/name/path/file.parquet\")",
        DATASETS.entries,
    );
    section(&mut text, "zero-shot tasks, as in lm-evaluation-harness", TASKS.entries);
    text.push_str("`zprune list NAME` shows everything about one of them\n");
    text
}

fn section<T: 'static>(text: &mut String, title: &str, entries: impl IntoIterator<Item = &'static Entry<T>>) {
    let mut entries = entries.into_iter().peekable();
    if entries.peek().is_none() {
        return;
    }
    text.push_str(&format!("{title}\n"));
    for entry in entries {
        text.push_str(&format!("  {:<23}  {}\n", entry.name, entry.summary));
    }
}

/// The sections of the list, by what one of their entries is called.
const KINDS: [(&[&str], &[&str]); 16] = [
    (&["method"], &["criteria", "recipes by name", "methods of whole units"]),
    (&["family", "families", "model"], &["model families"]),
    (&["criterion", "criteria"], &["criteria"]),
    (&["solver"], &["solvers"]),
    (&["allocator"], &["allocators"]),
    (&["transform"], &["transforms"]),
    (&["permutation"], &["permutations"]),
    (&["refine", "refiner", "refinement"], &["mask refinements"]),
    (&["compensate", "compensation"], &["compensations"]),
    (&["unit"], &["methods of whole units"]),
    (&["recipe"], &["recipes by name"]),
    (&["pattern", "sparsity"], &["patterns"]),
    (&["group"], &["comparison groups"]),
    (&["protocol"], &["protocols"]),
    (&["corpus", "corpora", "dataset", "text"], &["corpora by name"]),
    (&["task"], &["zero-shot tasks"]),
];

/// The sections of the list whose entries are called so: `criteria`, `methods`.
fn of_kind(kind: &str) -> Option<String> {
    let one = kind.strip_suffix('s').unwrap_or(kind);
    let is = |names: &[&str]| names.contains(&kind) || names.contains(&one);
    let (_, titles) = KINDS.iter().find(|(names, _)| is(names))?;
    let whole = listing();
    let mut wanted = false;
    let lines = whole.lines().filter(|line| {
        // What is indented belongs to the title before it, and the last line to none.
        if !line.starts_with(' ') {
            wanted = titles.iter().any(|title| line.starts_with(title));
        }
        wanted
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// All about what has a name, which may be typed with capitals: a criterion and a solver may have the same. Or the list of a kind.
///
/// # Errors
/// Nothing has this name.
pub(super) fn about(typed: &str) -> Result<String> {
    let name = typed.strip_prefix(PREFIX).unwrap_or(typed).to_lowercase();
    let found = told(&name);
    if !found.is_empty() {
        return Ok(found.join("\n\n"));
    }
    of_kind(&name).ok_or_else(|| {
        let near = nearest(&name, &all_names());
        let near = near.map_or(";".to_string(), |near| format!("; did you mean `{near}`?"));
        Error::config(format!("unknown name `{typed}`{near} `zprune list` has all names"))
    })
}

/// What is known of everything that has this name.
fn told(name: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    if let Some(known) = KnownRecipe::find(name) {
        found.push(recipe(known));
    }
    let told = component(&CRITERIA, "criterion", name, &found, |it| {
        let group = match it.file() {
            Some(file) if file.content == Content::Mask => {
                "comparison group: none; the file says of each weight whether it is kept".to_string()
            }
            _ => format!("comparison group: {}", it.group()),
        };
        let mut facts = vec![
            format!("score: {}", it.score()),
            group,
            format!("needs: {}", in_words(it.needs())),
        ];
        for (loss, what) in [
            (Loss::Likelihood, "the dense model's loss"),
            (Loss::Outputs, "the norm of each block's outputs"),
        ] {
            if it.gradients(loss).anything() {
                facts.push(format!("needs: calibration: gradients of {what}"));
            }
        }
        if facts.len() > 3 && !it.needs().anything() {
            facts.remove(2);
        }
        if it.follows_update() {
            facts.push(
                "with a solver that updates weights, scores are computed again from the updated ones".to_string(),
            );
        }
        facts
    });
    found.extend(told);
    let told = component(&SOLVERS, "solver", name, &found, |it| {
        let group = it.group().map_or("the criterion's".to_string(), |group| {
            format!("{group}, whatever the criterion is, since the solver chooses the mask")
        });
        let updates = match it.updates() {
            true => "changes the weights that are kept",
            false => "leaves the weights that are kept as they are",
        };
        vec![
            format!("comparison group: {group}"),
            format!("needs: {}", in_words(it.needs())),
            updates.to_string(),
        ]
    });
    found.extend(told);
    let told = component(&ALLOCATORS, "allocator", name, &found, |it| {
        let mut facts = Vec::new();
        match it.survey() {
            Some(question) => facts.push(format!(
                "needs: a pass of the dense model, {}",
                in_words(question.needs)
            )),
            None if it.tries() => facts.push("needs: calibration text that is held out, to try shares on".to_string()),
            None => facts.push(format!("needs: {}", in_words(Needs::NOTHING))),
        }
        facts
    });
    found.extend(told);
    let told = component(&TRANSFORMS, "transform", name, &found, |it| needs(it.needs()));
    found.extend(told);
    let told = component(&PERMUTATIONS, "permutation", name, &found, |it| needs(it.needs()));
    found.extend(told);
    let told = component(&REFINERS, "refine", name, &found, |it| needs(it.needs()));
    found.extend(told);
    let told = component(&COMPENSATIONS, "compensate", name, &found, |it| needs(it.needs()));
    found.extend(told);
    found.extend(units(name));
    found.extend(entry("model family", name, FAMILIES.entries));
    found.extend(entry("protocol", name, PROTOCOLS.entries));
    found.extend(entry("corpus of the hub", name, DATASETS.entries));
    found.extend(entry("zero-shot task", name, TASKS.entries));
    found.extend(entry("engine of `zprune submit`", name, ENGINES.entries));
    let words = PATTERNS.iter().map(|known| ("pattern", known));
    let words = words.chain(GROUPS.iter().map(|known| ("comparison group", known)));
    found.extend(
        words
            .filter(|(_, (known, _))| known.split(", ").any(|known| known.trim_matches('"') == name))
            .map(|(kind, (_, what))| format!("{name}: a {kind}\n\n{what}")),
    );
    found
}

/// What the list says of an entry that is no component.
fn entry<T: 'static>(kind: &str, name: &str, entries: &'static [Entry<T>]) -> Option<String> {
    let entry = entries.iter().find(|entry| entry.name == name)?;
    let article = if kind.starts_with('e') { "an" } else { "a" };
    Some(format!("{name}: {article} {kind}\n\n{}", entry.summary))
}

/// All names, each once.
fn all_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
    names.extend(CRITERIA.entries().iter().map(|entry| entry.name));
    names.extend(SOLVERS.entries().iter().map(|entry| entry.name));
    names.extend(ALLOCATORS.entries().iter().map(|entry| entry.name));
    names.extend(TRANSFORMS.entries().iter().map(|entry| entry.name));
    names.extend(PERMUTATIONS.entries().iter().map(|entry| entry.name));
    names.extend(REFINERS.entries().iter().map(|entry| entry.name));
    names.extend(COMPENSATIONS.entries().iter().map(|entry| entry.name));
    names.extend(UNITS.entries().iter().map(|entry| entry.name));
    names.extend(FAMILIES.entries.iter().map(|entry| entry.name));
    names.extend(PROTOCOLS.entries.iter().map(|entry| entry.name));
    names.extend(DATASETS.entries.iter().map(|entry| entry.name));
    names.extend(TASKS.entries.iter().map(|entry| entry.name));
    names.extend(ENGINES.entries.iter().map(|entry| entry.name));
    names.extend(GROUPS.iter().map(|(name, _)| *name));
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

/// What is known of a recipe.
fn recipe(known: &KnownRecipe) -> String {
    // It has no parameters of its own, so it can be made.
    let group = single::method_alone(known.name, None, None, &[]);
    let group = group.map_or(String::new(), |recipe| format!("comparison group: {}\n", recipe.group));
    let method = known.method();
    let criterion = method.criterion.as_ref().map(|typed| typed.get_ref().name.as_str());
    let solver = method.solver.as_ref().map(|typed| typed.get_ref().name.as_str());
    let steps = [
        criterion.map(|name| ("criterion", name, CRITERIA.parameters(name).unwrap_or_default())),
        solver.map(|name| ("solver", name, SOLVERS.parameters(name).unwrap_or_default())),
    ];
    let mut more = String::new();
    for (key, name, parameters) in steps.into_iter().flatten() {
        let names: Vec<String> = parameters.iter().map(|parameter| parameter.name.to_string()).collect();
        if let Some(first) = names.first() {
            more.push_str(&format!(
                "parameters of its {key}, as in --set {key}.{first}=...: {} (zprune list {name})\n",
                names.join(", ")
            ));
        }
    }
    for page in [
        criterion.and_then(|name| Page::of("criterion", name)),
        solver.and_then(|name| Page::of("solver", name)),
    ]
    .into_iter()
    .flatten()
    {
        let line = format!("more: docs/methods/{}.md\n", page.name);
        if !more.contains(&line) {
            more.push_str(&line);
        }
    }
    format!(
        "{0}: a recipe ({1})\n\nIt stands for {2}.\n{group}{more}To use it: recipe = \"{0}\" in a [[method]], methods = [\"{0}\"], or --method {0}",
        known.name,
        known.source,
        known.line()
    )
}

/// What is known of a method of whole units.
fn units(name: &str) -> Option<String> {
    let entry = UNITS.find(name).ok()?;
    let page = Page::of("units", name);
    let mut text = format!("{name}: a {}\n\n{}\n\n", UNITS.kind(), entry.summary);
    if let Ok(built) = UNITS.build(name, &toml::Table::new()) {
        let needs = match built.component.calibrates() {
            true => "needs: calibration text",
            false => "needs: nothing but the weights",
        };
        text.push_str(&format!("{needs}\n"));
    }
    let parameters = UNITS.parameters(name).unwrap_or_default();
    if let Some(first) = parameters.first() {
        text.push_str(&format!("parameters, as in --set {}=...\n", first.name));
    }
    for parameter in &parameters {
        text.push_str(&line(parameter, page));
    }
    let more = page.map_or("docs/shrink.md".to_string(), |page| {
        format!("docs/methods/{}.md", page.name)
    });
    text.push_str(&format!(
        "to use it: zprune shrink --model DIR --method {name} --units 0.2 --out DIR\nmore: {more}"
    ));
    Some(text)
}

/// What is known of a component; `key` is its step in a `[[method]]`, and `facts` tells what it says of itself as it is by default;
/// `said` is what was told already.
fn component<T: ?Sized>(
    components: &Components<T>,
    key: &str,
    name: &str,
    said: &[String],
    facts: impl Fn(&T) -> Vec<String>,
) -> Option<String> {
    let entry = components.find(name).ok()?;
    let page = Page::of(key, name);
    let article = match components.kind().starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => "an",
        false => "a",
    };
    let mut text = format!("{name}: {article} {} ({key} = \"{name}\")\n\n", components.kind());
    match page {
        // SparseGPT's criterion and solver have one page.
        Some(page) if said.iter().any(|said| said.contains(&page.about())) => text.push_str(entry.summary),
        Some(page) => text.push_str(&page.about()),
        None => text.push_str(entry.summary),
    }
    text.push_str("\n\n");
    // What reads a file can be made with any name of one.
    let made = components.build(name, &toml::Table::new());
    if let Ok(built) = made.or_else(|_| components.build(name, &toml::toml! { path = "FILE" })) {
        for fact in facts(&built.component) {
            text.push_str(&format!("{fact}\n"));
        }
    }
    let parameters = components.parameters(name).unwrap_or_default();
    match parameters.is_empty() {
        true if name == "expression" => text.push_str(&formulas::words()),
        true => text.push_str("no parameters\n"),
        false => text.push_str(&format!(
            "parameters, as in {key} = {{ name = \"{name}\", {} = ... }} or --set {key}.{0}=...\n",
            parameters[0].name
        )),
    }
    for parameter in &parameters {
        text.push_str(&line(parameter, page));
    }
    if let Some(page) = page {
        text.push_str(&format!("more: docs/methods/{}.md\n", page.name));
    }
    Some(text.trim_end().to_string())
}

/// A parameter: its name, what it may be and its default, and below that what it means.
fn line(parameter: &Parameter, page: Option<Page>) -> String {
    // What is not recorded while it is the default stands only on the page.
    let written = page.and_then(|page| page.cells(&parameter.name)?.into_iter().next());
    let default = match (&parameter.default, written) {
        (Some(value), _) => format!("by default {value}"),
        (None, Some(written)) if !written.is_empty() => format!("by default {}", written.replace('`', "")),
        (None, _) => "no default".to_string(),
    };
    let meaning = page
        .and_then(|page| page.meaning(&parameter.name))
        .filter(|meaning| !meaning.is_empty());
    let meaning = meaning.map_or(String::new(), |meaning| format!("      {meaning}\n"));
    format!("  {:<16}  {}; {default}\n{meaning}", parameter.name, parameter.legal)
}

fn needs(needs: Needs) -> Vec<String> {
    vec![format!("needs: {}", in_words(needs))]
}

/// What statistics of calibration are needed, in words.
fn in_words(needs: Needs) -> String {
    let all = [
        (needs.squares && !needs.gram, "the norms of the inputs"),
        (needs.gram, "the Gram matrix of the inputs"),
        (needs.means, "the means of the inputs"),
        (needs.cross, "the products of the inputs with the dense model's"),
        (
            needs.goal_means,
            "the means of the dense model's inputs under target = \"dense\"",
        ),
        (
            needs.goal_gram,
            "the Gram matrix of the dense model's inputs under target = \"dense\"",
        ),
    ];
    let named: Vec<&str> = all
        .into_iter()
        .filter(|(needed, _)| *needed)
        .map(|(_, what)| what)
        .collect();
    match named.is_empty() {
        true => "no calibration".to_string(),
        false => format!("calibration: {}", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_tells_formula_parameters_paper_group_and_needs() {
        let said = about("fista").expect("a solver");
        for part in [
            "fista: a solver (solver = \"fista\")",
            "min over V of  1/2 ||(V - W) X||^2",
            "arXiv 2408.03728",
            "comparison group: the criterion's",
            "needs: calibration: the Gram matrix of the inputs",
            "  steps             a whole number, between 1 and 10000; by default 20",
            "least squares on the final mask",
            "docs/methods/fista.md",
        ] {
            assert!(said.contains(part), "no `{part}` in:\n{said}");
        }
        let said = about("obs").expect("a criterion and a solver");
        assert!(
            said.contains("obs: a criterion") && said.contains("obs: a solver"),
            "{said}"
        );
        let said = about("admm").expect("a recipe and a solver");
        assert!(
            said.contains("admm: a recipe") && said.contains("matrix, whatever the criterion is"),
            "{said}"
        );
        let error = about("wnada").expect_err("unknown").to_string();
        assert!(
            error.starts_with("unknown name `wnada`; did you mean `wanda`?"),
            "{error}"
        );
        assert_eq!(about("Wanda").ok(), about("wanda").ok());
        assert!(about("hub:c4").is_ok_and(|said| said.starts_with("c4: a corpus")));
    }

    #[test]
    fn a_kind_is_answered_with_its_part_of_the_list() {
        let criteria = about("criteria").expect("a kind");
        assert!(
            criteria.starts_with("criteria\n  magnitude ") && !criteria.contains("solvers"),
            "{criteria}"
        );
        assert!(!criteria.contains("`zprune list NAME`"), "{criteria}");
        let methods = about("methods").expect("several kinds");
        assert!(
            methods.contains("  wanda ") && methods.contains("  thanos ") && methods.contains("  flap "),
            "{methods}"
        );
        for (names, titles) in KINDS {
            let said = about(names[0]).expect("a kind");
            assert!(titles.iter().all(|title| said.contains(title)), "{said}");
        }
    }

    #[test]
    fn every_component_and_recipe_can_be_told_about() {
        for name in all_names() {
            let said = about(name).expect("a name");
            assert!(said.contains(name), "{said}");
            // The group of a formula is one of its own parameters.
            let group = name != "expression" && (said.contains(": a criterion (") || said.contains(": a recipe ("));
            assert!(!group || said.contains("comparison group: "), "{said}");
            assert!(!said.contains("]("), "{said}");
        }
    }

    /// The pages are written for people; what they say of defaults and ranges must be what the components say.
    #[test]
    fn pages_and_components_say_the_same_of_parameters() {
        fn check<T: ?Sized>(components: &Components<T>, key: &str) {
            for entry in components.entries() {
                let Some(page) = Page::of(key, entry.name) else {
                    continue;
                };
                for parameter in components.parameters(entry.name).expect("a component") {
                    let Some(cells) = page.cells(&parameter.name) else {
                        assert_eq!(
                            page.name, "table-and-file",
                            "{} does not explain {}",
                            page.name, parameter.name
                        );
                        continue;
                    };
                    let written = cells[0].trim_matches('`').trim_matches('"').replace(',', "");
                    let (name, page) = (&parameter.name, page.name);
                    match &parameter.default {
                        Some(serde_json::Value::Number(number)) => {
                            let written: f64 = written.parse().unwrap_or_else(|_| panic!("{page}, {name}: {written}"));
                            assert_eq!(Some(written), number.as_f64(), "{page}: the default of {name}");
                        }
                        Some(serde_json::Value::String(text)) => assert_eq!(*text, written, "{page}: {name}"),
                        Some(other) => assert_eq!(other.to_string(), written, "{page}: {name}"),
                        // It has none, or one that is not recorded.
                        None => {}
                    }
                    let Some((from, to)) = (match &cells[..] {
                        [_, range, _] => range.split_once(" to "),
                        _ => None,
                    }) else {
                        continue;
                    };
                    let number = |text: &str| text.replace(',', "").parse::<f64>().ok();
                    if let (Some(from), Some(to)) = (number(from), number(to)) {
                        assert!(
                            parameter.legal.ends_with(&format!("between {from} and {to}")),
                            "{page}: {name} is from {from} to {to} there, but it is {}",
                            parameter.legal
                        );
                    }
                }
            }
        }
        check(&CRITERIA, "criterion");
        check(&SOLVERS, "solver");
        check(&ALLOCATORS, "allocator");
        check(&TRANSFORMS, "transform");
        check(&PERMUTATIONS, "permutation");
        check(&REFINERS, "refine");
        check(&COMPENSATIONS, "compensate");
    }
}
