//! What is in the images.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use crate::container::Image;

const BOTH: [&str; 2] = ["podwright", "official-chart"];

#[test]
fn images_say_how_they_are_run_and_stopped() {
    let (Some(own), Some(official)) = (Image::named(BOTH[0]), Image::named(BOTH[1])) else {
        return;
    };
    assert_eq!(own.process()["args"], serde_json::json!(["/usr/bin/podwright", "run"]));
    let args = serde_json::json!([
        "/usr/bin/dumb-init",
        "/entrypoint",
        "run",
        "--working-directory=/home/gitlab-runner",
    ]);
    assert_eq!(official.process()["args"], args);
    for image in [own, official] {
        // A number, and not root: `runAsNonRoot` needs to know.
        assert_eq!(image.process()["user"]["uid"], 100);
        assert_eq!(image.process()["user"]["gid"], 65533);
        assert_eq!(image.process()["cwd"], "/home/gitlab-runner");
    }
}

#[test]
fn each_image_knows_its_own_name_so_that_jobs_get_agent_and_helper_from_it() {
    for name in BOTH {
        let Some(image) = Image::named(name) else { return };
        let env = image.process()["env"].as_array().unwrap();
        for variable in ["PODWRIGHT_AGENT_IMAGE=", "PODWRIGHT_HELPER_IMAGE="] {
            let values = env.iter().filter_map(|entry| entry.as_str()?.strip_prefix(variable));
            // The last one would count.
            let values: Vec<&str> = values.collect();
            let ours = format!("docker.io/podwright/{name}:");
            assert!(values.len() == 1 && values[0].starts_with(&ours), "{name}: {env:?}");
        }
    }
}

#[test]
fn programs_in_a_pod_need_no_library() {
    let Some(image) = Image::named("podwright") else { return };
    for program in ["podwright-agent", "sh", "usr/bin/podwright"] {
        let output = Command::new("ldd").arg(image.path(program)).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("statically linked") || said.contains("not a dynamic"), "{said}");
        let mode = std::fs::metadata(image.path(program)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{program}: {mode:o}");
    }
}

#[test]
fn nothing_in_an_image_gives_more_rights() {
    for name in BOTH {
        let Some(image) = Image::named(name) else { return };
        let mut found = Vec::new();
        walk(&image.path("/"), &mut |path| {
            let meta = std::fs::symlink_metadata(path).unwrap();
            if meta.is_file() && meta.mode() & 0o6000 != 0 {
                found.push(path.to_owned());
            }
        });
        assert!(found.is_empty(), "{found:?}");
    }
}

fn walk(directory: &Path, each: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        each(&path);
        if !path.is_symlink() && path.is_dir() {
            walk(&path, each);
        }
    }
}

/// Section 8.2 of what the official chart asks of an image, as its scripts use it.
#[tokio::test]
async fn what_the_official_charts_scripts_use_is_there() {
    let Some(image) = Image::named("official-chart") else { return };
    let script = "set -e
        for program in bash sh gitlab-runner pgrep timeout cp mkdir cat seq sleep grep sed cut xargs head curl \\
            git git-lfs tini dumb-init; do
            command -v $program >/dev/null || { echo no $program; exit 1; }
        done
        [ -x /usr/bin/dumb-init ] && [ -x /usr/local/bin/tini ] && [ -x /entrypoint ] && [ -x /usr/bin/pgrep ]
        [ \"$HOME\" = /home/gitlab-runner ] && [ \"$(pwd)\" = $HOME ]
        getent passwd 100 | grep -q :/home/gitlab-runner: && getent passwd 999 | grep -q :/home/gitlab-runner:
        [ -s /etc/ssl/certs/ca-certificates.crt ]
        echo 'Capabilities:' $(grep CapEff /proc/self/status)
        /entrypoint --version";
    let done = image
        .container(4711, 0)
        .args(&["/usr/bin/dumb-init", "--", "/bin/bash", "-c", script])
        .empty("/tmp")
        .run()
        .await;
    assert_eq!(done.code, Some(0), "{}", done.out);
    assert!(done.out.contains("CapEff: 0000000000000000"), "{}", done.out);
    assert!(done.out.contains("Version:"), "{}", done.out);
}
