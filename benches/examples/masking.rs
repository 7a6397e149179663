//! Masking 1 GB of log with 0, 10, 100 and 1,000 masked values, beside a plain copy of the same file (`cat`) and
//! the usual tools for it (`sed`, which replaces; `grep -F -f`, which only finds), in turns.
//!
//! "masks" is the masker alone; "all" is all that is done to a log: masks, token prefixes, URL parameters, UTF-8
//! repair, sections, time stamps, checksum. Each contestant is a process with the same file as its input and
//! `/dev/null` as its output. Printed are medians of wall and CPU time, their ratios to `cat`'s, and
//! bytes for each second of CPU. `sed` gets a sixteenth of the data, and
//! its time is taken times 16.
//!
//!     cargo run --release -p benches --example masking [ROUNDS [MB]]
#![expect(clippy::print_stdout, reason = "the numbers are the point")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use benches::{CHUNK, lines, secrets, settings};
use jiff::Timestamp;
use runner_core::log::{Kind, LogPipeline, Masker, Stream};
use tokio::time::Instant;

const COUNTS: [usize; 4] = [0, 10, 100, 1000];
/// Most values that `sed` is tried with: its time grows with them.
const MOST_FOR_SED: usize = 100;
const SED_SHARE: u32 = 16;

/// The child: standard input to standard output.
fn work(what: &str, count: usize) -> std::io::Result<()> {
    let settings = settings(&secrets(count));
    let (mut input, mut output) = (std::io::stdin().lock(), File::create("/dev/stdout")?);
    let (mut buffer, mut out) = (vec![0; CHUNK], Vec::new());
    let mut masker = Masker::new(&settings);
    let mut pipeline = LogPipeline::new(&settings);
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        out.clear();
        match what {
            "masks" => masker.push(&buffer[..read], &mut out),
            _ => {
                pipeline.write(Stream::Job, Kind::Out, &buffer[..read], Timestamp::now(), &mut out)
            }
        }
        output.write_all(&out)?;
    }
}

/// Wall and CPU time of a process.
type Taken = (Duration, Duration);

/// CPU time of all children that have ended, in the kernel's hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // After the name in parentheses: user and system time of children are the 14th and 15th.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// How long a command takes with this input.
fn time(mut command: Command, input: &Path, output: Stdio) -> Taken {
    let input = File::open(input).expect("the file is ours");
    let (began, before) = (Instant::now(), cpu());
    let status = command.stdin(input).stdout(output).status().expect("the program is there");
    // grep says 1 when nothing was found.
    assert!(matches!(status.code(), Some(0 | 1)), "{status}");
    (began.elapsed(), cpu() - before)
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C");
    command
}

fn median(times: &[Taken], which: fn(&Taken) -> Duration) -> f64 {
    let mut times: Vec<_> = times.iter().map(which).collect();
    times.sort();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
}

fn compare(rounds: usize, megabytes: usize) {
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    let own = std::env::current_exe().expect("this program").display().to_string();
    println!("{megabytes} MB, {rounds} rounds, medians");
    for count in COUNTS {
        let values = secrets(count);
        // One line in ten holds something to be masked.
        let block = lines(4_000_000, 80, &values, count > 0);
        let write = |name: &str, bytes: usize| {
            let mut file = File::create(at(name)).expect("room for the log");
            for _ in 0..bytes.div_ceil(block.len()) {
                file.write_all(&block).expect("room for the log");
            }
        };
        write("log", megabytes * 1_000_000);
        write("part", megabytes * 1_000_000 / SED_SHARE as usize);
        std::fs::write(at("values"), values.join("\n")).expect("a file");
        let script: String =
            values.iter().map(|value| format!("s|{}|[MASKED]|g\n", escaped(value))).collect();
        std::fs::write(at("script"), script).expect("a file");
        let (log, part) = (at("log"), at("part"));
        let paths = ["values", "script"].map(|name| at(name).display().to_string());
        let number = count.to_string();

        let mut times = [(); 5].map(|()| Vec::new());
        for _ in 0..rounds {
            times[0].push(time(command("cat", &[]), &log, Stdio::null()));
            times[1].push(time(command(&own, &["child", "masks", &number]), &log, Stdio::null()));
            times[2].push(time(command(&own, &["child", "all", &number]), &log, Stdio::null()));
            if count > 0 {
                // With /dev/null it ends at the first line that it finds.
                let counted = File::create(at("counted")).expect("a file");
                let grep = command("grep", &["-c", "-F", "-f", &paths[0]]);
                times[3].push(time(grep, &log, counted.into()));
            }
            if (1..=MOST_FOR_SED).contains(&count) {
                let (wall, cpu) = time(command("sed", &["-f", &paths[1]]), &part, Stdio::null());
                times[4].push((wall * SED_SHARE, cpu * SED_SHARE));
            }
        }
        let (cat, cat_cpu) = (median(&times[0], |t| t.0), median(&times[0], |t| t.1));
        let names = ["cat", "ours, masks", "ours, all", "grep -F -f", "sed"];
        for (name, times) in names.iter().zip(&times).filter(|(_, times)| !times.is_empty()) {
            let (seconds, cpu) = (median(times, |t| t.0), median(times, |t| t.1));
            let speed = megabytes as f64 / 1000.0 / cpu.max(0.01);
            println!(
                "{count:5} values  {name:12} {seconds:8.2} s {:8.2}x of cat; CPU {cpu:8.2} s {:8.2}x, {speed:6.2} GB/s",
                seconds / cat,
                cpu / cat_cpu.max(0.01),
            );
        }
    }
}

/// A value as a pattern of `sed`.
fn escaped(value: &str) -> String {
    let special = |c: char| r"\.*[]^$|/".contains(c);
    value.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse::<usize>().ok());
    if arguments.first().is_some_and(|first| first == "child") {
        let done = work(&arguments[1], number(2).unwrap_or(0));
        return if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    compare(number(0).unwrap_or(3), number(1).unwrap_or(1000));
    ExitCode::SUCCESS
}
