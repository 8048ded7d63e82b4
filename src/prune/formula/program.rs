//! A formula on the host: a list of steps, each a loop over some hundred values of one row, so that every loop is
//! vectorised and its values stay in the first cache.

use super::{Binary, Formula, Unary};
use crate::backend::cpu::simd::vectorised;
use ndarray::NdFloat;

/// Number of values that a step computes at a time.
const CHUNK: usize = 512;

/// The values of a leaf or a step along a row.
#[derive(Debug, Clone, Copy)]
pub enum Along<'a, T> {
    /// One value for each column.
    Each(&'a [T]),
    /// The same value in every column.
    One(T),
}

/// A number type that formulas can be evaluated in.
pub trait Real: NdFloat {
    /// Converts values from single precision to this type; `room` receives them if they are of another type.
    fn from_single<'a>(values: &'a [f32], room: &'a mut [Self]) -> &'a [Self];

    /// Converts one value from single precision to this type.
    fn single(value: f32) -> Self;

    /// Converts a constant to this type.
    fn number(value: f64) -> Self;
}

impl Real for f32 {
    fn from_single<'a>(values: &'a [f32], _room: &'a mut [f32]) -> &'a [f32] {
        values
    }

    fn single(value: f32) -> f32 {
        value
    }

    fn number(value: f64) -> f32 {
        value as f32
    }
}

impl Real for f64 {
    #[inline(always)]
    fn from_single<'a>(values: &'a [f32], room: &'a mut [f64]) -> &'a [f64] {
        let room = &mut room[..values.len()];
        room.iter_mut()
            .zip(values)
            .for_each(|(room, value)| *room = f64::from(*value));
        room
    }

    fn single(value: f32) -> f64 {
        f64::from(value)
    }

    fn number(value: f64) -> f64 {
        value
    }
}

/// A formula as a list of steps, which is evaluated many values at a time.
#[derive(Debug, Clone)]
pub struct Program<L> {
    leaves: Vec<L>,
    steps: Vec<Step>,
    result: Source,
}

/// Where a step's value comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    Leaf(usize),
    Number(f64),
    Step(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Unary(Unary, Source),
    Binary(Binary, Source, Source),
}

/// Memory for the values of a program's steps; every thread needs its own.
pub struct Scratch<T> {
    /// [`CHUNK`] values for each leaf, followed by [`CHUNK`] values for each step.
    values: Vec<T>,
    /// For each step, its value if that is the same in every column.
    ones: Vec<Option<T>>,
}

impl<L: Clone + PartialEq> Program<L> {
    /// Translates a formula into steps; a part that occurs twice is computed once.
    pub fn new(formula: &Formula<L>) -> Self {
        let mut program = Program {
            leaves: Vec::new(),
            steps: Vec::new(),
            result: Source::Number(0.0),
        };
        program.result = program.add(formula);
        program
    }

    fn add(&mut self, formula: &Formula<L>) -> Source {
        let step = match formula {
            Formula::Leaf(leaf) => return Source::Leaf(place(&mut self.leaves, leaf.clone())),
            Formula::Number(value) => return Source::Number(*value),
            Formula::Unary(function, of) => Step::Unary(*function, self.add(of)),
            Formula::Binary(function, a, b) => {
                let a = self.add(a);
                Step::Binary(*function, a, self.add(b))
            }
        };
        Source::Step(place(&mut self.steps, step))
    }

    /// The leaves of the formula; [`Program::evaluate`] takes their values in this order.
    pub fn leaves(&self) -> &[L] {
        &self.leaves
    }

    /// Memory in which one thread can evaluate this program.
    pub fn scratch<T: Real>(&self) -> Scratch<T> {
        Scratch {
            values: vec![T::zero(); (self.leaves.len() + self.steps.len()) * CHUNK],
            ones: vec![None; self.steps.len()],
        }
    }

    /// Computes the formula's values along a row from the values of its leaves.
    pub fn evaluate<T: Real>(&self, leaves: &[Along<f32>], scratch: &mut Scratch<T>, into: &mut [T]) {
        vectorised(
            #[inline(always)]
            || {
                for (index, into) in into.chunks_mut(CHUNK).enumerate() {
                    self.chunk(leaves, index * CHUNK, scratch, into);
                }
            },
        );
    }

    #[inline(always)]
    fn chunk<T: Real>(&self, leaves: &[Along<f32>], first: usize, scratch: &mut Scratch<T>, into: &mut [T]) {
        let length = into.len();
        let (given, values) = scratch.values.split_at_mut(self.leaves.len() * CHUNK);
        let mut rooms = given.chunks_mut(CHUNK);
        // Few formulas have more leaves; none needs them on the heap.
        let mut known = [Along::One(T::zero()); LEAVES];
        assert!(
            leaves.len() <= LEAVES,
            "a formula of more than {LEAVES} different leaves"
        );
        for (known, leaf) in known.iter_mut().zip(leaves) {
            let room = rooms.next().expect("there is room for every leaf");
            *known = match leaf {
                Along::Each(values) => Along::Each(T::from_single(&values[first..first + length], room)),
                Along::One(value) => Along::One(T::single(*value)),
            };
        }
        for (index, step) in self.steps.iter().enumerate() {
            let (before, rest) = values.split_at_mut(index * CHUNK);
            let ones = &scratch.ones;
            let of = |source: Source| match source {
                Source::Leaf(leaf) => known[leaf],
                Source::Number(value) => Along::One(T::number(value)),
                Source::Step(step) => match ones[step] {
                    Some(value) => Along::One(value),
                    None => Along::Each(&before[step * CHUNK..][..length]),
                },
            };
            let out = &mut rest[..length];
            let one = match *step {
                Step::Unary(function, of_source) => unary(function, of(of_source), out),
                Step::Binary(function, a, b) => binary(function, of(a), of(b), out),
            };
            scratch.ones[index] = one;
        }
        let result = match self.result {
            Source::Leaf(leaf) => known[leaf],
            Source::Number(value) => Along::One(T::number(value)),
            Source::Step(step) => match scratch.ones[step] {
                Some(value) => Along::One(value),
                None => Along::Each(&values[step * CHUNK..][..length]),
            },
        };
        match result {
            Along::Each(values) => into.copy_from_slice(values),
            Along::One(value) => into.fill(value),
        }
    }
}

