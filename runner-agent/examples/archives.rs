//! Packs or unpacks a directory, for `benches/archives`: `archives pack zip|tar DIRECTORY ARCHIVE`,
//! `archives unpack ARCHIVE DIRECTORY`. Prints seconds, and the most memory it has had in MiB.

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::fs::File;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use runner_agent::archive::pack::{Format, pack};
use runner_agent::archive::unpack::{Limits, unpack};
use runner_agent::archive::{Entries, Entry, Level, Origin};
use tokio::time::Instant;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let began = Instant::now();
    match arguments[..] {
        ["pack", format, directory, archive] => {
            let format = if format == "tar" { Format::TarZstd } else { Format::Zip };
            let directory = Path::new(directory);
            let entries = entries(directory)?;
            let origin = Origin::open(directory)?;
            let mut out = File::create(archive)?;
            pack(&origin, &entries, format, Level::Default, &mut out).map_err(Error::other)?;
        }
        ["unpack", archive, directory] => {
            unpack(File::open(archive)?, Path::new(directory), Limits::default())
                .map_err(Error::other)?;
        }
        _ => return Err(Error::other("see the top of this file")),
    }
    let took = began.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    println!("{took:.2} {:.0}", peak.unwrap_or_default() / 1024.0);
    Ok(())
}

fn entries(root: &Path) -> Result<Entries> {
    let mut entries = Entries::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        for child in std::fs::read_dir(root.join(&directory))? {
            let child = child?;
            let path = directory.join(child.file_name());
            let data = child.metadata()?;
            entries.extend(Entry::of(&data).map(|entry| (path.clone().into(), entry)));
            if data.is_dir() {
                pending.push(path);
            }
        }
    }
    Ok(entries)
}
