//! A witness that is not seccast: counts what a filter denied, by bpftrace.
//!
//! A call that a filter denies never reaches `sys_enter`, but it reaches `sys_exit`. So every exit without an enter of the
//! same task is a denial, but for these, which the script leaves out:
//!
//! - the child's return from clone, fork, vfork and clone3: an exit with 0 that never entered;
//! - a thread that is not the first and executes a program: it enters under its own id and returns under the first one's;
//! - calls in flight when the witness attached: it is started before the container, so that there are none.
//!
//! rt_sigreturn exits as -1 and an exec into a 32-bit program as 11, but both have entered, and the pairs are told by
//! the task and not by the number. Tasks are followed on the whole machine, since a task is inside a call when it is moved
//! into a group; only denials are counted by group.

use crate::cgroup::{self, Scope};
use crate::process;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Calls whose child returns without having entered, and execs: they return 0, which no denial of ours does.
#[cfg(target_arch = "x86_64")]
const ENTERLESS: &[i64] = &[56, 57, 58, 435, 59, 322, 2, 11, 120, 190];
#[cfg(not(target_arch = "x86_64"))]
const ENTERLESS: &[i64] = &[220, 435, 221, 281];

/// Counts denials in the groups of a scope while it lives.
#[derive(Debug)]
pub struct Witness {
    bpftrace: Child,
    lines: Receiver<String>,
    /// The folder and id of the group; without one every group counts.
    scope: Option<(PathBuf, u64)>,
    numbers: Numbers,
    errors: Option<std::process::ChildStderr>,
}

/// Two call numbers that no kernel knows and no other witness on the machine uses: the script answers them.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// Seen by both halves of the script, so it is attached.
    ping: u32,
    /// Prints and clears what was counted.
    take: u32,
}

impl Numbers {
    fn new() -> Self {
        // Keyed with random numbers; the value is below the bit that x32 calls have.
        let random = RandomState::new().hash_one(std::process::id());
        let ping = 100_000 + u32::try_from(random % 0x1000_0000).unwrap_or_default() * 2;
        Self {
            ping,
            take: ping + 1,
        }
    }
}

/// What a witness saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Testimony {
    /// Denied calls.
    pub denials: Vec<Denial>,
    /// Processes that a filter killed.
    pub killed: Vec<Killed>,
}

/// One task's denied calls of one number with one result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The cgroup2 id of its group.
    pub cgroup: u64,
    /// Its process.
    pub pid: i32,
    /// The number as the kernel reported it, in the ABI of the call.
    pub nr: i64,
    /// What it got: a negative errno, or the number itself where the filter killed it.
    pub result: i64,
    /// Its name.
    pub comm: String,
    /// How often.
    pub count: u64,
}

/// One task that ended by SIGSYS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killed {
    /// The cgroup2 id of its group.
    pub cgroup: u64,
    /// Its process.
    pub pid: i32,
    /// Its name.
    pub comm: String,
}

impl Witness {
    /// Attaches to the whole machine and counts for the groups up to two levels below `scope`.
    ///
    /// Returns when it has seen a pair of its own, so everything from here on is counted.
    pub fn attach(scope: &Scope) -> Result<Self> {
        Self::start(Some((scope.dir(), scope.id())))
    }

    /// The same for every group of the machine: others' denials are among them, told by their names.
    pub fn attach_everywhere() -> Result<Self> {
        Self::start(None)
    }

    fn start(scope: Option<(PathBuf, u64)>) -> Result<Self> {
        let program = process::need("bpftrace", "bpftrace")?;
        let numbers = Numbers::new();
        let setpriv = process::need("setpriv", "util-linux")?;
        let unshare = process::need("unshare", "util-linux")?;
        // tracefs is often not mounted; mounted here it is seen by no one else.
        let shell = "[ -e /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing || exit 9
                     exec \"$0\" \"$@\"";
        // A test that is killed takes its witness with it: an orphan would slow every call of the machine, and hold whatever
        // lock the test was started under.
        let mut bpftrace = Command::new(setpriv)
            .args(["--pdeathsig", "KILL"])
            .arg(unshare)
            .args(["--mount", "--propagation", "private", "sh", "-c", shell])
            .arg(program)
            .args(["-f", "json", "-e"])
            .arg(script(scope.as_ref().map(|(_, id)| *id), numbers))
            .env("BPFTRACE_MAP_KEYS_MAX", "65536")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start bpftrace")?;
        let stdout = bpftrace.stdout.take().context("no standard output")?;
        let errors = bpftrace.stderr.take();
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut witness = Self {
            bpftrace,
            lines,
            scope,
            numbers,
            errors,
        };
        witness
            .ping(numbers.ping, "ready")
            .context("bpftrace did not attach")?;
        Ok(witness)
    }

    /// What it has counted since it attached or since the last call; proves at the same time that it is still attached.
    ///
    /// To be called when nothing runs in the scope: what is denied while the counts are read is lost.
    pub fn take(&mut self) -> Result<Testimony> {
        if let Some((dir, id)) = &self.scope {
            ensure!(
                cgroup::id(dir).is_ok_and(|now| now == *id),
                "{} was removed meanwhile: what ran in it was not seen",
                dir.display()
            );
        }
        let mut testimony = Testimony::default();
        for line in self.ping(self.numbers.take, "taken")? {
            let Ok(line) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            ensure!(
                line["type"] != "lost_events",
                "bpftrace lost events: {line}"
            );
            let Some(maps) = line["data"].as_object().filter(|_| line["type"] == "map") else {
                continue;
            };
            for (name, entries) in maps {
                for (key, count) in entries.as_object().into_iter().flatten() {
                    testimony
                        .add(name, key, count)
                        .with_context(|| format!("bpftrace printed {line}"))?;
                }
            }
        }
        testimony
            .denials
            .sort_by_key(|denial| (denial.cgroup, denial.nr, denial.pid));
        testimony
            .killed
            .sort_by_key(|killed| (killed.cgroup, killed.pid));
        Ok(testimony)
    }

