//! The load itself: every server passes it without a filter, whole and clean.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod root {
    use seccast_rig::{BusyLoops, Container, Runtime, load, lock, unique};
    use std::time::Instant;

    fn passes(name: &str) {
        let _lock = lock::beside().unwrap();
        let app = load::APPS.into_iter().find(|app| app.name == name).unwrap();
        let bundle = (app.bundle)().unwrap();
        for busy in [0, 2] {
            let _busy = BusyLoops::start(busy);
            for requests in [20, 500] {
                let start = Instant::now();
                let own = unique(&format!("rig-{name}"));
                let mut container =
                    Container::new(&own, &bundle, &Runtime::runc().unwrap()).unwrap();
                container.spawn().unwrap();
                if let Err(error) = (app.load)(&mut container, requests) {
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
        passes("redis");
    }

    #[test]
    fn nginx_passes_its_load() {
        passes("nginx");
    }

    #[test]
    fn memcached_passes_its_load() {
        passes("memcached");
    }

    #[test]
    fn postgresql_passes_its_load() {
        passes("postgresql");
    }

    #[test]
    fn haproxy_passes_its_load() {
        passes("haproxy");
    }

    #[test]
    fn mariadb_passes_its_load() {
        passes("mariadb");
    }
}
