//! The pages. What people wrote goes through [`escaped`], all of it.

use crate::entry::Entry;
use std::fmt::Write as _;

/// The entries, and a form, with what was wrong with what its author sent.
pub(crate) fn book(
    entries: &[Entry],
    more: bool,
    text: &str,
    wrong: Option<(&str, &str)>,
) -> String {
    let (name, wrong) = wrong.unwrap_or_default();
    let mut list = String::new();
    for entry in entries {
        // A `String` has room until the guest has none.
        let _ = writeln!(
            list,
            "<li value=\"{}\"><b>{}</b><p>{}</p>",
            entry.number,
            escaped(&entry.name),
            escaped(&entry.text)
        );
    }
    let older = match entries.last().filter(|_| more) {
        Some(last) => format!("<p><a href=\"?before={}\">older</a>\n", last.number),
        None => String::new(),
    };
    let wrong = match wrong {
        "" => String::new(),
        wrong => format!("<p role=\"alert\">{}\n", escaped(wrong)),
    };
    document(&format!(
        "{wrong}<form method=\"post\" action=\"./\">
<p><label>Your name <input name=\"name\" required maxlength=\"60\" value=\"{}\"></label>
<p><label>What you have to say<br><textarea name=\"text\" required maxlength=\"2000\" rows=\"4\" cols=\"60\">
{}</textarea></label>
<p><button>Sign</button>
</form>
<ol reversed>
{list}</ol>
{older}",
        escaped(name),
        escaped(text)
    ))
}

/// What went wrong on our side.
pub(crate) fn sorry(why: &str) -> String {
    document(&format!("<p role=\"alert\">Sorry: {}.\n", escaped(why)))
}

fn document(body: &str) -> String {
    format!(
        "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>Guestbook</title>
<style>body {{ font: 1rem/1.5 sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }} li p {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 }}</style>
<h1>Guestbook</h1>
{body}</html>
"
    )
}

/// The text as HTML shows it, in an element as in an attribute with quotes.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}
