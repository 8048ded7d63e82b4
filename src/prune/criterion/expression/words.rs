//! The names that formulas know: values, functions and reductions, with what they mean. Formulas are read with this table, and
//! `zprune list expression` prints it.

use crate::backend::gradient::GradientSum;
use crate::calibrate::gradients::Loss;
use crate::prune::formula::Formula;
use crate::prune::score::{
    Quantity, Score, depth, gradients, input_means, input_squares, input_variances, output_squares, pivots, sequences,
    weight,
};

/// A name that stands for a value.
pub struct Value {
    /// Its names: the short one that people write, which stands in the normal form, and that in the formulas that zprune prints.
    pub names: &'static [&'static str],
    /// What there is one of it for.
    pub each: &'static str,
    /// What it is.
    pub meaning: &'static str,
    pub(super) score: fn() -> Score,
}

/// A function of values.
pub struct Function {
    /// Its names, as of a value.
    pub names: &'static [&'static str],
    /// The names of the function that it is another word for; its own if it is none.
    pub(super) normal: &'static [&'static str],
    /// How many values it takes at least and at most.
    pub(super) takes: (usize, usize),
    /// Whether it makes fewer values: one for each row, each column or the layer.
    pub reduces: bool,
    /// What it is.
    pub meaning: &'static str,
}

const INPUT: &str = "input (column)";
const OUTPUT: &str = "output (row)";
const LAYER: &str = "layer";
const WEIGHT: &str = "weight";

/// All values.
pub const VALUES: &[Value] = &[
    value(&["w"], WEIGHT, "the weight", weight),
    value(
        &["x2", "input_squares"],
        INPUT,
        "the sum of squares of the input, divided by the number of calibration sequences",
        input_squares,
    ),
    value(
        &["mean", "input_means"],
        INPUT,
        "the mean of the input over calibration tokens",
        input_means,
    ),
    value(
        &["variance", "input_variances"],
        INPUT,
        "the variance of the input over calibration tokens",
        input_variances,
    ),
    value(
        &["pivot", "pivots"],
        INPUT,
        "`U_jj`, where `U` is the factor of the inverse of the damped Hessian (SparseGPT's): with it, the solver `obs` computes the \
         scores of the remaining weights again",
        pivots,
    ),
    value(
        &["y2", "output_squares"],
        OUTPUT,
        "the sum of squares of the output, divided by the number of sequences",
        output_squares,
    ),
    value(
        &["grad"],
        WEIGHT,
        "the mean over sequences of the gradient of the loss",
        || of_loss(GradientSum::Plain) / sequences(),
    ),
    value(
        &["grad2"],
        WEIGHT,
        "the mean over sequences of the square of a sequence's gradient",
        || of_loss(GradientSum::Squares) / sequences(),
    ),
    value(
        &["gradients"],
        WEIGHT,
        "the sum over sequences of the gradient of the loss",
        || of_loss(GradientSum::Plain),
    ),
    value(&["gradient_squares"], WEIGHT, "the sum of its squares", || {
        of_loss(GradientSum::Squares)
    }),
    value(&["gradient_magnitudes"], WEIGHT, "the sum of its magnitudes", || {
        of_loss(GradientSum::Magnitudes)
    }),
    value(
        &["block_gradients"],
        WEIGHT,
        "the sum over sequences of the gradient of the norm of the block's outputs",
        || of_outputs(GradientSum::Plain),
    ),
    value(&["block_gradient_squares"], WEIGHT, "the sum of its squares", || {
        of_outputs(GradientSum::Squares)
    }),
    value(
        &["block_gradient_magnitudes"],
        WEIGHT,
        "the sum of its magnitudes",
        || of_outputs(GradientSum::Magnitudes),
    ),
    value(
        &["sequences"],
        LAYER,
        "the number of calibration sequences whose gradients were added up",
        sequences,
    ),
    value(&["fan_in", "columns"], LAYER, "the number of its inputs", columns),
    value(&["fan_out", "rows"], LAYER, "the number of its outputs", rows),
    value(
        &["depth"],
        LAYER,
        "the place of its block: 0 for the first, 1 for the last",
        depth,
    ),
];

