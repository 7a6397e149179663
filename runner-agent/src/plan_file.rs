//! Reads the plan from the files in which it came into the pod.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use runner_core::plan::Plan;

use crate::supervise::SuperviseError;

/// The plan in this directory, with all its paths below `root` when this is not a container.
///
/// # Errors
/// When there is none, or it is not one that this release understands.
pub fn read(directory: &Path, root: Option<&str>) -> Result<Plan, SuperviseError> {
    let failed = |source| SuperviseError::PlanFiles { path: directory.to_owned(), source };
    let bytes = read_items(directory).map_err(failed)?;
    let json = if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut json = Vec::new();
        MultiGzDecoder::new(&bytes[..]).read_to_end(&mut json).map_err(failed)?;
        json
    } else {
        bytes
    };
    let plan = Plan::from_json(&json)?;
    Ok(match root {
        Some(root) => plan.relocated(root),
        None => plan,
    })
}

/// `plan.0`, `plan.1`, … joined.
fn read_items(directory: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = fs::read(directory.join("plan.0"))?;
    for item in 1.. {
        match fs::read(directory.join(format!("plan.{item}"))) {
            Ok(more) => bytes.extend_from_slice(&more),
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
