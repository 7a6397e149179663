//! The statement that says where artifacts come from (in-toto, SLSA provenance v1), as a file of the
//! archive it speaks about.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use jiff::Timestamp;
use runner_core::glob::Glob;
use runner_core::plan::Provenance;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::context::{Context, StageFailure};
use crate::archive::{Entries, Entry, Kind, Origin};

/// Writes `<name>-metadata.json` into the project and adds it to the entries, unless the author
/// excludes it.
pub(super) async fn add(
    context: &Context<'_>,
    about: &Provenance,
    name: &str,
    exclude: &[String],
    entries: &mut Entries,
) -> Result<(), StageFailure> {
    let project = context.project()?;
    let file = format!("{name}-metadata.json");
    let began = context.control.recorder.borrow().state().began_ms.unwrap_or_default();
    let began = Timestamp::from_millisecond(i64::try_from(began).unwrap_or_default());
    let times = (began.unwrap_or_default(), Timestamp::now());
    let job = context.plan.job.to_string();
    let (about, named) = (about.clone(), file.clone());
    let listed = entries.clone();
    let work = tokio::task::spawn_blocking(move || {
        let root = project.path();
        let subjects = subjects(&root, &listed)?;
        let statement = statement(&about, &job, times, subjects);
        let path = root.join(&named);
        // Whatever the job has put there: a link would lead the statement elsewhere.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut text = Vec::new();
        let style = serde_json::ser::PrettyFormatter::with_indent(b" ");
        let mut out = serde_json::Serializer::with_formatter(&mut text, style);
        serde::Serialize::serialize(&statement, &mut out)?;
        // What appears in this moment is not written through, either.
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(&text)?;
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.metadata()
    });
    let data = match work.await {
        Ok(Ok(data)) => data,
        Ok(Err(error)) => {
            return Err(context.fail(format_args!("cannot make the provenance statement: {error}")));
        }
        Err(_) => return Err(context.fail("making the provenance statement was interrupted")),
    };
    let is_excluded = exclude
        .iter()
        .filter_map(|pattern| Glob::new(pattern.trim_start_matches("./")).ok())
        .any(|glob| glob.matches(&file));
    if let Some(entry) = Entry::of(&data).filter(|_| !is_excluded) {
        entries.insert(file.into(), entry);
    }
    Ok(())
}

/// Name and digest of every regular file.
fn subjects(root: &Path, entries: &Entries) -> io::Result<Vec<Value>> {
    let origin = Origin::open(root)?;
    let mut subjects = Vec::new();
    let mut buffer = vec![0; 128 * 1024];
    for (name, entry) in entries.iter().filter(|(_, entry)| entry.kind == Kind::File) {
        let Some(file) = origin.file(name.as_ref())? else { continue };
        // As much as goes into the archive.
        let mut file = file.take(entry.size);
        let mut digest = Sha256::new();
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => digest.update(&buffer[..count]),
            }
        }
        subjects.push(json!({
            "name": name.to_string_lossy(),
            "digest": { "sha256": hex(&digest.finalize()) },
        }));
    }
    Ok(subjects)
}

fn statement(
    about: &Provenance,
    job: &str,
    (began, ended): (Timestamp, Timestamp),
    subjects: Vec<Value>,
) -> Value {
    let mut parameters: BTreeMap<&str, &str> =
        about.variables.iter().map(|name| (name.as_str(), "")).collect();
    parameters.insert("entryPoint", &about.job_name);
    parameters.insert("source", &about.repository);
    let seconds = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": subjects,
        "predicate": {
            "buildDefinition": {
                "buildType": about.build_type,
                "externalParameters": parameters,
                "internalParameters": {
                    "name": about.runner_name,
                    "executor": about.executor,
                    "architecture": architecture(),
                    "job": job,
                },
                "resolvedDependencies": [
                    { "uri": about.repository, "digest": { "sha256": about.sha } }
                ],
            },
            "runDetails": {
                "builder": {
                    "id": format!("{}/-/runners/{}", about.repository, about.runner_id),
                    "version": { "gitlab-runner": about.builder_version },
                },
                "metadata": {
                    "invocationId": job,
                    "startedOn": seconds(began).to_string(),
                    "finishedOn": seconds(ended).to_string(),
                },
            },
        },
    })
}

/// In Go's words, as GitLab Runner's statements have it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;
    use runner_core::plan::Provenance;

    use super::{statement, subjects};
    use crate::archive::{Entries, Entry};

    #[test]
    fn stages_96_the_statement_names_every_file_with_its_digest() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dir")).unwrap();
        fs::write(root.path().join("dir/a"), "abc").unwrap();
        let mut entries = Entries::new();
        for name in ["dir", "dir/a"] {
            let data = fs::symlink_metadata(root.path().join(name)).unwrap();
            entries.insert(name.into(), Entry::of(&data).unwrap());
        }
        let about = Provenance {
            runner_id: "7".into(),
            runner_name: "r".into(),
            executor: "kubernetes".into(),
            repository: "https://gitlab.example/g/p".into(),
            sha: "0123".into(),
            job_name: "build".into(),
            variables: vec!["SECRET".into()],
            build_type: "https://example/type".into(),
            builder_version: "19.4.0".into(),
        };
        let times = (Timestamp::UNIX_EPOCH, Timestamp::from_millisecond(1500).unwrap());
        let statement = statement(&about, "42", times, subjects(root.path(), &entries).unwrap());
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
        assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(statement["subject"][0]["name"], "dir/a");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], abc);
        assert_eq!(statement["subject"].as_array().unwrap().len(), 1);
        let definition = &statement["predicate"]["buildDefinition"];
        assert_eq!(definition["externalParameters"]["SECRET"], "");
        assert_eq!(definition["externalParameters"]["entryPoint"], "build");
        assert_eq!(definition["externalParameters"]["source"], about.repository);
        assert_eq!(definition["internalParameters"]["job"], "42");
        let details = &statement["predicate"]["runDetails"];
        assert_eq!(details["builder"]["id"], "https://gitlab.example/g/p/-/runners/7");
        assert_eq!(details["metadata"]["invocationId"], "42");
        assert_eq!(details["metadata"]["startedOn"], "1970-01-01T00:00:00Z");
        assert_eq!(details["metadata"]["finishedOn"], "1970-01-01T00:00:01Z");
    }
}
