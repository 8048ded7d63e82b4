//! Claims about the source tree itself: module arrows point one way, and what is promised exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The crate's modules, in the order of `lib.rs`.
fn modules() -> Vec<String> {
    read(&root().join("src/lib.rs"))
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';').map(String::from))
        .collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the source tree") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A module by its names, from the crate down.
type Module = Vec<String>;

/// The words and signs of a Rust file, without comments, strings and lifetimes; `::` is one sign.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |place: usize| chars.get(place).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        match chars[i] {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && chars[i] != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => {
                i += 1;
                while i < chars.len() && chars[i] != '"' {
                    i += if chars[i] == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            'r' | 'b' if !tokens_end_in_word(&chars, i) && raw_string(&chars[i..]).is_some() => {
                i += raw_string(&chars[i..]).expect("it was just found");
            }
            // A character, unless it is a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            '\'' => {
                i += 1;
                while is_word(at(i)) {
                    i += 1;
                }
            }
            ':' if at(i + 1) == ':' => {
                tokens.push("::".to_string());
                i += 2;
            }
            c if is_word(c) => {
                let start = i;
                while is_word(at(i)) {
                    i += 1;
                }
                tokens.push(chars[start..i].iter().collect());
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    tokens
}

/// Whether the character before belongs to the same word.
fn tokens_end_in_word(chars: &[char], place: usize) -> bool {
    place > 0 && (chars[place - 1].is_alphanumeric() || chars[place - 1] == '_')
}

/// The length of a raw string that begins here.
fn raw_string(chars: &[char]) -> Option<usize> {
    let mut i = usize::from(chars[0] == 'b');
    if chars.get(i) != Some(&'r') {
        return None;
    }
    i += 1;
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    i += hashes;
    if chars.get(i) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let rest = &chars[i + 1..];
    let length = rest.windows(end.len()).position(|window| window == end)?;
    Some(i + 1 + length + end.len())
}

/// The place after the item that begins here: after its `;`, or after the `}` that closes it.
fn after_item(tokens: &[String], mut i: usize) -> usize {
    let mut depth = 0;
    while i < tokens.len() {
        match tokens[i].as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 && tokens[i] == "}" {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
        i += 1;
    }
    i
}

/// The paths of a `use` tree that begins at `i`, and the place after it.
fn use_tree(tokens: &[String], mut i: usize, before: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    while i < tokens.len() {
        match tokens[i].as_str() {
            "::" => i += 1,
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|sign| sign != "}") {
                    i = use_tree(tokens, i, &path, paths);
                    assert!(
                        tokens[i] == "," || tokens[i] == "}",
                        "no list of imports: {:?}",
                        &tokens[i - 1..=i]
                    );
                    i += usize::from(tokens[i] == ",");
                }
                return i + 1;
            }
            "," | "}" | ";" => break,
            "as" => i += 2,
            word => {
                path.push(word.to_string());
                i += 1;
            }
        }
    }
    paths.push(path);
    i
}

/// The modules that a file names outside of its tests: in `use`, grouped or not, and in paths.
fn named_modules(file: &Module, text: &str, known: &BTreeSet<Module>) -> BTreeSet<Module> {
    let tokens = tokens(text);
    let mut named = BTreeSet::new();
    // Inline modules that are open, and the depth of braces at which each began.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    let mut i = 0;
    while i < tokens.len() {
        let here = || {
            file.iter()
                .cloned()
                .chain(inline.iter().map(|(name, _)| name.clone()))
                .collect::<Module>()
        };
        let starts = |words: &[&str]| {
            tokens[i..]
                .iter()
                .map(String::as_str)
                .take(words.len())
                .eq(words.iter().copied())
        };
        if starts(&["#", "[", "cfg", "(", "test", ")", "]"]) || starts(&["#", "[", "cfg", "(", "doc", ")", "]"]) {
            i = after_item(&tokens, i + 7);
            continue;
        }
        match tokens[i].as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline.retain(|(_, began)| *began < depth + 1);
            }
            "mod" if tokens.get(i + 2).is_some_and(|sign| sign == "{") => {
                inline.push((tokens[i + 1].clone(), depth + 1));
                depth += 1;
                i += 3;
                continue;
            }
            "use" if tokens.get(i + 1).is_some_and(|sign| sign != "<") => {
                let mut paths = Vec::new();
                i = use_tree(&tokens, i + 1, &[], &mut paths);
                named.extend(paths.iter().filter_map(|path| resolved(&here(), path, known)));
                continue;
            }
            _ if tokens.get(i + 1).is_some_and(|sign| sign == "::") && (i == 0 || tokens[i - 1] != "::") => {
                let mut path = vec![tokens[i].clone()];
                while tokens.get(i + 1).is_some_and(|sign| sign == "::")
                    && tokens.get(i + 2).is_some_and(|it| it != "<")
                {
                    i += 2;
                    path.push(tokens[i].clone());
                }
                named.extend(resolved(&here(), &path, known));
            }
            _ => {}
        }
        i += 1;
    }
    named.remove(file);
    named
}

