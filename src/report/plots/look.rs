//! Colour and marker of a method: the same in every plot of a report, and in the reports of other experiments.
//!
//! The methods of papers have fixed ones. Others get theirs from their name, and another one only where a method of the same
//! experiment has that colour or that marker already.

use plotters::style::RGBColor;
use std::collections::BTreeMap;

/// Colours that can be told apart in print and by colour-blind readers (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(127, 127, 127),
];

/// Outlines of markers, in tenths of their radius: methods also differ in shape, and shapes can be told apart if all are of one grey.
const SHAPES: [&[(i32, i32)]; 12] = [
    // Circle, drawn as one.
    &[],
    // Square
    &[(-9, -9), (9, -9), (9, 9), (-9, 9)],
    // Triangle
    &[(0, -11), (11, 9), (-11, 9)],
    // Diamond
    &[(0, -13), (11, 0), (0, 13), (-11, 0)],
    // Triangle on its head
    &[(0, 11), (11, -9), (-11, -9)],
    // Plus
    &[
        (-4, -12),
        (4, -12),
        (4, -4),
        (12, -4),
        (12, 4),
        (4, 4),
        (4, 12),
        (-4, 12),
        (-4, 4),
        (-12, 4),
        (-12, -4),
        (-4, -4),
    ],
    // Star with five points
    &[
        (0, -14),
        (3, -4),
        (13, -4),
        (5, 2),
        (8, 11),
        (0, 5),
        (-8, 11),
        (-5, 2),
        (-13, -4),
        (-3, -4),
    ],
    // Hourglass
    &[(-10, -11), (10, -11), (3, 0), (10, 11), (-10, 11), (-3, 0)],
    // Cross
    &[
        (-6, -11),
        (0, -6),
        (6, -11),
        (11, -6),
        (6, 0),
        (11, 6),
        (6, 11),
        (0, 6),
        (-6, 11),
        (-11, 6),
        (-6, 0),
        (-11, -6),
    ],
    // Bow tie
    &[(-11, -10), (0, -3), (11, -10), (11, 10), (0, 3), (-11, 10)],
    // Triangle that points to the left
    &[(-11, 0), (9, -11), (9, 11)],
    // Triangle that points to the right
    &[(11, 0), (-9, -11), (-9, 11)],
];

/// Number of looks that are all different.
const LOOKS: usize = COLOURS.len() * SHAPES.len();

/// Names whose looks are fixed, by their place here.
const KNOWN: [&str; 10] = [
    "magnitude",
    "wanda",
    "ria",
    "z-pruner",
    "sparsegpt",
    "stade",
    "nowag",
    "admm",
    "alps",
    "fistapruner",
];

/// Colour and marker shape of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Colour of the marker and its line.
    pub colour: RGBColor,
    /// Corners of the marker in tenths of its radius; none for a circle.
    pub(super) shape: &'static [(i32, i32)],
}

impl Look {
    fn at(index: usize) -> Look {
        Look {
            colour: COLOURS[index % COLOURS.len()],
            shape: SHAPES[index % SHAPES.len()],
        }
    }

    /// The look of things that belong to no method: a circle of this colour.
    pub fn round(colour: RGBColor) -> Look {
        Look {
            colour,
            shape: SHAPES[0],
        }
    }
}

/// The looks of an experiment's methods.
pub struct Looks(BTreeMap<String, usize>);

impl Looks {
    /// Looks for these names, whatever their order.
    pub fn of(methods: &[&str]) -> Looks {
        let known = |name: &&str| KNOWN.iter().position(|known| known == name);
        let mut taken: BTreeMap<String, usize> = methods
            .iter()
            .filter_map(|name| Some((name.to_string(), known(name)?)))
            .collect();
        let mut others: Vec<&&str> = methods.iter().filter(|name| known(name).is_none()).collect();
        others.sort_unstable();
        for name in others {
            let wanted = hash(name);
            let looks = || (0..LOOKS).map(|step| (wanted + step) % LOOKS);
            let new = |count: usize| {
                let taken = &taken;
                move |index: &usize| taken.values().all(|other| other % count != index % count)
            };
            let [new_colour, new_shape, free] = [COLOURS.len(), SHAPES.len(), LOOKS].map(new);
            let index = looks()
                .find(|index| new_colour(index) && new_shape(index))
                .or_else(|| looks().find(new_shape))
                .or_else(|| looks().find(free))
                .unwrap_or(wanted);
            taken.insert(name.to_string(), index);
        }
        Looks(taken)
    }

    /// The look of a method.
    pub fn look(&self, method: &str) -> Look {
        Look::at(self.0.get(method).copied().unwrap_or_else(|| hash(method)))
    }
}

/// A number below [`LOOKS`] that depends on the name alone (FNV-1a).
fn hash(name: &str) -> usize {
    let start = 0xcbf2_9ce4_8422_2325u64;
    let mixed = name.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (mixed % LOOKS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_method_has_the_same_look_in_whatever_company() {
        // Its name gives it a colour and a shape that none of the others has.
        let alone = Looks::of(&["wanda", "special"]);
        let more = Looks::of(&["sparsegpt", "special", "ria", "wanda"]);
        for name in ["wanda", "special"] {
            assert_eq!(alone.look(name), more.look(name), "{name}");
        }
        let turned = Looks::of(&["b", "a", "wanda"]);
        let straight = Looks::of(&["wanda", "a", "b"]);
        assert!(
            ["a", "b", "wanda"]
                .iter()
                .all(|name| turned.look(name) == straight.look(name))
        );
    }

    #[test]
    fn the_methods_of_papers_keep_their_looks_and_others_give_way() {
        let crowd: Vec<String> = (0..40).map(|index| format!("mine-{index}")).collect();
        let names: Vec<&str> = crowd.iter().map(String::as_str).chain(KNOWN).collect();
        let crowded = Looks::of(&names);
        for name in KNOWN {
            assert_eq!(crowded.look(name), Looks::of(&[name]).look(name), "{name}");
        }
    }

    #[test]
    fn methods_of_an_experiment_look_different() {
        let names: Vec<String> = (0..30)
            .map(|index| format!("mine-{index}"))
            .chain(KNOWN[..5].iter().map(|it| it.to_string()))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let looks = Looks::of(&names);
        let places: HashSet<usize> = names.iter().map(|name| looks.0[*name]).collect();
        assert_eq!(places.len(), names.len());
        let few = Looks::of(&names[..7]);
        let colours: HashSet<(u8, u8, u8)> = names[..7]
            .iter()
            .map(|name| few.look(name).colour)
            .map(|colour| (colour.0, colour.1, colour.2))
            .collect();
        assert_eq!(colours.len(), 7, "seven methods have seven colours");
        let shapes = |names: &[&str]| -> HashSet<&[(i32, i32)]> {
            let looks = Looks::of(names);
            names.iter().map(|name| looks.look(name).shape).collect()
        };
        assert_eq!(shapes(&KNOWN).len(), KNOWN.len(), "in grey, shapes are all there is");
        assert_eq!(shapes(&names[..SHAPES.len()]).len(), SHAPES.len());
    }
}
