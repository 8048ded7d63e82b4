//! PNG from SVG, by resvg and with a font of its own (DejaVu Sans), so that a machine without fonts draws the same picture.

use super::Plot;
use crate::error::{Error, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Pixels of a PNG per pixel of the SVG: sharp enough for slides and print.
pub const SCALE: f32 = 2.0;

/// The font, parsed once.
fn fonts() -> Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(dejavu::sans::regular().to_vec());
        fonts.set_sans_serif_family("DejaVu Sans");
        Arc::new(fonts)
    });
    Arc::clone(fonts)
}

/// The bytes of a PNG file.
///
/// # Errors
/// The plot is no SVG, or there is no memory for its pixels.
pub fn png(plot: &Plot) -> Result<Vec<u8>> {
    let fail = |message: String| Error::output(Path::new(&format!("{}.png", plot.name)), message);
    let options = Options {
        fontdb: fonts(),
        ..Options::default()
    };
    let tree = Tree::from_str(&plot.svg, &options).map_err(|error| fail(error.to_string()))?;
    let size = tree.size();
    let (width, height) = ((size.width() * SCALE) as u32, (size.height() * SCALE) as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| fail(format!("{width} x {height} pixels")))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| fail(error.to_string()))
}
