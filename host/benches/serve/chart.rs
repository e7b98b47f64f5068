//! Bars in SVG, for a page that is light or dark: the colours are legible on both.

use std::fmt::Write as _;

use crate::spread::number;

pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// `host` itself.
    pub(crate) is_ours: bool,
}

/// Wide enough for the longest name, the longest bar and its number.
const NAMES: u32 = 250;
const BARS: u32 = 410;
const WIDTH: u32 = 720;
const HEAD: usize = 40;
const LINE: usize = 26;

/// Each bar is as long as its value is part of the largest.
pub(crate) fn svg(title: &str, bars: &[Bar]) -> String {
    let largest = bars
        .iter()
        .map(|bar| bar.value)
        .fold(f64::EPSILON, f64::max);
    let height = HEAD + LINE * bars.len();
    let title = escape(title);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="{title}">
<style>text {{ font: 13px system-ui, sans-serif; fill: #6e7781 }} .title, .ours {{ font-weight: 600 }} rect {{ fill: #8c959f }} rect.ours {{ fill: #2f81f7 }}</style>
<text class="title" x="{NAMES}" y="20">{title}</text>
"#
    );
    for (nth, bar) in bars.iter().enumerate() {
        let class = if bar.is_ours { "ours" } else { "other" };
        let (top, middle) = (HEAD + LINE * nth, HEAD + LINE * nth + 14);
        let length = bar.value / largest * f64::from(BARS);
        let (name, value) = (escape(&bar.name), number(bar.value));
        let (end, after) = (NAMES - 10, f64::from(NAMES) + length + 6.0);
        // Writing to a text does not fail.
        let _ = writeln!(
            svg,
            r#"<text class="{class}" x="{end}" y="{middle}" text-anchor="end">{name}</text><rect class="{class}" x="{NAMES}" y="{top}" width="{length:.1}" height="18" rx="2"/><text class="{class}" x="{after:.1}" y="{middle}">{value}</text>"#
        );
    }
    svg + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
