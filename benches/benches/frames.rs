//! How fast trace bytes become frames and come out of them again.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use runner_core::ids::Offset;
use runner_core::wire::{AgentCodec, AgentFrame, ManagerCodec};
use tokio_util::codec::{Decoder, Encoder};

const SIZE: usize = 4 << 20;

fn encode(pieces: &[Bytes], wire: &mut BytesMut) {
    let mut offset = Offset::ZERO;
    for bytes in pieces {
        let next = offset.advance(bytes.len());
        AgentCodec
            .encode(AgentFrame::Trace { offset, bytes: bytes.clone() }, wire)
            .expect("pieces are within the limit");
        offset = next;
    }
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Bytes(SIZE as u64));
    for size in [256, 4 * 1024, 64 * 1024] {
        let pieces: Vec<_> = (0..SIZE / size).map(|_| Bytes::from(vec![b'x'; size])).collect();
        let mut wire = BytesMut::new();
        group.bench_function(BenchmarkId::new("encode", size), |bencher| {
            bencher.iter(|| {
                wire.clear();
                encode(&pieces, &mut wire);
                black_box(&wire);
            });
        });
        encode(&pieces, &mut wire);
        let wire = wire.freeze();
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter(|| {
                // A connection hands over buffers of its own; here that costs one copy.
                let mut buffer = BytesMut::from(&wire[..]);
                while let Some(frame) = ManagerCodec.decode(&mut buffer).expect("well-formed") {
                    black_box(frame);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
