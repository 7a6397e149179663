//! How fast one core makes a trace with everything on.

use std::hint::black_box;

use benches::{CHUNK, lines, secrets, settings};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use runner_core::log::{Kind, LogPipeline, Masker, Stream};

const SIZE: usize = 4 << 20;

/// The whole input in chunks as a pipe gives them, each with its own time.
fn run(pipeline: &mut LogPipeline, input: &[u8], chunk: usize, out: &mut Vec<u8>) {
    for (index, piece) in (0..).zip(input.chunks(chunk)) {
        let now = Timestamp::from_microsecond(1_788_266_096_000_000 + index * 137)
            .expect("a time in this century");
        out.clear();
        pipeline.write(Stream::Job, Kind::Out, piece, now, out);
        black_box(&out);
    }
}

fn everything_on(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    for width in [40, 80, 200] {
        for count in [0, 20, 100] {
            for hits in [false, true] {
                let secrets = secrets(count);
                let input = lines(SIZE, width, &secrets, hits);
                let mut pipeline = LogPipeline::new(&settings(&secrets));
                let mut out = Vec::new();
                group.throughput(Throughput::Bytes(input.len() as u64));
                let name = format!("{count} secrets, {}", if hits { "hits" } else { "no hits" });
                group.bench_function(BenchmarkId::new(name, width), |bencher| {
                    bencher.iter(|| run(&mut pipeline, &input, CHUNK, &mut out));
                });
            }
        }
    }
    group.finish();
}

/// The same where it is hard: other text, other settings, other ways to write.
fn special(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log-special");
    let secrets = secrets(20);
    let plain = lines(SIZE, 80, &secrets, false);
    let german = String::from_utf8_lossy(&plain).replace("in ", "\u{fc}\u{df} ").into_bytes();
    let dos = String::from_utf8_lossy(&plain).replace('\n', "\r\n").into_bytes();
    let short = ["on", "pass1"].map(str::to_owned);
    let one_line = lines(SIZE, SIZE, &secrets, false);
    type Case<'a> = (&'a str, &'a [String], &'a [u8], usize, bool);
    let cases: [Case<'_>; 7] = [
        ("a write for each line", &secrets, &plain, 80, true),
        ("1 KiB writes", &secrets, &plain, 1024, true),
        ("no time stamps", &secrets, &plain, CHUNK, false),
        ("not only ASCII", &secrets, &german, CHUNK, true),
        ("CRLF", &secrets, &dos, CHUNK, true),
        ("short secrets, many hits", &short, &plain, CHUNK, true),
        ("one endless line", &secrets, &one_line, CHUNK, true),
    ];
    for (name, secrets, input, chunk, timestamps) in cases {
        let mut settings = settings(secrets);
        settings.timestamps = timestamps;
        let mut pipeline = LogPipeline::new(&settings);
        let mut out = Vec::new();
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| run(&mut pipeline, input, chunk, &mut out));
        });
    }
    group.finish();
}

fn masks_alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    for count in [0, 20, 100, 1000] {
        let secrets = secrets(count);
        let input = lines(SIZE, 80, &secrets, false);
        let mut masker = Masker::new(&settings(&secrets));
        let mut out = Vec::new();
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(format!("{count} secrets"), |bencher| {
            bencher.iter(|| {
                for piece in input.chunks(CHUNK) {
                    out.clear();
                    masker.push(piece, &mut out);
                    black_box(&out);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, everything_on, special, masks_alone);
criterion_main!(benches);
