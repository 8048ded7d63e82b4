//! Writes out what a shader repeats. WGSL has no macros, and a loop over an array of results keeps them in memory
//! instead of registers, so kernels name every result; this step lets people write each such line once.
//!
//! ```text
//! #for i in 0..4          the lines up to #end, once for each value, with {i} replaced
//! #for u in x, w          the same for a list of words
//! #define fetch(at)       a block with parameters; #fetch(k + 8u) writes it with {at} replaced
//! #end
//! ```
//!
//! Blocks nest, and a `#define` may stand below its use: files that shaders share come last. A `{name}` that no block
//! defines stays as it is: WGSL has braces of its own.

/// One line of a text and its number.
type Line<'a> = (usize, &'a str);

/// A block that a line `#define` gave a name.
struct Block<'a> {
    name: &'a str,
    parameters: Vec<&'a str>,
    lines: Vec<Line<'a>>,
}

/// The text that each `{name}` stands for; the innermost name is last.
type Names = Vec<(String, String)>;

/// The text with all `#for` and `#define` blocks written out.
///
/// # Errors
/// A directive that is not known or not closed, with its line.
pub(super) fn expand(text: &str) -> Result<String, String> {
    let lines: Vec<Line> = text.lines().enumerate().map(|(n, line)| (n + 1, line)).collect();
    let mut expansion = Expansion {
        blocks: defined(&lines)?,
        text: String::with_capacity(text.len()),
    };
    expansion.write(&lines, &mut Names::new())?;
    Ok(expansion.text)
}

struct Expansion<'a> {
    blocks: Vec<Block<'a>>,
    text: String,
}

impl<'a> Expansion<'a> {
    fn write(&mut self, lines: &[Line<'a>], names: &mut Names) -> Result<(), String> {
        let mut next = 0;
        while let Some(&(number, line)) = lines.get(next) {
            next += 1;
            let Some(directive) = line.trim_start().strip_prefix('#') else {
                self.text.push_str(&replaced(line, names));
                self.text.push('\n');
                continue;
            };
            let fail = |message: &str| Err(format!("line {number}: {message}: `{}`", line.trim()));
            if let Some(head) = directive.strip_prefix("for ") {
                let body =
                    block(&lines[next..]).ok_or_else(|| format!("line {number}: no #end for `{}`", line.trim()))?;
                next += body.len() + 1;
                let Some((name, values)) = head.split_once(" in ") else {
                    return fail("expected #for NAME in VALUES");
                };
                let Some(values) = values_of(values) else {
                    return fail("expected a range of numbers or a list of words");
                };
                for value in values {
                    names.push((name.trim().to_string(), value));
                    self.write(body, names)?;
                    names.pop();
                }
            } else if directive.starts_with("define ") {
                // It was read before.
                next += block(&lines[next..]).map_or(0, |body| body.len() + 1);
            } else {
                let Some((name, arguments)) = call(directive) else {
                    return fail("not a directive");
                };
                let Some(block) = self.blocks.iter().find(|block| block.name == name) else {
                    return fail("there is no #define of this name");
                };
                if block.parameters.len() != arguments.len() {
                    return fail("another number of arguments than #define has");
                }
                // Arguments are read where they stand; the block sees only its own parameters.
                let arguments = arguments.iter().map(|argument| replaced(argument, names));
                let parameters = block.parameters.iter().map(|it| it.to_string());
                let mut inside: Names = parameters.zip(arguments).collect();
                let body = block.lines.clone();
                self.write(&body, &mut inside)?;
            }
        }
        Ok(())
    }
}

/// The blocks that have names.
fn defined<'a>(lines: &[Line<'a>]) -> Result<Vec<Block<'a>>, String> {
    let mut blocks = Vec::new();
    let mut next = 0;
    while let Some(&(number, line)) = lines.get(next) {
        next += 1;
        let Some(head) = line.trim_start().strip_prefix("#define ") else {
            continue;
        };
        let body = block(&lines[next..]).ok_or_else(|| format!("line {number}: no #end for `{}`", line.trim()))?;
        next += body.len() + 1;
        let Some((name, parameters)) = call(head) else {
            return Err(format!(
                "line {number}: expected #define NAME(PARAMETERS): `{}`",
                line.trim()
            ));
        };
        blocks.push(Block {
            name,
            parameters,
            lines: body.to_vec(),
        });
    }
    Ok(blocks)
}