/// Most different leaves that a formula may have.
pub const LEAVES: usize = 16;

/// The index of an item in a list; the item is added if it is not there.
fn place<I: PartialEq>(items: &mut Vec<I>, item: I) -> usize {
    match items.iter().position(|known| *known == item) {
        Some(index) => index,
        None => {
            items.push(item);
            items.len() - 1
        }
    }
}

/// Computes a step of one operand. Returns its value if it is the same in every column, otherwise writes the values
/// to `out`.
#[inline(always)]
fn unary<T: Real>(function: Unary, of: Along<T>, out: &mut [T]) -> Option<T> {
    // Written out, so that each loop is compiled for its function.
    match function {
        Unary::Negate => each(of, out, |x| Unary::Negate.of(x)),
        Unary::Abs => each(of, out, |x| Unary::Abs.of(x)),
        Unary::Square => each(of, out, |x| Unary::Square.of(x)),
        Unary::Cube => each(of, out, |x| Unary::Cube.of(x)),
        Unary::Root => each(of, out, |x| Unary::Root.of(x)),
        Unary::Inverse => each(of, out, |x| Unary::Inverse.of(x)),
        Unary::Sign => each(of, out, |x| Unary::Sign.of(x)),
        Unary::Exp => each(of, out, |x| Unary::Exp.of(x)),
        Unary::Log => each(of, out, |x| Unary::Log.of(x)),
    }
}

#[inline(always)]
fn binary<T: Real>(function: Binary, a: Along<T>, b: Along<T>, out: &mut [T]) -> Option<T> {
    match function {
        Binary::Add => both(a, b, out, |a, b| Binary::Add.of(a, b)),
        Binary::Subtract => both(a, b, out, |a, b| Binary::Subtract.of(a, b)),
        Binary::Multiply => both(a, b, out, |a, b| Binary::Multiply.of(a, b)),
        Binary::Divide => both(a, b, out, |a, b| Binary::Divide.of(a, b)),
        Binary::Minimum => both(a, b, out, |a, b| Binary::Minimum.of(a, b)),
        Binary::Maximum => both(a, b, out, |a, b| Binary::Maximum.of(a, b)),
        Binary::Power => both(a, b, out, |a, b| Binary::Power.of(a, b)),
        Binary::Below => both(a, b, out, |a, b| Binary::Below.of(a, b)),
    }
}

#[inline(always)]
fn each<T: Real>(of: Along<T>, out: &mut [T], function: impl Fn(T) -> T) -> Option<T> {
    match of {
        Along::One(x) => Some(function(x)),
        Along::Each(values) => {
            out.iter_mut().zip(values).for_each(|(out, x)| *out = function(*x));
            None
        }
    }
}

#[inline(always)]
fn both<T: Real>(a: Along<T>, b: Along<T>, out: &mut [T], function: impl Fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Along::One(a), Along::One(b)) => return Some(function(a, b)),
        (Along::One(a), Along::Each(b)) => out.iter_mut().zip(b).for_each(|(out, b)| *out = function(a, *b)),
        (Along::Each(a), Along::One(b)) => out.iter_mut().zip(a).for_each(|(out, a)| *out = function(*a, b)),
        (Along::Each(a), Along::Each(b)) => {
            let values = out.iter_mut().zip(a).zip(b);
            values.for_each(|((out, a), b)| *out = function(*a, *b));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_computes_what_its_formula_says() {
        let (w, x, r) = (|| Formula::leaf('w'), || Formula::leaf('x'), || Formula::leaf('r'));
        let formula = (w() * r() - 0.5).cube().abs() * x() + w().abs().below(x()) + (r() * r() - w()).sign();
        let program = Program::new(&formula);
        let weights: Vec<f32> = (0..1300).map(|i| (i as f32 * 0.37).sin()).collect();
        let columns: Vec<f32> = (0..1300).map(|i| (i as f32 * 0.11).cos().abs()).collect();
        let r = 0.75;
        let leaves: Vec<Along<f32>> = program
            .leaves()
            .iter()
            .map(|leaf| match leaf {
                'w' => Along::Each(weights.as_slice()),
                'x' => Along::Each(columns.as_slice()),
                _ => Along::One(r),
            })
            .collect();
        let mut single = vec![0.0f32; 1300];
        program.evaluate(&leaves, &mut program.scratch(), &mut single);
        let mut double = vec![0.0f64; 1300];
        program.evaluate(&leaves, &mut program.scratch(), &mut double);
        for (index, (single, double)) in single.iter().zip(&double).enumerate() {
            let (w, x) = (weights[index], columns[index]);
            let z = w * r - 0.5;
            let below = f32::from(u8::from(w.abs() < x));
            let sign = Unary::Sign.of(r * r - w);
            assert_eq!(*single, (z * z * z).abs() * x + below + sign, "{index}");
            assert!((f64::from(*single) - double).abs() < 1e-6, "{index}");
        }
    }
}
