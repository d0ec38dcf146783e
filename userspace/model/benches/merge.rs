//! A thousand replicas of redis: `cargo bench --package seccast-model --bench merge`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros have no docs; a broken file fails the benchmark"
)]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use seccast_model::{Merged, Observation, Policy, generate::from_merged};
use std::hint::black_box;

const REPLICAS: u64 = 1_000;

/// The recording of a real server with another id, container and start; every seventh has not waited for a client.
fn replicas() -> Vec<Observation> {
    let redis = include_bytes!("../../../profiles/apps/redis/observation.json");
    let redis = Observation::from_json(redis).unwrap();
    (0..REPLICAS)
        .map(|nth| {
            let mut replica = redis.clone();
            replica.recording_id =
                format!("{:032x}", u128::from(nth) * 0x9e37_79b9_7f4a_7c15_f39c_c060);
            replica.target.container_id = Some(format!("redis-{nth}"));
            replica.started_ns += nth * 1_000_003;
            replica.ended_ns += nth * 1_000_003;
            if nth % 7 == 0 {
                for names in replica.calls.values_mut() {
                    names.remove("epoll_wait");
                }
            }
            replica
        })
        .collect()
}

fn merge(criterion: &mut Criterion) {
    let replicas = replicas();
    let files: Vec<String> = replicas.iter().map(Observation::to_json).collect();
    let merged = Merged::new(&replicas).unwrap();
    let file = merged.to_json();
    let mut group = criterion.benchmark_group("merge 1000 observations");
    group.sample_size(10);
    group.bench_function("read and join", |bencher| {
        bencher.iter(|| {
            let mut merged = Merged::default();
            for file in &files {
                let one = Observation::from_json(black_box(file).as_bytes()).unwrap();
                merged.absorb(Merged::of(one).unwrap()).unwrap();
            }
            merged
        });
    });
    group.bench_function("join", |bencher| {
        bencher.iter(|| Merged::new(black_box(&replicas)).unwrap());
    });
    group.bench_function("join two halves", |bencher| {
        let (left, right) = replicas.split_at(replicas.len() / 2);
        let (left, right) = (Merged::new(left).unwrap(), Merged::new(right).unwrap());
        bencher.iter_batched(
            || (left.clone(), right.clone()),
            |(mut left, right)| left.absorb(right).unwrap(),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("write", |bencher| {
        bencher.iter(|| black_box(&merged).to_json())
    });
    group.bench_function("read the merged file", |bencher| {
        bencher.iter(|| Merged::from_json(black_box(&file).as_bytes()).unwrap());
    });
    group.bench_function("generate", |bencher| {
        bencher.iter(|| from_merged(black_box(&merged), &Policy::default()).unwrap());
    });
    group.finish();
}

criterion_group!(benches, merge);
criterion_main!(benches);
