//! The rig itself: containers start, end and leave nothing behind.

mod root {
    use seccast_rig::{Bundle, Container, Runtime, lock, rootfs, unique};
    use std::time::Duration;

    #[test]
    fn a_container_ends_with_the_status_of_its_program() {
        let _lock = lock::beside().unwrap();
        let bundle = Bundle::new(
            rootfs::busybox().unwrap(),
            ["/bin/sh", "-c", "echo hello; exit 42"],
        );
        let name = unique("rig-status");
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        let status = container.run(Duration::from_secs(60)).unwrap();
        assert_eq!(status.code(), Some(42), "{}", container.log());
        assert_eq!(container.log(), "hello\n");
        let dir = container.cgroup_dir();
        drop(container);
        assert!(!dir.exists());
    }

    #[test]
    fn a_container_can_be_entered_frozen_and_stopped() {
        let _lock = lock::beside().unwrap();
        let bundle = Bundle::new(rootfs::busybox().unwrap(), ["/bin/sleep", "600"])
            .tmpfs("/data")
            .user(1000, 1000);
        let name = unique("rig-live");
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        container.run_detached().unwrap();
        let procs = std::fs::read_to_string(container.cgroup_dir().join("cgroup.procs")).unwrap();
        assert_eq!(
            procs.trim().parse::<i32>().unwrap(),
            container.pid().unwrap()
        );
        assert!(container.cgroup_id().unwrap() > 1);
        let output = container
            .exec(["/bin/sh", "-c", "touch /data/x && id -u"])
            .unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_str()),
            (Some(0), "1000\n"),
            "{}",
            output.stderr
        );
        container.pause().unwrap();
        container.kill(libc::SIGKILL).unwrap();
        container.resume().unwrap();
        container.wait(Duration::from_secs(60)).unwrap();
        let dir = container.cgroup_dir();
        drop(container);
        assert!(!dir.exists());
    }

    #[test]
    fn a_filter_is_enforced() {
        let _lock = lock::beside().unwrap();
        let profile = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS" }],
        });
        let bundle = Bundle::new(rootfs::busybox().unwrap(), ["/bin/uname"]).seccomp(profile);
        let name = unique("rig-filter");
        let mut container = Container::new(&name, &bundle, &Runtime::runc().unwrap()).unwrap();
        let status = container.run(Duration::from_secs(60)).unwrap();
        assert_eq!(
            status.code(),
            Some(128 + libc::SIGSYS),
            "{}",
            container.log()
        );
    }

    #[test]
    fn two_callers_at_once_get_the_same_root_file_system() {
        let threads: Vec<_> = (0..2)
            .map(|_| std::thread::spawn(|| rootfs::redis().unwrap()))
            .collect();
        let trees: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(trees[0], trees[1]);
        assert!(trees[0].join("usr/bin/redis-server").is_file());
        assert!(rootfs::nginx().unwrap().join("usr/sbin/nginx").is_file());
    }
}