/// The innermost module with a file of its own that a path leads to, if it leads into the crate.
fn resolved(here: &[String], path: &[String], known: &BTreeSet<Module>) -> Option<Module> {
    let mut module = here.to_vec();
    let mut rest = path.iter().peekable();
    match rest.peek()?.as_str() {
        "crate" => {
            module.clear();
            rest.next();
        }
        "self" => {
            rest.next();
        }
        "super" => {
            while rest.next_if(|word| *word == "super").is_some() {
                module.pop()?;
            }
        }
        child => {
            module.push(child.to_string());
            if !known.contains(&module) {
                return None;
            }
            rest.next();
        }
    }
    for word in rest {
        module.push(word.clone());
        if !known.contains(&module) {
            module.pop();
            break;
        }
    }
    // A module inside a file is that file.
    while !module.is_empty() && !known.contains(&module) {
        module.pop();
    }
    (!module.is_empty()).then_some(module)
}

/// Every file of the crate as a module, with the modules that it names.
fn uses() -> BTreeMap<Module, BTreeSet<Module>> {
    let source = root().join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    let module = |path: &Path| -> Module {
        let inside = path.strip_prefix(&source).expect("files are in src").with_extension("");
        let mut names: Module = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        names.pop_if(|last| last == "mod");
        names
    };
    let texts: BTreeMap<Module, String> = files
        .iter()
        .map(|path| (module(path), read(path)))
        .filter(|(module, _)| !(module.len() == 1 && ["lib", "main"].contains(&module[0].as_str())))
        .collect();
    let known: BTreeSet<Module> = texts.keys().cloned().collect();
    texts
        .iter()
        .map(|(module, text)| (module.clone(), named_modules(module, text, &known)))
        .collect()
}

