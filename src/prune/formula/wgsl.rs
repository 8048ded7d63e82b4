//! A formula as text of WGSL. The functions it calls stand in `shaders/common_formula.wgsl`.

use super::{Binary, Formula, Unary};

/// The formula as a WGSL expression of type `f32`. `leaf` and `number` give the text that reads a leaf or a constant.
/// Constants are read from the kernel's parameters, so that one pipeline serves all values.
pub fn expression<L: PartialEq>(
    formula: &Formula<L>,
    leaf: &mut dyn FnMut(&L) -> String,
    number: &mut dyn FnMut(f64) -> String,
) -> String {
    match formula {
        Formula::Leaf(value) => leaf(value),
        Formula::Number(value) => number(*value),
        Formula::Unary(function, of) => {
            let of = expression(of, leaf, number);
            let name = match function {
                Unary::Negate => return format!("(-{of})"),
                Unary::Abs => "abs",
                Unary::Square => "square",
                Unary::Cube => "cube",
                Unary::Root => "root",
                Unary::Inverse => "inverse",
                Unary::Sign => "sign_of",
                Unary::Exp => "exp_of",
                Unary::Log => "log_of",
            };
            format!("{name}({of})")
        }
        Formula::Binary(function, left, right) => {
            let a = expression(left, leaf, number);
            // A value is below a constant in single precision exactly where it is in double precision, if the
            // constant is rounded up.
            let b = match (function, right.as_ref()) {
                (Binary::Below, Formula::Number(bound)) => number(f64::from(not_below(*bound))),
                (_, b) => expression(b, leaf, number),
            };
            match function {
                // A compiler takes a - a for 0 and a / a for 1, also where a is infinite or NaN.
                Binary::Subtract | Binary::Divide if left == right => {
                    let sign = if *function == Binary::Subtract { '-' } else { '/' };
                    format!("(rounded({a}) {sign} {b})")
                }
                // Two products are not added as one: see `rounded` there.
                Binary::Add | Binary::Subtract if is_product(left) && is_product(right) => {
                    let sign = if *function == Binary::Add { '+' } else { '-' };
                    format!("(rounded({a}) {sign} {b})")
                }
                Binary::Add => format!("({a} + {b})"),
                Binary::Subtract => format!("({a} - {b})"),
                Binary::Multiply => format!("({a} * {b})"),
                Binary::Divide => format!("({a} / {b})"),
                Binary::Minimum => format!("minimum({a}, {b})"),
                Binary::Maximum => format!("maximum({a}, {b})"),
                Binary::Power => format!("power({a}, {b})"),
                Binary::Below => format!("below({a}, {b})"),
            }
        }
    }
}

fn is_product<L>(formula: &Formula<L>) -> bool {
    matches!(formula, Formula::Binary(Binary::Multiply | Binary::Divide, ..))
}

/// The smallest `f32` that is not below a value.
fn not_below(value: f64) -> f32 {
    let narrow = value as f32;
    if f64::from(narrow) < value {
        narrow.next_up()
    } else {
        narrow
    }
}
