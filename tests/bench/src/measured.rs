//! The measured process: a tight loop around the cheapest call that the kernel really makes.

use std::{
    io::{self, BufRead as _, Write as _},
    mem::MaybeUninit,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// How often a sample is taken again because the loop was interrupted by another task.
const AGAIN: u32 = 20;

/// Pins itself, with `denied` under a filter, then for each line `SAMPLES CALLS` makes that many samples of that many calls and answers with one
/// line: how many were disturbed to the end, then nanoseconds per call of each sample.
pub(crate) fn run(cpu: usize, denied: bool) -> Result<()> {
    pin(cpu)?;
    if denied {
        deny().context("cannot install the filter")?;
    }
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line.context("cannot read what to do")?;
        let mut words = line.split(' ').map(str::parse::<u32>);
        let (Some(Ok(samples)), Some(Ok(calls))) = (words.next(), words.next()) else {
            bail!("`{line}` is not SAMPLES CALLS");
        };
        // Before and after: a real-time task is not preempted by others, but may not run all the time.
        let real_time = schedule(libc::SCHED_FIFO, 1);
        let mut disturbed = 0;
        let mut answer = String::new();
        for _ in 0..samples {
            let (took, quiet) = sample(calls);
            disturbed += u32::from(!quiet);
            answer.push_str(&format!(" {took:.3}"));
        }
        if real_time {
            schedule(libc::SCHED_OTHER, 0);
        }
        writeln!(out, "{disturbed}{answer}")
            .and_then(|()| out.flush())
            .context("cannot answer")?;
    }
    Ok(())
}

/// From now on the measured call is denied.
fn deny() -> io::Result<()> {
    let nr = u32::try_from(libc::SYS_getppid).map_err(io::Error::other)?;
    let rows = [
        (0x20, 0, 0, 0),           // load the number
        (0x15, 0, 1, nr),          // the measured one?
        (0x06, 0, 0, 0x0005_0001), // errno 1
        (0x06, 0, 0, 0x7fff_0000), // allow
    ];
    let mut filter = rows.map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Nanoseconds per call, and whether nothing else ran on this CPU meanwhile.
fn sample(calls: u32) -> (f64, bool) {
    let mut took = f64::MAX;
    for _ in 0..AGAIN {
        let before = preemptions();
        took = time(calls);
        if preemptions() == before {
            return (took, true);
        }
    }
    (took, false)
}

fn time(calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        // SAFETY: the call has no argument. Through `syscall`, as a C library could answer by itself.
        let _ = unsafe { libc::syscall(libc::SYS_getppid) };
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// How often this thread was preempted.
fn preemptions() -> libc::c_long {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: a valid buffer; zeros are a value of it, should the call fail.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_nivcsw
    }
}

fn schedule(policy: i32, priority: i32) -> bool {
    // SAFETY: zeros are a value of this structure.
    let mut parameters: libc::sched_param = unsafe { MaybeUninit::zeroed().assume_init() };
    parameters.sched_priority = priority;
    // SAFETY: a valid pointer to a local. Where it is refused, samples are only disturbed more often.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

/// Binds this thread to a CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    // SAFETY: an empty set is a value of it; `CPU_SET` checks its index.
    let set = unsafe {
        let mut set: libc::cpu_set_t = MaybeUninit::zeroed().assume_init();
        libc::CPU_SET(cpu, &mut set);
        set
    };
    // SAFETY: a valid pointer and its size.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("cannot run on CPU {cpu}"));
    }
    Ok(())
}