    /// Makes a call that the script answers, until it does; returns the lines before the answer.
    fn ping(&mut self, nr: u32, answer: &str) -> Result<Vec<String>> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut before = Vec::new();
        let mut called = false;
        while Instant::now() < end {
            // Until the script is attached no call is seen; after that, one is enough.
            if !called || nr == self.numbers.ping {
                // SAFETY: no kernel has a call of this number, so it has no effect.
                unsafe { libc::syscall(nr.into()) };
                called = true;
            }
            match self.lines.recv_timeout(Duration::from_millis(20)) {
                Ok(line) if is_printf(&line, answer) => return Ok(before),
                Ok(line) if is_printf(&line, "ready") => {}
                Ok(line) => before.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = self.bpftrace.kill();
        let status = self.bpftrace.wait()?;
        let mut errors = String::new();
        if let Some(stderr) = &mut self.errors {
            stderr.take(1 << 16).read_to_string(&mut errors)?;
        }
        bail!("no answer from bpftrace ({status})\n{errors}")
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.bpftrace.kill();
        let _ = self.bpftrace.wait();
    }
}

impl Testimony {
    fn add(&mut self, map: &str, key: &str, count: &Value) -> Result<()> {
        match map {
            "@denied" => {
                let mut parts = key.splitn(5, ',');
                let mut number =
                    || -> Result<i64> { Ok(parts.next().context("short key")?.trim().parse()?) };
                let (cgroup, pid, nr, result) = (number()?, number()?, number()?, number()?);
                self.denials.push(Denial {
                    cgroup: cgroup.cast_unsigned(),
                    pid: pid.try_into()?,
                    nr,
                    result,
                    comm: parts.next().unwrap_or_default().into(),
                    count: count.as_u64().context("count")?,
                });
            }
            "@killed" => {
                let mut parts = key.splitn(3, ',');
                let mut number =
                    || -> Result<i64> { Ok(parts.next().context("short key")?.trim().parse()?) };
                let (cgroup, pid) = (number()?.cast_unsigned(), number()?.try_into()?);
                self.killed.push(Killed {
                    cgroup,
                    pid,
                    comm: parts.next().unwrap_or_default().into(),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Denied calls in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.denials.iter().map(|denial| denial.count).sum()
    }
}

impl fmt::Display for Testimony {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} denied, {} killed", self.count(), self.killed.len())?;
        for Denial {
            cgroup,
            pid,
            nr,
            result,
            comm,
            count,
        } in &self.denials
        {
            writeln!(
                f,
                "  cgroup {cgroup}: {comm} ({pid}): call {nr} = {result}, {count} times"
            )?;
        }
        for Killed { cgroup, pid, comm } in &self.killed {
            writeln!(f, "  cgroup {cgroup}: {comm} ({pid}): killed by SIGSYS")?;
        }
        Ok(())
    }
}

fn is_printf(line: &str, text: &str) -> bool {
    line.contains("\"printf\"") && line.contains(text)
}

fn script(scope: Option<u64>, Numbers { ping, take }: Numbers) -> String {
    let enterless: Vec<String> = ENTERLESS
        .iter()
        .map(|nr| format!("args->id == {nr}"))
        .collect();
    let enterless = enterless.join(" || ");
    // Each step is cast: bpftrace 0.17 does not find the fields of a struct that it reached through a variable otherwise.
    let groups = "
        $c0 = (struct cgroup *)curtask->cgroups->dfl_cgrp;
        $k0 = (struct kernfs_node *)$c0->kn;
        $s1 = (struct cgroup_subsys_state *)$c0->self.parent;
        $c1 = (struct cgroup *)$s1->cgroup;
        $k1 = (struct kernfs_node *)$c1->kn;
        $s2 = (struct cgroup_subsys_state *)$c1->self.parent;
        $c2 = (struct cgroup *)$s2->cgroup;
        $k2 = (struct kernfs_node *)$c2->kn;";
    let inside = scope.map_or_else(
        || "(1 == 1)".to_owned(),
        |scope| format!("($k0->id == {scope} || $k1->id == {scope} || $k2->id == {scope})"),
    );
    format!(
        r#"
tracepoint:raw_syscalls:sys_enter {{ @inside[tid] = (uint64)1; }}
tracepoint:raw_syscalls:sys_exit {{
    if (@inside[tid] == 1) {{
        delete(@inside[tid]);
        if (args->id == {ping}) {{ printf("ready\n"); }}
        if (args->id == {take}) {{
            print(@denied); print(@killed);
            printf("taken\n");
            clear(@denied); clear(@killed);
        }}
    }} else {{{groups}
        if ({inside}) {{
            if (args->ret != 0 || !({enterless})) {{
                @denied[$k0->id, pid, args->id, args->ret, comm] = count();
            }}
        }}
    }}
}}
tracepoint:sched:sched_process_exit {{
    delete(@inside[tid]);
    if ((curtask->exit_code & 0x7f) == 31) {{{groups}
        if ({inside}) {{ @killed[$k0->id, pid, comm] = count(); }}
    }}
}}
END {{ clear(@inside); }}
"#
    )
}
