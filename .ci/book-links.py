#!/usr/bin/env python3
"""Preprocessor of the book: makes the pages' links those of the book.

The pages are read in two places: in the repository, where a link may lead to any file, and in the book, which
holds the pages and nothing else. So here, `../BENCHMARKS.md` becomes the page that includes it, and a link to a
file that is no page becomes the name of the file.
"""
import json
import posixpath
import re
import sys

# Pages that are files of the repository's root, included by pages of the book.
INCLUDED = {
    "ARCHITECTURE.md": "architecture.md",
    "BENCHMARKS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def rewritten(text, target, root, pages):
    if re.match(r"[a-z]+:|#", target):
        return f"[{text}]({target})"
    path, _, anchor = target.partition("#")
    place = posixpath.normpath(posixpath.join(root, path))
    place = INCLUDED.get(place, place.removeprefix("docs/"))
    if place in pages:
        return f"[{text}]({place}{'#' + anchor if anchor else ''})"
    bare = place.removeprefix("../")
    return text if bare in text.replace("`", "") else f"{text} (`{bare}`)"


def chapters(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    found = list(chapters(book.get("items", book.get("sections", []))))
    pages = {chapter["path"] for chapter in found}
    for chapter in found:
        # What an included file says is relative to the repository's root.
        root = "" if chapter["path"] in INCLUDED.values() else "docs"
        parts = re.split(r"(^```.*?^```|`[^`\n]+`(?!\]))", chapter["content"], flags=re.M | re.S)
        for index in range(0, len(parts), 2):
            parts[index] = LINK.sub(lambda link: rewritten(link[1], link[2], root, pages), parts[index])
        chapter["content"] = "".join(parts)
    json.dump(book, sys.stdout)


main()