/// Groups of modules each of which leads to all others.
fn circles(uses: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<Vec<String>> {
    let reached = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(module) = open.pop() {
            for next in &uses[module] {
                if reached.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = uses.keys().map(|module| (module, reached(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, far) in &reached {
        if far.contains(*module) {
            let circle = far.iter().filter(|other| reached[*other].contains(*module));
            circles.insert(circle.map(|module| module.join("/")).collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}

#[test]
fn modules_use_only_those_listed_after_them() {
    let modules = modules();
    assert!(modules.len() > 15, "lib.rs lists only {modules:?}");
    let place = |module: &Module| modules.iter().position(|name| *name == module[0]);
    let mut wrong = Vec::new();
    for (module, used) in uses() {
        for other in used {
            if let (Some(own), Some(target)) = (place(&module), place(&other))
                && target < own
            {
                wrong.push(format!("{} uses {}", module.join("/"), other.join("/")));
            }
        }
    }
    // Links in comments, too: they break where a module is left out of the build.
    let source = root().join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    for file in &files {
        let inside = file.strip_prefix(&source).expect("files are in src").with_extension("");
        let own = inside.iter().next().expect("a path has a part").to_string_lossy();
        let Some(own) = modules.iter().position(|module| *module == own) else {
            continue;
        };
        for (number, line) in read(file).lines().enumerate() {
            for after in line.split("crate::").skip(1) {
                let used: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if modules
                    .iter()
                    .position(|module| *module == used)
                    .is_some_and(|it| it < own)
                {
                    wrong.push(format!("{}:{}: names {used}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that use the file of the module they are in, which names them: nothing else may go in a circle.
const CIRCLES: &[(&str, &str)] = &[(
    "prune/solver",
    "a solver may start from another one, which it finds by name where all are named",
)];

#[test]
fn files_of_a_module_use_each_other_in_one_direction() {
    let uses = uses();
    assert!(uses.len() > 200, "only {} files were found", uses.len());
    let circles = circles(&uses);
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for circle in &circles {
        let first = &circle[0];
        let below = |name: &String| {
            name.strip_prefix(&format!("{first}/"))
                .is_some_and(|rest| !rest.contains('/'))
        };
        match CIRCLES.iter().find(|(name, _)| name == first) {
            Some((name, _)) if circle[1..].iter().all(below) => {
                met.insert(*name);
            }
            _ => wrong.push(circle.join(", ")),
        }
    }
    assert!(wrong.is_empty(), "these go in a circle:\n{}", wrong.join("\n"));
    for (name, _) in CIRCLES {
        assert!(
            met.contains(name),
            "{name} has no circle any more: take it off the list"
        );
    }
}

#[test]
fn imports_are_seen_however_they_are_written() {
    let names = |module: &str| -> Module { module.split('/').map(String::from).collect() };
    let known = ["a", "a/b", "a/c", "d", "d/e"].map(names).into_iter().collect();
    let named = |text: &str| -> Vec<String> {
        let named = named_modules(&names("a/b"), text, &known);
        named.iter().map(|module| module.join("/")).collect()
    };
    for (text, expect) in [
        ("use crate::{d::{e::X, Y}, a::c};", &["a/c", "d", "d/e"][..]),
        ("use super::c::Z; use super::T;", &["a", "a/c"]),
        ("use super::*;", &["a"]),
        ("fn f() { crate::d::e::x(); super::super::d::y() }", &["d", "d/e"]),
        ("mod inner { use super::super::c; use super::own; }", &["a/c"]),
        (
            "// use crate::d;\n/* crate::d */ const X: &str = \"crate::d::e\"; const R: &str = r#\"crate::d\"#;",
            &[],
        ),
        ("#[cfg(test)]\nmod tests { use crate::d; } use crate::a::c;", &["a/c"]),
        (
            "fn f<'a>(x: &'a str) -> char { crate::d::y('\\''); '\"' } use crate::a::c;",
            &["a/c", "d"],
        ),
        ("fn f() -> impl Sized + use<'a> { crate::d::y() }", &["d"]),
        ("use std::d; use serde::e;", &[]),
    ] {
        assert_eq!(named(text), expect, "{text}");
    }
    let circle = |pairs: &[(&str, &str)]| {
        let mut uses: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
        for (from, to) in pairs {
            uses.entry(names(to)).or_default();
            uses.entry(names(from)).or_default().insert(names(to));
        }
        circles(&uses)
    };
    assert_eq!(
        circle(&[("a", "a/b"), ("a/b", "a/c"), ("a/c", "a")]),
        [["a", "a/b", "a/c"]]
    );
    assert!(circle(&[("a", "a/b"), ("a/b", "a/c"), ("a", "a/c")]).is_empty());
}

#[test]
fn every_shipped_experiment_is_listed_and_resolves() {
    let folder = root().join("experiments");
    let listing = read(&folder.join("README.md"));
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("experiments are in the repository") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path
                .file_name()
                .expect("a file has a name")
                .to_string_lossy()
                .into_owned();
            assert!(
                listing.contains(&format!("`{name}`")),
                "experiments/README.md does not mention {name}"
            );
            let request = zprune::experiment::machine::MachineRequest::default();
            zprune::experiment::resolve::read_described(&path, &request).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 3, "only {count} experiments");
}

#[test]
fn the_changelog_has_an_entry_for_this_version() {
    let changelog = read(&root().join("CHANGELOG.md"));
    let heading = format!("## {}", env!("CARGO_PKG_VERSION"));
    let first = changelog
        .lines()
        .find(|line| line.starts_with("## ") && *line != "## Unreleased")
        .expect("the changelog has entries");
    assert_eq!(first, heading);
}
