//! What was measured on, and what else ran there.

use std::{
    fs,
    mem::MaybeUninit,
    time::{Duration, Instant},
};

/// Lines that say what the machine is.
pub(crate) fn facts() -> Vec<String> {
    let info = read("/proc/cpuinfo");
    let field = |name: &str| {
        info.lines()
            .find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
            .unwrap_or_default()
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let virtual_machine = field("flags").split(' ').any(|flag| flag == "hypervisor");
    vec![
        format!("kernel {}", seccast_recorder::kernel_release()),
        format!(
            "{cpus} CPUs, {}{}",
            field("model name"),
            if virtual_machine {
                ", a virtual machine"
            } else {
                ""
            }
        ),
    ]
}

/// Settings of the kernel that falsify figures.
pub(crate) fn warnings() -> Vec<String> {
    let mut warnings = Vec::new();
    if number("/proc/sys/kernel/bpf_stats_enabled") == Some(1.0) {
        warnings.push(
            "kernel.bpf_stats_enabled is 1: every program costs two clock reads more".to_owned(),
        );
    }
    if number("/proc/sys/net/core/bpf_jit_enable") == Some(0.0) {
        warnings.push("net.core.bpf_jit_enable is 0: programs are interpreted".to_owned());
    }
    warnings
}

/// The load average of the last minute.
pub(crate) fn load() -> f64 {
    number("/proc/loadavg").unwrap_or_default()
}

/// CPUs that this process may run on.
pub(crate) fn cpus() -> Vec<usize> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a valid buffer and its size; zeros are a value of it. `CPU_ISSET` checks its index.
    unsafe {
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
        let set = set.assume_init();
        (0..libc::CPU_SETSIZE as usize)
            .filter(|cpu| libc::CPU_ISSET(*cpu, &set))
            .collect()
    }
}

/// Measures how many CPUs others keep busy.
pub(crate) struct Others {
    start: Instant,
    busy: Duration,
    own: Duration,
}

impl Others {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            busy: busy(),
            own: own(),
        }
    }

    /// CPUs that were busy with something else, on average since the start. Children count once they are reaped.
    pub(crate) fn cpus(&self) -> f64 {
        let busy = busy().saturating_sub(self.busy).as_secs_f64();
        let own = own().saturating_sub(self.own).as_secs_f64();
        ((busy - own) / self.start.elapsed().as_secs_f64()).max(0.0)
    }
}

/// Time that all CPUs were busy for (user, nice, system, irq, softirq, steal of /proc/stat).
fn busy() -> Duration {
    let text = read("/proc/stat");
    let mut ticks = 0;
    for (index, word) in text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .enumerate()
    {
        if [0, 1, 2, 5, 6, 7].contains(&index) {
            ticks += word.parse::<u64>().unwrap_or_default();
        }
    }
    // SAFETY: no argument is a pointer.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64)
}

/// Time that this process and its reaped children ran for.
fn own() -> Duration {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .into_iter()
        .map(|who| {
            let mut usage = MaybeUninit::<libc::rusage>::zeroed();
            // SAFETY: a valid buffer; zeros are a value of it, should the call fail.
            let usage = unsafe {
                libc::getrusage(who, usage.as_mut_ptr());
                usage.assume_init()
            };
            let time = |value: libc::timeval| {
                Duration::from_secs(value.tv_sec.unsigned_abs())
                    + Duration::from_micros(value.tv_usec.unsigned_abs())
            };
            time(usage.ru_utime) + time(usage.ru_stime)
        })
        .sum()
}

fn number(path: &str) -> Option<f64> {
    read(path).split_whitespace().next()?.parse().ok()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
