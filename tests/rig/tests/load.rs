//! The load itself: both servers pass it without a filter, whole and clean.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_rig::{Bundle, BusyLoops, Container, Runtime, load, serial};
    use std::time::Instant;

    fn passes(name: &str, bundle: &Bundle, load: fn(&mut Container, u32) -> anyhow::Result<()>) {
        for busy in [0, 2] {
            let _busy = BusyLoops::start(busy);
            for requests in [20, 500] {
                let start = Instant::now();
                let mut container =
                    Container::new(name, bundle, &Runtime::runc().unwrap()).unwrap();
                container.spawn().unwrap();
                if let Err(error) = load(&mut container, requests) {
                    panic!("{error:#}\n{}", container.log());
                }
                println!(
                    "{name}, {requests} requests a test, {busy} busy loops: {:?}",
                    start.elapsed()
                );
            }
        }
    }

    #[test]
    fn redis_passes_its_load() {
        let _serial = serial().unwrap();
        passes("rig-redis", &load::redis_bundle().unwrap(), load::redis);
    }

    #[test]
    fn nginx_passes_its_load() {
        let _serial = serial().unwrap();
        passes("rig-nginx", &load::nginx_bundle().unwrap(), load::nginx);
    }
}
