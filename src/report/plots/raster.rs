//! PNG from SVG, by resvg and with a font of its own (DejaVu Sans), so that a machine without fonts draws the same picture.

use super::plot::Plot;
use crate::error::{Error, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Number of PNG pixels per SVG pixel: the first is sharp enough for slides and print, the second is for large
/// pictures.
pub const SCALES: [f32; 2] = [2.0, 1.0];

/// The most pixels of a PNG; drawing them takes a quarter of a GiB.
const MOST: f32 = (1 << 26) as f32;

/// The font for plots, which is parsed only once.
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

/// The bytes of a PNG file; `None` if the picture is too large for one.
///
/// # Errors
/// The plot is no SVG, or there is no memory for its pixels.
pub fn png(plot: &Plot) -> Result<Option<Vec<u8>>> {
    let fail = |message: String| Error::output(Path::new(&format!("{}.png", plot.name)), message);
    let options = Options {
        fontdb: fonts(),
        ..Options::default()
    };
    let tree = Tree::from_str(&plot.svg, &options).map_err(|error| fail(error.to_string()))?;
    let size = tree.size();
    let fits = |scale: &f32| size.width() * size.height() * scale * scale <= MOST;
    let Some(scale) = SCALES.into_iter().find(fits) else {
        let (width, height) = (size.width(), size.height());
        tracing::warn!(
            "{}: {width} x {height} points are too many for a PNG; the SVG is there",
            plot.name
        );
        return Ok(None);
    };
    let (width, height) = ((size.width() * scale) as u32, (size.height() * scale) as u32);
    let mut pixels = Pixmap::new(width, height).ok_or_else(|| fail(format!("{width} x {height} pixels")))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map(Some).map_err(|error| fail(error.to_string()))
}
