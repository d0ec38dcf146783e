//! `diff` and `check` of real files: `cargo bench --package seccast-model --bench gate`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros have no docs; a broken file fails the benchmark"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use seccast_model::check::{Policy, check};
use seccast_model::diff::{Subject, diff};
use seccast_model::report::Reasons;
use seccast_model::{Arch, Merged, Observation, Profile, generate};
use std::hint::black_box;

const REDIS: &[u8] = include_bytes!("../../../profiles/apps/redis/profile.json");
const POSTGRESQL: &[u8] = include_bytes!("../../../profiles/apps/postgresql/profile.json");
const RECORDED: &[u8] = include_bytes!("../../../profiles/apps/postgresql/observation.json");
const POLICY: &[u8] = b"\
never_allow_risk: critical
max_names: 200
subset_of: {engine: docker, except: [clone, clone3, socket]}
max_age_days: 90
incomplete: forbid
";

/// A profile as `seccast` reads it, with the report beside it.
fn profile(label: &str, json: &[u8], report: &[u8]) -> Subject {
    let reasons = Reasons::from_json(report).unwrap();
    let profile = Profile::from_oci_json(json).unwrap();
    Subject::profile(label, profile, Arch::X86_64, Some(reasons))
}

fn recorded(json: &[u8]) -> Subject {
    let observation = Observation::from_json(json).unwrap();
    Subject::recorded("postgresql", &Merged::of(observation).unwrap()).unwrap()
}

/// From the bytes of both files to the bytes of the answer.
fn gate(criterion: &mut Criterion) {
    let observation = Observation::from_json(RECORDED).unwrap();
    let report = generate(&[observation], &seccast_model::Policy::default())
        .unwrap()
        .report;
    let report = report.to_json().into_bytes();
    let before = || profile("redis", black_box(REDIS), &report);
    let after = || profile("postgresql", black_box(POSTGRESQL), &report);

    let mut group = criterion.benchmark_group("gate");
    group.bench_function("diff of two profiles, as JSON", |bencher| {
        bencher.iter(|| diff(&before(), &after()).unwrap().to_json());
    });
    group.bench_function("diff of a profile and a recording, as JSON", |bencher| {
        bencher.iter(|| {
            diff(&before(), &recorded(black_box(RECORDED)))
                .unwrap()
                .to_json()
        });
    });
    group.bench_function("check with a policy, as SARIF", |bencher| {
        let text = std::str::from_utf8(POSTGRESQL).unwrap();
        bencher.iter(|| {
            let policy = Policy::from_yaml(black_box(POLICY)).unwrap();
            let outcome = check(&after(), &before(), &policy, 0).unwrap();
            outcome.to_sarif(Some("postgresql.json"), text)
        });
    });
    group.finish();
}

criterion_group!(benches, gate);
criterion_main!(benches);
