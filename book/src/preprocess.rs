//! What mdBook does not do by itself: takes documents of the repository's root into the book, and turns links that are right
//! where a document lies in the repository into links that are right in the book.
//!
//! A chapter whose whole text is `{{#include ../FILE.md}}` becomes that file. A link to something that is a page of the book
//! leads to the page. A link to anything else in the repository leads to where the repository can be browsed
//! (`preprocessor.repository-links.repository` in `book.toml`), or is named by its path where that is not known.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use mdbook_preprocessor::book::Book;
use pulldown_cmark::{Event, LinkType, Parser, Tag};

use crate::PREPROCESSOR;
use crate::documents::{OPTIONS, resolve, split};

/// Reads a book from standard input as mdBook writes it, and writes it to standard output as mdBook reads it.
pub(crate) fn speak_with_mdbook() -> Result<()> {
    let (context, mut book) = mdbook_preprocessor::parse_input(io::stdin())?;
    let repository =
        context.config.get::<String>(&format!("preprocessor.{PREPROCESSOR}.repository"))?;
    let src = context.config.book.src.to_string_lossy().into_owned();
    take_in(&mut book, &context.root, &src, repository.as_deref())?;
    serde_json::to_writer(io::stdout(), &book)?;
    Ok(())
}

/// The work on a whole book that lies in `root/src`.
fn take_in(book: &mut Book, root: &Path, src: &str, repository: Option<&str>) -> Result<()> {
    // The file of the repository that a page shows → the page.
    let mut pages = BTreeMap::new();
    for chapter in book.chapters() {
        let Some(path) = &chapter.path else { continue };
        let page = path.to_string_lossy().into_owned();
        pages.insert(shown(&chapter.content, src, &page), page);
    }
    let mut first = Ok(());
    book.for_each_chapter_mut(|chapter| {
        let Some(path) = &chapter.path else { return };
        let page = path.to_string_lossy().into_owned();
        let file = shown(&chapter.content, src, &page);
        if file != format!("{src}/{page}") {
            match std::fs::read_to_string(root.join(&file)) {
                Ok(text) => chapter.content = text,
                Err(error) => {
                    first = Err(error)
                        .with_context(|| format!("{page} includes {file}, which cannot be read"))
                }
            }
        }
        chapter.content = rewrite(&chapter.content, &file, &page, &pages, repository);
    });
    first
}

/// The file of the repository whose text a page shows: its own, or the one that it includes whole.
fn shown(content: &str, src: &str, page: &str) -> String {
    let own = format!("{src}/{page}");
    content
        .trim()
        .strip_prefix("{{#include ")
        .and_then(|rest| rest.strip_suffix("}}"))
        .filter(|name| !name.contains(['{', '}', ':']))
        .and_then(|name| resolve(&own, name.trim()))
        .unwrap_or(own)
}

/// `text` of the repository's `file`, with its links as `page` of the book needs them.
fn rewrite(
    text: &str,
    file: &str,
    page: &str,
    pages: &BTreeMap<String, String>,
    repository: Option<&str>,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (event, range) in Parser::new_ext(text, OPTIONS).into_offset_iter() {
        let (Event::Start(Tag::Link { link_type: LinkType::Inline, dest_url, .. })
        | Event::Start(Tag::Image { link_type: LinkType::Inline, dest_url, .. })) = event
        else {
            continue;
        };
        let (path, fragment) = split(&dest_url);
        let Some(target) = resolve(file, path).filter(|_| !path.is_empty()) else { continue };
        let whole = &text[range.clone()];
        // The last one: the words of a link may hold brackets too.
        let Some(middle) = whole.rfind("](") else { continue };
        let address = match (pages.get(&target), repository) {
            (Some(other), _) => {
                let up = "../".repeat(page.matches('/').count());
                format!("{up}{other}{fragment}")
            }
            (None, Some(repository)) => {
                format!("{}/{target}{fragment}", repository.trim_end_matches('/'))
            }
            (None, None) => {
                let words = whole[..middle].trim_start_matches(['!', '[']);
                out.push_str(&text[done..range.start]);
                out.push_str(words);
                if !words.contains(&target) {
                    out.push_str(&format!(" (`{target}`)"));
                }
                done = range.end;
                continue;
            }
        };
        out.push_str(&text[done..range.start + middle + 2]);
        out.push_str(&address);
        out.push(')');
        done = range.end;
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> BTreeMap<String, String> {
        [("ARCHITECTURE.md", "architecture.md"), ("docs/install.md", "install.md")]
            .map(|(file, page)| (file.to_owned(), page.to_owned()))
            .into()
    }

    #[test]
    fn a_link_of_a_root_document_leads_to_the_page() {
        let text = "See [how](docs/install.md#chart) and [the house](ARCHITECTURE.md).";
        assert_eq!(
            rewrite(text, "README.md", "readme.md", &pages(), None),
            "See [how](install.md#chart) and [the house](architecture.md)."
        );
    }

    #[test]
    fn what_is_not_in_the_book_is_named_by_its_path_or_linked_where_it_can_be_browsed() {
        let text =
            "[the rights](../deploy/rbac/options.yaml), [`deploy/argocd`](../deploy/argocd).";
        let rewritten =
            |repository| rewrite(text, "docs/install.md", "install.md", &pages(), repository);
        assert_eq!(rewritten(None), "the rights (`deploy/rbac/options.yaml`), `deploy/argocd`.");
        assert_eq!(
            rewritten(Some("https://x.example/blob/main/")),
            "[the rights](https://x.example/blob/main/deploy/rbac/options.yaml), \
             [`deploy/argocd`](https://x.example/blob/main/deploy/argocd)."
        );
    }

    #[test]
    fn other_sites_anchors_and_code_stay_as_they_are() {
        let text = "[a](https://x.example/docs/install.md) [b](#here) `[c](docs/install.md)`\n\n```\n[d](docs/install.md)\n```\n";
        assert_eq!(rewrite(text, "README.md", "readme.md", &pages(), None), text);
    }

    #[test]
    fn a_chapter_that_only_includes_a_file_is_that_file() {
        assert_eq!(shown("{{#include ../README.md}}\n", "docs", "readme.md"), "README.md");
        assert_eq!(
            shown("# A\n{{#include ../README.md}}\n", "docs", "readme.md"),
            "docs/readme.md"
        );
    }
}
