//! The pages that were built: each link from one leads to a file of the book, each fragment to an `id` of that page.
//!
//! Reads attributes of mdBook's own output, which is well formed; it is no HTML parser.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Checks every page below `out`; counts them in `pages`; returns the broken links, one line each.
///
/// # Errors
///
/// When a page cannot be read.
pub(crate) fn check(out: &Path, pages: &mut usize) -> Result<Vec<String>> {
    let mut read = BTreeMap::new();
    for file in html(out)? {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        read.insert(file, text);
    }
    *pages = read.len();
    let ids: BTreeMap<&Path, BTreeSet<&str>> = read
        .iter()
        .map(|(file, text)| (file.as_path(), attributes(text, "id").collect()))
        .collect();
    let mut broken = Vec::new();
    for (file, text) in &read {
        // It is shown for any address, so its own are from the root.
        if file.ends_with("404.html") {
            continue;
        }
        for link in attributes(text, "href").chain(attributes(text, "src")) {
            let (path, fragment) = crate::documents::split(link);
            if path.contains(':') || path.starts_with("//") {
                continue;
            }
            let target =
                if path.is_empty() { file.clone() } else { clean(&file.with_file_name(""), path) };
            let name = || file.strip_prefix(out).unwrap_or(file).display();
            if !target.exists() {
                broken.push(format!("{}: {link}: there is no such file in the book", name()));
            } else if let (Some(anchor), Some(ids)) =
                (fragment.strip_prefix('#'), ids.get(target.as_path()))
                && !anchor.is_empty()
                && !ids.contains(anchor)
            {
                broken.push(format!("{}: {link}: the page has no such place", name()));
            }
        }
    }
    broken.dedup();
    Ok(broken)
}

/// `path` from `directory`, without `..`, so that it is found among the pages.
fn clean(directory: &Path, path: &str) -> PathBuf {
    let mut out = directory.to_owned();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

fn html(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(html(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "html") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The values of an attribute. Text has its quotes and angle brackets escaped, so that the pattern is found in tags only.
fn attributes<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let pattern = format!(" {name}=\"");
    let mut rest = text;
    std::iter::from_fn(move || {
        let from = rest.find(&pattern)? + pattern.len();
        let (value, after) = rest[from..].split_once('"')?;
        rest = after;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_leads_nowhere_is_named() {
        let out = tempfile::tempdir().unwrap();
        std::fs::create_dir(out.path().join("deep")).unwrap();
        let links = r##"<h1 id="a">A</h1> <a href="deep/b.html#b">1</a> <a href="#a">2</a> <a href="https://x.example">3</a>
            <a href="c.html">4</a> <a href="deep/b.html#c">5</a> <a class="x" href="#b">6</a> <img src="d.png">"##;
        std::fs::write(out.path().join("a.html"), links).unwrap();
        std::fs::write(
            out.path().join("deep/b.html"),
            r#"<h1 id="b"><a href="../a.html#a">x</a></h1>"#,
        )
        .unwrap();
        let mut pages = 0;
        assert_eq!(
            check(out.path(), &mut pages).unwrap(),
            [
                "a.html: c.html: there is no such file in the book",
                "a.html: deep/b.html#c: the page has no such place",
                "a.html: #b: the page has no such place",
                "a.html: d.png: there is no such file in the book",
            ]
        );
        assert_eq!(pages, 2);
    }
}