const MAX: &[&str] = &["max"];
const MIN: &[&str] = &["min"];

/// All functions.
pub const FUNCTIONS: &[Function] = &[
    each(&["abs"], "without the sign"),
    each(&["sqrt", "root"], "the square root"),
    each(&["square"], "the square"),
    each(&["cube"], "the third power"),
    each(&["exp"], "the exponential"),
    each(&["log"], "the natural logarithm"),
    each(&["sign"], "-1, 0 or 1"),
    each(&["inverse"], "`1 / a`, and 0 where `a` is not above 0"),
    pair(&["power"], "as `a ^ b`"),
    as_is(MAX, pair(&["maximum"], "the larger of two values, as `max(a, b)`")),
    as_is(MIN, pair(&["minimum"], "the smaller of two values, as `min(a, b)`")),
    pair(&["below"], "1 where `a < b`, and else 0"),
    reduction(&["row_sum", "row_sums"], "the sum over the weights of each row"),
    reduction(&["row_mean"], "the mean over the weights of each row"),
    reduction(&["row_std"], "the standard deviation over the weights of each row"),
    reduction(&["col_sum", "column_sums"], "the sum over the weights of each column"),
    reduction(&["col_mean"], "the mean over the weights of each column"),
    reduction(&["col_std"], "the standard deviation over the weights of each column"),
    reduction(&["sum"], "the sum over all values"),
    reduction(&["mean"], "the mean over all values"),
    reduction(&["std"], "the standard deviation over all values"),
    Function {
        takes: (1, 2),
        ..reduction(
            MAX,
            "`max(a)`: the largest of all values; `max(a, b)`: the larger of two values",
        )
    },
    Function {
        takes: (1, 2),
        ..reduction(
            MIN,
            "`min(a)`: the smallest of all values; `min(a, b)`: the smaller of two values",
        )
    },
    as_is(MAX, reduction(&["greatest"], "the largest of all values, as `max(a)`")),
    as_is(MIN, reduction(&["least"], "the smallest of all values, as `min(a)`")),
];

const fn value(
    names: &'static [&'static str],
    each: &'static str,
    meaning: &'static str,
    score: fn() -> Score,
) -> Value {
    Value {
        names,
        each,
        meaning,
        score,
    }
}

const fn each(names: &'static [&'static str], meaning: &'static str) -> Function {
    Function {
        names,
        normal: names,
        takes: (1, 1),
        reduces: false,
        meaning,
    }
}

/// A function that is another word for the function of these names.
const fn as_is(normal: &'static [&'static str], function: Function) -> Function {
    Function { normal, ..function }
}

const fn pair(names: &'static [&'static str], meaning: &'static str) -> Function {
    Function {
        takes: (2, 2),
        ..each(names, meaning)
    }
}

const fn reduction(names: &'static [&'static str], meaning: &'static str) -> Function {
    Function {
        reduces: true,
        ..each(names, meaning)
    }
}

fn of_loss(sum: GradientSum) -> Score {
    gradients(Loss::Likelihood, sum)
}

fn of_outputs(sum: GradientSum) -> Score {
    gradients(Loss::Outputs, sum)
}

/// The number of outputs of the layer.
pub(super) fn rows() -> Score {
    Formula::Leaf(Quantity::Rows)
}

/// The number of inputs of the layer.
pub(super) fn columns() -> Score {
    Formula::Leaf(Quantity::Columns)
}

impl Value {
    /// The value of this name.
    pub(super) fn find(name: &str) -> Option<&'static Value> {
        VALUES.iter().find(|value| value.names.contains(&name))
    }
}

impl Function {
    /// The function of this name.
    pub(super) fn find(name: &str) -> Option<&'static Function> {
        FUNCTIONS.iter().find(|function| function.names.contains(&name))
    }

    /// The function as it is called, by its first name.
    pub fn call(&self) -> String {
        let name = self.names[0];
        match self.takes {
            (2, 2) => format!("{name}(a, b)"),
            _ => format!("{name}(a)"),
        }
    }
}
