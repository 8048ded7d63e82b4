//! The names of a plot's rows: at the left of the rows, or above them where one is too long for that.

use super::canvas::{Anchor, Canvas, TEXT, WIDTH, shortened, width};
use crate::error::Result;
use plotters::style::WHITE;

/// Height of a name above its row, in pixels.
const NAME: i32 = 17;

/// Size of names.
const SIZE: i32 = TEXT - 1;

/// Where the rows of a plot are, and their names.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Pixels at the left of the rows.
    pub left: i32,
    /// Height of a row with its name.
    pub height: i32,
    /// Height of what is drawn in a row.
    row: i32,
    above: bool,
}

impl Rows {
    /// Rows of this height with these names, which may take `most` pixels at the left.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, most: i32, row: i32) -> Rows {
        let longest = names.map(|name| width(name, SIZE)).max().unwrap_or(0) + 20;
        match longest > most {
            true => Rows {
                left: 20,
                height: row + NAME,
                row,
                above: true,
            },
            false => Rows {
                left: longest.max(64),
                height: row,
                row,
                above: false,
            },
        }
    }

    /// The middle of a row, whose panel begins at `from`.
    pub fn middle(&self, from: i32, index: usize) -> i32 {
        let end = from + self.height * (index as i32 + 1);
        end - self.row + self.row / 2
    }

    /// Draws the name of the row with this middle.
    pub fn name(&self, canvas: &Canvas, name: &str, middle: i32) -> Result<()> {
        if self.above {
            let x = self.left + 6;
            let name = shortened(name, WIDTH - x - 8, SIZE);
            let y = middle - self.row / 2 - NAME / 2 + 2;
            // No line of the grid goes through it.
            canvas.rectangle((x - 3, y - 7), (x + width(&name, SIZE), y + 8), WHITE)?;
            return canvas.text(&name, (x, y), SIZE, Anchor::Left);
        }
        canvas.text(name, (self.left - 10, middle), SIZE, Anchor::Right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_too_long_for_the_side_stand_above_their_rows() {
        let short = Rows::new(["wanda", "ria"].into_iter(), WIDTH / 2, 21);
        assert_eq!(
            (short.left, short.height, short.middle(100, 1)),
            (64, 21, 100 + 21 + 10)
        );
        let names = ["ria+ria-permutation − sparsegpt+sparse-swaps", "ria"];
        let long = Rows::new(names.into_iter(), WIDTH / 2, 21);
        assert_eq!((long.left, long.height, long.middle(100, 0)), (20, 38, 100 + 17 + 10));
    }
}
