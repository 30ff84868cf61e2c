//! Inspection -> one page that draws it: a film strip for every role, a cell for every layer, arcs to what it is predicted from.
//!
//! The page holds all it needs. Pictures are as wide as the page: across they count in per cent or in layers, downwards
//! in pixels, so that text keeps its size on a phone.

mod arcs;
mod cells;
mod charts;
mod figures;
mod roles;
mod strips;
mod text;

use super::report::Inspection;
use figures::{head, table};
use roles::{Film, Role};
use strips::{reading, singles, strip};
use text::escaped;

/// The page.
pub fn html(inspection: &Inspection, name: &str) -> String {
    let film = Film::of(inspection);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <title>{0}</title>\n<style>\n{1}</style>\n<h1>{0}</h1>\n",
        escaped(name),
        include_str!("film.css")
    );
    page += &head(inspection);
    let (lossy, exact): (Vec<&Role>, Vec<&Role>) = film.roles.iter().partition(|role| role.is_lossy());
    if !lossy.is_empty() {
        page += "<h2>The sequence of frames</h2>\n";
        page += &format!("<p class=\"reading\">{}</p>\n", reading(&lossy));
        page += &strip(&film, &lossy, true);
    }
    if !film.singles.is_empty() {
        page += "<h2>Tensors on their own</h2>\n<p class=\"reading\">Those that no other layer has. Exact ones are drawn on a scale of their own.</p>\n";
        page += &singles(&film.singles);
    }
    if !exact.is_empty() {
        let open = if lossy.is_empty() { " open" } else { "" };
        let len: usize = exact.iter().map(|role| role.cells.len()).sum();
        page += &format!("<details{open}><summary>Kept exact: {len} tensors in layers</summary>\n");
        page += &format!("<p class=\"reading\">{}</p>\n", reading(&exact));
        page += &strip(&film, &exact, lossy.is_empty());
        page += "</details>\n";
    }
    page += &table(inspection);
    page + "</html>\n"
}
