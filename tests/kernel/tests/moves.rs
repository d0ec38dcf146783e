//! Nothing remembered of a task is ever wrong: not after a move, a change of what is watched, or when its pid comes again.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{Call, Record, call, calls, harmless, kernel, puppet, root_with, truth};
    use seccast_model::arch::Arch;
    use seccast_model::observation::{Observation, Phase, Target};
    use seccast_model::syscall;
    use seccast_recorder::Recorder;
    use seccast_rig::cgroup::Scope;
    use seccast_rig::{Bundle, Container, Runtime, process, unique};
    use seccast_workloads::{numbers, path, program, puppet::Puppet};
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::io;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    const GETPID: i64 = 39;
    const GETUID: i64 = 102;
    const GETGID: i64 = 104;
    const GETEUID: i64 = 107;
    const GETEGID: i64 = 108;
    const GETPPID: i64 = 110;
    const GETPGRP: i64 = 111;

    const PATIENCE: Duration = Duration::from_secs(60);

    type Numbers = Vec<(Arch, u32)>;

    fn x86_64<const N: usize>(names: [&str; N]) -> BTreeSet<Call> {
        names
            .into_iter()
            .map(|name| (Arch::X86_64, name.to_owned()))
            .collect()
    }

    /// Numbers that no table names, of all three ABIs, in two halves that share no number.
    fn nameless() -> (Numbers, Numbers) {
        let nameless = harmless::all()
            .into_iter()
            .filter(|&(arch, nr)| syscall::name(arch, nr).is_none());
        nameless.partition(|(_, nr)| nr % 2 == 0)
    }

    /// What was recorded in any phase but the runtime's.
    fn all(observation: &Observation) -> BTreeSet<Call> {
        [Phase::App, Phase::Exec, Phase::Entered]
            .into_iter()
            .flat_map(|phase| calls(observation, phase))
            .collect()
    }

    #[test]
    fn a_moved_task_is_recorded_while_it_is_inside_and_only_then() {
        let Some(_serial) = kernel() else { return };
        let (inside, outside) = (
            Scope::new("moves-in").unwrap(),
            Scope::new("moves-out").unwrap(),
        );
        let mut puppet = puppet();
        let pid = puppet.pid();
        outside.add(pid).unwrap();
        let mut open = |scope: &Scope| {
            let path = puppet
                .text(scope.dir().join("cgroup.procs").to_str().unwrap())
                .unwrap();
            puppet.call(257, &[-100, path, 1 /* O_WRONLY */]).unwrap()
        };
        let (into, out) = (open(&inside), open(&outside));
        assert!(into > 0 && out > 0, "{into} {out}");
        let running = Record::cgroup(inside.path()).start();

        // By another.
        puppet.call(GETEUID, &[]).unwrap();
        inside.add(pid).unwrap();
        puppet.call(GETUID, &[]).unwrap();
        outside.add(pid).unwrap();
        puppet.call(GETGID, &[]).unwrap();
        inside.add(pid).unwrap();
        puppet.call_i386(20, &[]).unwrap(); // getpid
        // By itself: the write that leaves is made inside, the one that comes back outside.
        let zero = puppet.text("0").unwrap();
        assert_eq!(puppet.call(1, &[out, zero, 1]).unwrap(), 1);
        puppet.call(GETPGRP, &[]).unwrap();
        assert_eq!(puppet.call(1, &[into, zero, 1]).unwrap(), 1);
        puppet.call(GETEGID, &[]).unwrap();
        let recorded = running.stop();

        let observation = recorded.observation.as_ref().unwrap();
        let mut expected = x86_64(["getuid", "write", "getegid"]);
        expected.insert((Arch::X86, "getpid".into()));
        assert_eq!(calls(observation, Phase::Entered), expected);
        assert_eq!(all(observation), expected);
        assert_eq!(calls(observation, Phase::Runtime), [].into());
        assert_eq!(observation.losses, [].into());
        assert_eq!(observation.entered_count, 1, "{:?}", observation.entered);
        assert_eq!(
            (
                observation.entered[0].pid,
                observation.entered[0].comm.as_str()
            ),
            (pid, "puppet")
        );
        // Nobody has said what it is, and nothing else was recorded: no profile, and how to decide it.
        recorded.assert_ended(3, &["--entered", "puppet", &pid.to_string()]);
    }

    #[test]
    fn beside_a_container_only_the_moved_task_is_undecided() {
        let Some(_serial) = kernel() else { return };
        let root = root_with(&["plain"]);
        let scope = Scope::new("moves-beside").unwrap();
        let running = Record::cgroup(scope.path()).start();
        let bundle = Bundle::new(root.path(), ["/plain"]).cgroups_path(scope.child("container"));
        let mut container =
            Container::new(&unique("moves-beside"), &bundle, &Runtime::runc().unwrap()).unwrap();
        let status = container.run(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{}", container.log());
        let mut puppet = puppet();
        let pid = puppet.pid();
        scope.add(pid).unwrap();
        puppet.call(GETPGRP, &[]).unwrap();
        let recorded = running.stop();
        let observation = recorded.observation.as_ref().unwrap();
        assert_eq!(calls(observation, Phase::App), truth(program("plain")));
        assert_eq!(calls(observation, Phase::Entered), x86_64(["getpgrp"]));
        assert_eq!(observation.entered_count, 1, "{:?}", observation.entered);
        assert!(calls(observation, Phase::Runtime).len() > 20);
        // The recording is incomplete: who is undecided, and how to decide it.
        recorded.assert_ended(1, &["--entered", "puppet", &pid.to_string()]);
        let profile = recorded.profile().to_string();
        assert!(!profile.contains("\"getpgrp\""), "{profile}");
    }

    #[test]
    fn an_entered_task_that_is_said_to_be_the_application_is_in_the_profile() {
        let Some(_serial) = kernel() else { return };
        let inside = Scope::new("moves-app").unwrap();
        let mut puppet = puppet();
        let running = Record::new(["--cgroup", inside.path(), "--entered", "app"]).start();
        inside.add(puppet.pid()).unwrap();
        puppet.call(GETPGRP, &[]).unwrap();
        let recorded = running.stop();
        recorded.complete();
        let profile = recorded.profile().to_string();
        assert!(profile.contains("\"getpgrp\""), "{profile}");
    }

    /// Rounds of a task that goes in and out.
    const ROUNDS: usize = 300;

    #[test]
    fn of_300_moves_in_and_out_every_call_is_on_its_side() {
        let Some(_serial) = kernel() else { return };
        let (inside, outside) = (
            Scope::new("moves-in").unwrap(),
            Scope::new("moves-out").unwrap(),
        );
        let mut puppet = puppet();
        let pid = puppet.pid();
        let running = Record::cgroup(inside.path()).start();
        let (ins, outs) = nameless();
        let mut tell = |(arch, nr): (Arch, u32)| match arch {
            Arch::X86 => puppet.call_i386(nr.into(), &[]).unwrap(),
            Arch::X32 => puppet.call((0x4000_0000 | nr).into(), &[]).unwrap(),
            _ => puppet.call(nr.into(), &[]).unwrap(),
        };
        for round in 0..ROUNDS {
            inside.add(pid).unwrap();
            tell(ins[round]);
            outside.add(pid).unwrap();
            tell(outs[round]);
        }
        let recorded = running.stop();
        let observation = recorded.observation.as_ref().unwrap();
        let expected: BTreeSet<_> = ins[..ROUNDS].iter().copied().map(call).collect();
        assert_eq!(all(observation), expected);
        assert_eq!(observation.losses, [].into());
        assert_eq!(observation.entered_count, 1);
    }

    /// Lets a puppet that repeats a call make a thousand more on each processor that it may run on.
    fn on_every_processor(puppet: &mut Puppet) {
        let pid = puppet.pid().cast_signed();
        // SAFETY: an all-zero cpu_set_t is the empty set.
        let empty: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        let (mut all, size) = (empty, size_of::<libc::cpu_set_t>());
        // SAFETY: the size is the set's own.
        let read = unsafe { libc::sched_getaffinity(pid, size, &raw mut all) };
        assert_eq!(read, 0, "{}", io::Error::last_os_error());
        let allow = |set: &libc::cpu_set_t| {
            // SAFETY: the size is the set's own. When it returns, the task runs on one of them.
            let moved = unsafe { libc::sched_setaffinity(pid, size, set) };
            assert_eq!(moved, 0, "{}", io::Error::last_os_error());
        };
        for processor in 0..8 * size {
            // SAFETY: below the number of the set's bits.
            if !unsafe { libc::CPU_ISSET(processor, &all) } {
                continue;
            }
            let mut one = empty;
            // SAFETY: as above.
            unsafe { libc::CPU_SET(processor, &mut one) };
            allow(&one);
            puppet.goes_on(1000).unwrap();
        }
        allow(&all);
    }

    #[test]
    fn a_task_that_was_long_ignored_is_recorded_from_the_moment_its_cgroup_is_watched() {
        let Some(_serial) = kernel() else { return };
        let (other, target) = (
            Scope::new("moves-other").unwrap(),
            Scope::new("moves-target").unwrap(),
        );
        let mut puppet = puppet();
        target.add(puppet.pid()).unwrap();
        // It calls without a pause: before anything is attached, while another cgroup is watched, and while its own begins to be.
        puppet.repeat(GETPPID, &[]).unwrap();
        let first = Record::cgroup(other.path()).start();
        on_every_processor(&mut puppet);
        let second = Record::cgroup(target.path()).start();
        puppet.goes_on(1000).unwrap();
        puppet.stop().unwrap();
        puppet.call(GETUID, &[]).unwrap();
        puppet.call_i386(GETPID, &[]).unwrap(); // mkdir
        let (second, first) = (second.stop(), first.stop());

        let observation = second.observation.as_ref().unwrap();
        let mut expected = x86_64(["getppid", "getuid"]);
        expected.insert((Arch::X86, "mkdir".into()));
        assert_eq!(calls(observation, Phase::App), expected);
        assert_eq!(all(observation), expected);
        assert_eq!(observation.losses, [].into());
        assert!(observation.started_late_ns.is_some());
        assert!(
            first.observation.is_none(),
            "nothing was called there: {}",
            first.stderr
        );
    }

    /// The command line has no way to watch another cgroup later; the agent will.
    #[test]
    fn a_recorder_that_changes_what_it_watches_remembers_nothing() {
        let Some(_serial) = kernel() else { return };
        let (first, second) = (
            Scope::new("moves-first").unwrap(),
            Scope::new("moves-second").unwrap(),
        );
        let mut recorder = Recorder::start(2).unwrap();
        let open =
            |recorder: &Recorder, scope: &Scope| recorder.hierarchy().open(scope.path()).unwrap();
        let (group, other) = (open(&recorder, &first), open(&recorder, &second));
        let watched = recorder
            .watch_present(&group, false, Target::default())
            .unwrap();
        let mut puppet = puppet();
        second.add(puppet.pid()).unwrap();

        // Ignored for long, and so remembered on every processor that it ran on.
        puppet.repeat(GETPPID, &[]).unwrap();
        on_every_processor(&mut puppet);
        puppet.stop().unwrap();
        let late = recorder
            .watch_present(&other, false, Target::default())
            .unwrap();
        puppet.call(GETUID, &[]).unwrap();
        let observation = recorder.observe(&late).unwrap();
        assert_eq!(all(&observation), x86_64(["getuid"]));
        assert_eq!(all(&recorder.observe(&watched).unwrap()), [].into());

        // Recorded for long, then no more; and its slot goes to the next.
        puppet.repeat(GETPPID, &[]).unwrap();
        on_every_processor(&mut puppet);
        for slot in late.slots {
            recorder.release(slot).unwrap();
        }
        puppet.stop().unwrap();
        puppet.call(GETGID, &[]).unwrap();
        let again = recorder
            .watch_present(&other, false, Target::default())
            .unwrap();
        puppet.call(GETEGID, &[]).unwrap();
        // Into the other recording and back.
        first.add(puppet.pid()).unwrap();
        puppet.call(GETPGRP, &[]).unwrap();
        second.add(puppet.pid()).unwrap();
        puppet.call(GETEUID, &[]).unwrap();
        let observation = recorder.observe(&again).unwrap();
        assert_eq!(all(&observation), x86_64(["getegid", "geteuid"]));
        assert_eq!(observation.losses, [].into());
        let observation = recorder.observe(&watched).unwrap();
        assert_eq!(all(&observation), x86_64(["getpgrp"]));
    }

    /// One slot, and a process that lives longer than its recording: what it was there says nothing of the next.
    #[test]
    fn a_process_of_a_recording_that_is_over_enters_the_next_one() {
        let Some(_serial) = kernel() else { return };
        let (first, second) = (
            Scope::new("moves-first").unwrap(),
            Scope::new("moves-second").unwrap(),
        );
        let mut recorder = Recorder::start(1).unwrap();
        let open =
            |recorder: &Recorder, scope: &Scope| recorder.hierarchy().open(scope.path()).unwrap();
        let (group, other) = (open(&recorder, &first), open(&recorder, &second));
        let mut puppet = puppet();
        first.add(puppet.pid()).unwrap();
        let over = recorder
            .watch_present(&group, false, Target::default())
            .unwrap();
        puppet.call(GETUID, &[]).unwrap();
        let observation = recorder.observe(&over).unwrap();
        assert_eq!(calls(&observation, Phase::App), x86_64(["getuid"]));
        for slot in over.slots {
            recorder.release(slot).unwrap();
        }
        let next = recorder
            .watch_present(&other, false, Target::default())
            .unwrap();
        second.add(puppet.pid()).unwrap();
        puppet.call(GETGID, &[]).unwrap();
        let observation = recorder.observe(&next).unwrap();
        assert_eq!(calls(&observation, Phase::Entered), x86_64(["getgid"]));
        assert_eq!(all(&observation), x86_64(["getgid"]));
    }

    #[test]
    fn a_pid_that_comes_again_on_the_other_side_is_another_process() {
        let Some(_serial) = kernel() else { return };
        let inside = Scope::new("moves-reuse").unwrap();
        let (ins, outs) = nameless();
        let rounds = ins.len().min(outs.len());
        let list: Vec<_> = ins
            .iter()
            .zip(&outs)
            .flat_map(|(&inside, &outside)| [inside, outside])
            .collect();
        let running = Record::cgroup(inside.path()).start();
        let mut reuse = feed(Command::new(path("reuse")).arg(inside.dir()), &list);
        let status = process::wait(&mut reuse, PATIENCE)
            .unwrap()
            .expect("reuse ends");
        assert_eq!(status.code(), Some(0));
        let recorded = running.stop();
        let observation = recorded.observation.as_ref().unwrap();
        let mut expected: BTreeSet<_> = ins[..rounds].iter().copied().map(call).collect();
        expected.extend(x86_64(["exit"]));
        assert_eq!(all(observation), expected);
        assert_eq!(observation.losses, [].into());
        // Born inside by clone3, without an attach event and without an exec.
        assert_eq!(observation.entered_count, rounds as u64);
        println!("{rounds} pids came again");
    }

    #[test]
    fn a_fork_storm_inside_and_one_outside_do_not_mix() {
        let Some(_serial) = kernel() else { return };
        let work = tempfile::tempdir().unwrap();
        let (ins, outs) = nameless();
        fs::write(work.path().join("outs"), numbers::encode(&outs)).unwrap();
        // The same storm over and over on the other side, for as long as this side is recorded.
        let storm = format!(
            "while :; do {} <{} || exit; done",
            path("forks").display(),
            work.path().join("outs").display()
        );
        let mut other = Command::new("sh")
            .args(["-c", &storm])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut forks = 0;
        for _ in 0..10 {
            let recorded = Record::program(&path("forks"), [] as [OsString; 0])
                .stdin(numbers::encode(&ins))
                .run(PATIENCE);
            let mut expected: BTreeSet<_> = ins.iter().copied().map(call).collect();
            expected.extend(x86_64(["read", "fork", "wait4", "exit", "exit_group"]));
            assert_eq!(calls(recorded.complete(), Phase::App), expected);
            assert_eq!(all(recorded.complete()), expected);
            forks += ins.len();
        }
        assert!(other.try_wait().unwrap().is_none(), "the other storm ended");
        other.kill().unwrap();
        other.wait().unwrap();
        println!("{forks} forks inside");
    }

    /// A process that a failed test does not leave behind either.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[test]
    fn what_forks_faster_than_it_can_be_listed_has_its_phase_when_its_recording_begins() {
        let Some(_serial) = kernel() else { return };
        let inside = Scope::new("moves-runners").unwrap();
        let script = "echo 0 >\"$1\" && exec \"$2\" 16";
        let runners = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"])
            .args([inside.dir().join("cgroup.procs"), path("runners")])
            .spawn()
            .map(Killed)
            .unwrap();
        process::poll("the runners", PATIENCE, || {
            Ok(fs::read_to_string(inside.dir().join("cgroup.procs"))?
                .lines()
                .count()
                > 16)
        })
        .unwrap();
        let running = Record::cgroup(inside.path()).start();
        // Those of the whole machine, on which nobody else forks as fast.
        let forks = || -> u64 {
            let stat = fs::read_to_string("/proc/stat").unwrap();
            let line = stat
                .lines()
                .find_map(|line| line.strip_prefix("processes "));
            line.unwrap().parse().unwrap()
        };
        let before = forks();
        process::poll("5,000 forks", PATIENCE, || Ok(forks() >= before + 5000)).unwrap();
        let recorded = running.stop();
        drop(runners);
        let observation = recorded.observation.as_ref().unwrap();
        println!("armed after {:.1?}", recorded.armed_after);
        assert_eq!(observation.losses, [].into());
        // Had one no phase, it would have entered.
        assert_eq!(observation.entered_count, 0, "{:?}", observation.entered);
        assert_eq!(all(observation), x86_64(["fork", "exit", "wait4"]));
        assert_eq!(calls(observation, Phase::App), all(observation));
        assert_eq!(calls(observation, Phase::Runtime), [].into());
    }

    fn feed(command: &mut Command, list: &[(Arch, u32)]) -> Child {
        let work = tempfile::tempdir().unwrap();
        let file = work.path().join("list");
        fs::write(&file, numbers::encode(list)).unwrap();
        command.stdin(File::open(&file).unwrap()).spawn().unwrap()
    }
}
