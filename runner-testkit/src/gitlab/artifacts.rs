//! Uploads and downloads: what GitLab takes, and how it hands archives out.

use bytes::Bytes;

use super::Rule;
use super::job::{Job, StoredArtifact};

/// What an upload's query says.
#[derive(Debug, Default)]
pub(super) struct UploadQuery {
    pub(super) artifact_type: Option<String>,
    pub(super) artifact_format: Option<String>,
    pub(super) expire_in: Option<String>,
}

/// A refusal: status, and what is wrong.
pub(super) type Refusal = (u16, Rule, String);

/// Types GitLab knows beside `archive`, and the format each must have. `None`: any of gzip and raw.
const TYPES: [(&str, Option<&str>); 28] = [
    ("metadata", Some("gzip")),
    ("trace", Some("raw")),
    ("junit", Some("gzip")),
    ("metrics", Some("gzip")),
    ("metrics_referee", Some("gzip")),
    ("network_referee", Some("gzip")),
    ("dotenv", Some("gzip")),
    ("cobertura", Some("gzip")),
    ("jacoco", Some("gzip")),
    ("cluster_applications", Some("gzip")),
    ("lsif", Some("zip")),
    ("annotations", Some("gzip")),
    ("terraform", None),
    ("accessibility", None),
    ("codequality", None),
    ("sast", None),
    ("dependency_scanning", None),
    ("container_scanning", None),
    ("cluster_image_scanning", None),
    ("secret_detection", None),
    ("dast", None),
    ("license_scanning", None),
    ("performance", None),
    ("browser_performance", None),
    ("load_performance", None),
    ("coverage_fuzzing", None),
    ("api_fuzzing", None),
    ("cyclonedx", Some("gzip")),
];

/// Stores an upload.
pub(super) fn store(
    job: &mut Job,
    query: UploadQuery,
    filename: String,
    data: Bytes,
) -> Result<(), Refusal> {
    let refuse = |detail: String| Err((400, Rule::Artifact, detail));
    let artifact_type = query.artifact_type.unwrap_or_else(|| "archive".into());
    let artifact_format = query.artifact_format.unwrap_or_else(|| "zip".into());
    let format = artifact_format.as_str();
    let fits = if artifact_type == "archive" {
        matches!(format, "zip" | "zipzstd" | "tarzstd")
    } else {
        match TYPES.iter().find(|(name, _)| *name == artifact_type) {
            None => return refuse(format!("artifact_type {artifact_type} does not exist")),
            Some((_, Some(wanted))) => format == *wanted,
            Some((_, None)) => matches!(format, "gzip" | "raw"),
        }
    };
    if !fits {
        return refuse(format!("artifact_type {artifact_type} with artifact_format {format}"));
    }
    if let Some(stored) = job.artifacts.iter().find(|it| it.artifact_type == artifact_type) {
        // The same file once more is what a client does whose first answer was lost.
        return if stored.data == data {
            Ok(())
        } else {
            refuse(format!("another artifact of type {artifact_type} exists already"))
        };
    }
    job.artifacts.push(StoredArtifact {
        artifact_type,
        artifact_format,
        expire_in: query.expire_in,
        filename,
        data,
    });
    job.changed.send_replace(());
    Ok(())
}

/// Takes apart a body that has exactly one part, `file`: its file name and content.
pub(super) fn single_file(content_type: &str, body: &Bytes) -> Result<(String, Bytes), String> {
    let boundary = content_type
        .strip_prefix("multipart/form-data")
        .and_then(|rest| rest.split_once("boundary="))
        .map(|(_, rest)| rest.split(';').next().unwrap_or(rest).trim().trim_matches('"'))
        .filter(|boundary| !boundary.is_empty() && boundary.len() <= 70)
        .ok_or_else(|| format!("Content-Type {content_type:?} is no multipart/form-data"))?;
    let opening = format!("--{boundary}\r\n");
    if !body.starts_with(opening.as_bytes()) {
        return Err("the body does not begin with its boundary".into());
    }
    let head_end = memchr::memmem::find(body, b"\r\n\r\n").ok_or("the part has no end of head")?;
    let head = String::from_utf8_lossy(&body[opening.len()..head_end]).into_owned();
    let disposition = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))
        .ok_or("the part has no Content-Disposition")?;
    let parameter = |name: &str| {
        let (_, rest) = disposition.split_once(&format!(" {name}=\""))?;
        Some(rest.split('"').next().unwrap_or(rest).to_owned())
    };
    if parameter("name").as_deref() != Some("file") {
        return Err(format!("the part is not named file: {disposition}"));
    }
    let filename = parameter("filename").ok_or("the part has no filename")?;
    let data_start = head_end + 4;
    let delimiter = format!("\r\n--{boundary}");
    let data_end = memchr::memmem::find(&body[data_start..], delimiter.as_bytes())
        .map(|at| data_start + at)
        .ok_or("the part has no end: the body was cut")?;
    if !body[data_end + delimiter.len()..].starts_with(b"--") {
        return Err("there is more than one part".into());
    }
    Ok((filename, body.slice(data_start..data_end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<(String, Bytes), String> {
        single_file("multipart/form-data; boundary=XX", &Bytes::copy_from_slice(body.as_bytes()))
    }

    const HEAD: &str = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.zip\"\r\n\
                        Content-Type: application/octet-stream\r\n\r\n";

    #[test]
    fn api_69_one_part_named_file_is_taken_with_its_name_and_every_byte() {
        let (name, data) = parse(&format!("{HEAD}a\r\n--X\r\n\r\nb\r\n--XX--\r\n")).unwrap();
        assert_eq!((name.as_str(), data.as_ref()), ("a.zip", b"a\r\n--X\r\n\r\nb".as_ref()));
    }

    #[test]
    fn api_69_anything_else_than_one_part_named_file_is_refused() {
        for (body, why) in [
            (format!("{HEAD}a\r\n{HEAD}b\r\n--XX--\r\n"), "more than one part"),
            (format!("{HEAD}a"), "was cut"),
            (HEAD.replace("name=\"file\"", "name=\"data\"") + "a\r\n--XX--", "not named file"),
            ("a".to_owned(), "begin with its boundary"),
        ] {
            let error = parse(&body).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        single_file("application/zip", &Bytes::new()).unwrap_err();
    }
}