/// The lines up to the `#end` that closes the block which contains them.
fn block<'a, 'b>(lines: &'b [Line<'a>]) -> Option<&'b [Line<'a>]> {
    let mut depth = 1;
    for (index, (_, line)) in lines.iter().enumerate() {
        let line = line.trim();
        if line.starts_with("#for ") || line.starts_with("#define ") {
            depth += 1;
        } else if line == "#end" {
            depth -= 1;
            if depth == 0 {
                return Some(&lines[..index]);
            }
        }
    }
    None
}

/// The values in a list such as `0..4` or `x, w`.
fn values_of(text: &str) -> Option<Vec<String>> {
    if let Some((first, end)) = text.split_once("..") {
        let (first, end): (u32, u32) = (first.trim().parse().ok()?, end.trim().parse().ok()?);
        return Some((first..end).map(|value| value.to_string()).collect());
    }
    let words: Vec<String> = text.split(',').map(|word| word.trim().to_string()).collect();
    words.iter().all(|word| !word.is_empty()).then_some(words)
}

/// Name and arguments of a call such as `name(a, b)`.
fn call(text: &str) -> Option<(&str, Vec<&str>)> {
    let (name, arguments) = text.trim().strip_suffix(')')?.split_once('(')?;
    let arguments = arguments
        .split(',')
        .map(str::trim)
        .filter(|argument| !argument.is_empty());
    Some((name, arguments.collect()))
}

fn replaced(line: &str, names: &Names) -> String {
    let inner_first = names.iter().rev();
    inner_first.fold(line.to_string(), |line, (name, value)| {
        line.replace(&format!("{{{name}}}"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_once_for_each_value() {
        let text = "a\n#for i in 0..2\n#for u in x, w\nvar {u}{i} = {i}u; if b { c }\n#end\n#end\nz\n";
        let expected = "a\nvar x0 = 0u; if b { c }\nvar w0 = 0u; if b { c }\nvar x1 = 1u; if b { c }\nvar w1 = 1u; if b { c }\nz\n";
        assert_eq!(expand(text).expect("closed"), expected);
    }

    #[test]
    fn a_block_sees_its_parameters_and_nothing_of_its_surroundings() {
        let text = "#define put(to, v)\n{to} = {v} + {i};\n#end\n#for i in 3..5\n#put(y{i}, 2u)\n#end\n";
        assert_eq!(expand(text).expect("closed"), "y3 = 2u + {i};\ny4 = 2u + {i};\n");
    }

    #[test]
    fn a_block_may_stand_below_its_use() {
        let text = "fn f(\n    #both()\n) {}\n#define both()\n    a: u32,\n    b: u32,\n#end\n";
        assert_eq!(expand(text).expect("closed"), "fn f(\n    a: u32,\n    b: u32,\n) {}\n");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let cases = [
            ("#for i in 0..2\nx\n", "line 1: no #end"),
            ("x\n#for i in\n#end", "line 2: expected #for NAME in VALUES"),
            (
                "#for i in a..b\n#end",
                "line 1: expected a range of numbers or a list of words",
            ),
            ("#put(1)", "line 1: there is no #define of this name"),
            ("x\n#define put\n#end", "line 2: expected #define NAME(PARAMETERS)"),
            (
                "#define put(a)\n#end\n#put(1, 2)",
                "line 3: another number of arguments",
            ),
            ("#include", "line 1: not a directive"),
        ];
        for (text, message) in cases {
            let error = expand(text).expect_err(text);
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}
