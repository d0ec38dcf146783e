//! What a recording needs does not grow with what happens while it goes on.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Record, assert_calls, calls, kernel, repeats};
    use seccast_model::arch::Arch;
    use seccast_model::observation::Phase;
    use seccast_rig::process;
    use seccast_workloads::path;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What 10,000 execs may take on a busy machine.
    const ROUND: Duration = Duration::from_secs(300);

    /// The program waits each time that a multiple of this is left.
    const STEP: usize = 10_000;

    /// So much more it may have later, in KiB. What the ring buffer of 1 MiB holds is taken in at once, as texts of about the same
    /// size, and the allocator rounds up. Had each exec left a file name, 40,000 of them would be more than 6,000 KiB.
    const MARGIN: u64 = 2048;

    /// A value of /proc/PID/status, in KiB.
    fn status(pid: i32, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.unwrap().trim().trim_end_matches(" kB");
        value.parse().unwrap()
    }

    /// The program that has so many execs left, waiting for somebody who opens the fifo.
    fn waits(fifo: &Path, left: usize) -> bool {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let words = [
            path("execs").as_os_str().as_bytes(),
            left.to_string().as_bytes(),
            fifo.as_os_str().as_bytes(),
            b"",
        ]
        .join(&0);
        pids.into_iter().any(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == words)
                && process::sleeps_in(pid) == Some(libc::SYS_openat)
        })
    }

    #[test]
    fn of_50000_execs_only_the_first_10000_take_memory() {
        let Some(_serial) = kernel() else { return };
        let execs = repeats(50_000);
        assert!(execs >= 2 * STEP && execs.is_multiple_of(STEP), "{execs}");
        let work = tempfile::tempdir().unwrap();
        let fifo = work.path().join("fifo");
        let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name ends with a zero.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let args = [execs.to_string().into(), fifo.clone().into_os_string()];
        let running = Record::program(&path("execs"), args).start();
        let mut first = None;
        for left in (0..=execs).rev().step_by(STEP) {
            let what = format!("it to have {left} left");
            process::poll(&what, ROUND, || Ok(waits(&fifo, left))).unwrap();
            // What has happened is taken in.
            running.catch_up();
            let rss = status(running.pid(), "VmRSS:");
            println!("{} execs: {rss} KiB", execs - left);
            if left < execs {
                let first = *first.get_or_insert(rss);
                assert!(rss <= first + MARGIN, "{first} KiB became {rss} KiB");
            }
            // Whoever opens it lets the program go on.
            fs::write(&fifo, "x").unwrap();
        }
        let recorded = running.end(PATIENCE);
        let expected = ["openat", "read", "execve", "exit_group"];
        let expected = expected.map(|name| (Arch::X86_64, name.to_owned()));
        // It ends with 0 only if it has executed itself as often as it was told.
        let observation = recorded.complete();
        assert_calls(&calls(observation, Phase::App), &expected.into(), "execs");
        let exit = &observation.calls[&(Arch::X86_64, Phase::App)]["exit_group"];
        let caller = exit.caller.as_ref().unwrap();
        assert_eq!(caller.exe.as_deref(), path("execs").to_str(), "{caller:?}");
    }
}
