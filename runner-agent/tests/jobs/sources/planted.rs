//! What an earlier job wrote into `.git` does not decide what git does for the next one.

use std::fs;

use super::{Shop, contains, success};

/// Makes a program that leaves a mark, and plants it wherever git looks for programs.
const PLANT: &[&str] = &[
    "printf '#!/bin/sh\\necho \"$0 $*\" >> %s/mark\\nexit 1\\n' \"$PLACE\" > evil; chmod +x evil; E=$PWD/evil",
    "mkdir -p .git/hooks hooks .git/info",
    "for h in post-checkout post-index-change reference-transaction pre-auto-gc post-merge; do cp evil .git/hooks/$h; cp evil hooks/$h; done",
    "git config core.hooksPath \"$PWD/hooks\"",
    "git config core.fsmonitor \"$E\"; git config core.sshCommand \"$E\"; git config core.askPass \"$E\"",
    "git config credential.helper \"$E\"; git config filter.x.smudge \"$E\"; git config filter.x.process \"$E\"",
    "git config uploadpack.packObjectsHook \"$E\"; git config alias.fetch \"!$E\"; git config gpg.program \"$E\"",
    "git config remote.origin.uploadpack \"$E\"; git config url.\"ext::$E \".insteadOf http; git config protocol.ext.allow always",
    "git config include.path \"$PWD/more\"; printf '[core]\\n\\tfsmonitor = %s\\n' \"$E\" > more",
    "echo '* filter=x' > .git/info/attributes",
    "cp .git/config .git/config.worktree",
    "mkdir -p .git/remotes .git/branches; echo \"URL: ext::$E\" > .git/remotes/origin; echo \"ext::$E\" > .git/branches/origin",
    "mkdir elsewhere; cp .git/config elsewhere/config; cp -r hooks elsewhere/; cp -r .git/refs .git/objects elsewhere/; echo \"$PWD/elsewhere\" > .git/commondir",
];

#[tokio::test]
async fn stages_57_settings_and_hooks_of_an_earlier_job_are_not_obeyed() {
    let shop = Shop::new().await;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().display().to_string();
    let plant = shop.next_job("main", PLANT).variable("PLACE", &path);
    // `commondir` at the end breaks the repository for git itself, which is fine.
    success(&plant.run().await);
    let _ = fs::remove_file(place.path().join("mark"));
    let next = shop.next_job("feature", &["cat file; git status --short"]);
    let seen = next.variable("GIT_CLEAN_FLAGS", "-ffdx").run().await;
    success(&seen);
    contains(&seen, &["Reinitialized", "\nthree\n"]);
    let mark = fs::read_to_string(place.path().join("mark")).unwrap_or_default();
    assert_eq!(mark, "", "{}", seen.text());
}

#[tokio::test]
async fn stages_57_what_is_planted_in_submodules_is_not_obeyed() {
    let shop = super::submodules::shop().await;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().display().to_string();
    let evil = "printf '#!/bin/sh\\necho \"$0 $*\" >> %s/mark\\nexit 1\\n' \"$PLACE\" > /tmp/x$$; \
                chmod +x /tmp/x$$; mv /tmp/x$$ \"$PLACE/evil\"; E=$PLACE/evil";
    let each = "git submodule foreach --recursive 'git config core.fsmonitor \"$PLACE/evil\"; \
                git config core.sshCommand \"$PLACE/evil\"; \
                mkdir -p \"$(git rev-parse --git-path hooks)\"; \
                for h in post-checkout post-index-change; do cp \"$PLACE/evil\" \"$(git rev-parse --git-path hooks)/$h\"; done' || true";
    let plant = [
        evil,
        each,
        // A repository in the place of the way to one.
        "rm libs/far/.git; cp -r .git/modules/libs/far libs/far/.git; \
         sed -i /worktree/d libs/far/.git/config",
        "printf '[core]\\n\\tfsmonitor = %s\\n' \"$E\" >> libs/far/.git/config",
        "echo 'gitdir: ../libs/far/.git' > near/.git",
        "echo planted",
    ];
    let recursive = ("GIT_SUBMODULE_STRATEGY", "recursive");
    let world = shop.next_job("main", &plant).variable("PLACE", &path);
    let seen = world.variable(recursive.0, recursive.1).run().await;
    success(&seen);
    contains(&seen, &["\nplanted\n"]);
    let _ = fs::remove_file(place.path().join("mark"));
    let look = "cat near/near near/inner/lib libs/far/lib";
    let world = shop.next_job("main", &[look]);
    let seen = world.variable(recursive.0, recursive.1).run().await;
    let mark = fs::read_to_string(place.path().join("mark")).unwrap_or_default();
    assert_eq!(mark, "", "{}", seen.text());
    success(&seen);
    contains(&seen, &["\nnear\nnew\nnew\n"]);
}

#[tokio::test]
async fn links_in_the_repository_do_not_make_git_write_elsewhere() {
    let shop = Shop::new().await;
    let place = tempfile::tempdir().unwrap();
    let victim = place.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let path = victim.display().to_string();
    let plant = [
        "cd .git; rm -rf logs index packed-refs config HEAD FETCH_HEAD; mkdir logs",
        "for f in logs/HEAD index packed-refs config FETCH_HEAD shallow refs/remotes/origin/feature; do ln -sf \"$VICTIM\" $f; done",
    ];
    success(&shop.next_job("main", &plant).variable("VICTIM", &path).run().await);
    success(&shop.next_job("feature", &["cat file"]).run().await);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
}
