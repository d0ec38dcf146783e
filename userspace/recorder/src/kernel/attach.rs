//! The programs on their hooks.

use super::{Form, Kernel, KernelError, events::value, is_missing, map_error, program_error};
use aya::{
    Ebpf,
    programs::{
        BtfTracePoint, Iter, ProgramError, RawTracePoint, raw_trace_point::RawTracePointLinkId,
    },
};
use seccast_common::Blocked;
use std::{
    fs,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _},
};

/// Program and tracepoint of what every recording needs.
pub const LIFECYCLE: [(&str, &str); 4] = [
    ("cgroup_attach", "cgroup_attach_task"),
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
];

impl Kernel {
    /// Attaches what every recording needs.
    ///
    /// # Errors
    /// When a program does not load or attach.
    pub fn attach(&mut self) -> Result<(), KernelError> {
        for (program, tracepoint) in LIFECYCLE {
            let attached = self.attach_raw(program, tracepoint);
            // Before 5.15 there are no registers of a task that ends.
            if program == "process_exit" && attached.is_err() {
                self.attach_raw("plain_exit", tracepoint)?;
            } else {
                attached?;
            }
        }
        match self.attach_raw("vsyscall", "emulate_vsyscall") {
            // Built without CONFIG_X86_VSYSCALL_EMULATION, or for arm64: then there is no such call either.
            Err(error) if is_missing(&error) => {}
            attached => {
                attached?;
            }
        }
        self.attach_sys_enter()
    }

    fn attach_sys_enter(&mut self) -> Result<(), KernelError> {
        if let Some(btf) = &self.btf {
            let program: &mut BtfTracePoint = program(&mut self.ebpf, "sys_enter")?;
            match program.load("sys_enter", btf) {
                Ok(()) => {
                    program
                        .attach()
                        .map_err(|source| program_error("attach", "sys_enter", source))?;
                    self.form = Form::Fast;
                    return Ok(());
                }
                Err(source) => {
                    self.slow = Some(program_error("load", "sys_enter", source).brief());
                }
            }
        }
        self.attach_raw("sys_enter_raw", "sys_enter")?;
        Ok(())
    }

    fn attach_raw(
        &mut self,
        name: &'static str,
        tracepoint: &str,
    ) -> Result<RawTracePointLinkId, KernelError> {
        let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
        if program.fd().is_err() {
            program
                .load()
                .map_err(|source| program_error("load", name, source))?;
        }
        program
            .attach(tracepoint)
            .map_err(|source| program_error("attach", name, source))
    }

    fn detach_raw(
        &mut self,
        name: &'static str,
        link: RawTracePointLinkId,
    ) -> Result<(), KernelError> {
        let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
        program
            .detach(link)
            .map_err(|source| program_error("detach", name, source))
    }

    /// From now on every new cgroup gets a slot of its own at its first call.
    ///
    /// # Errors
    /// When the program does not attach.
    pub fn record_new(&mut self, on: bool) -> Result<(), KernelError> {
        match (on, self.mkdir_link.take()) {
            (true, None) => {
                self.mkdir_link = Some(self.attach_raw("cgroup_mkdir", "cgroup_mkdir")?)
            }
            (true, link) => self.mkdir_link = link,
            (false, Some(link)) => self.detach_raw("cgroup_mkdir", link)?,
            (false, None) => {}
        }
        self.record_new
            .set(0, u32::from(on), 0)
            .map_err(|source| map_error("RECORD_NEW", source))?;
        self.generation.bump();
        self.settle();
        Ok(())
    }

    /// Begins or ends to look for denied calls: exits without an enter. What begins under way does not know of the calls that
    /// threads are in: see [`Kernel::set_inside`].
    ///
    /// # Errors
    /// When a program does not attach.
    pub fn watch_denials(&mut self, on: bool) -> Result<(), KernelError> {
        match (on, self.denials.take()) {
            (true, None) => {
                let enter = self.attach_raw("inside", "sys_enter")?;
                let exit = self.attach_raw("sys_exit", "sys_exit")?;
                self.denials = Some([enter, exit]);
                self.set_watching(1)?;
            }
            (true, links) => self.denials = links,
            (false, Some([enter, exit])) => {
                self.set_watching(0)?;
                self.detach_raw("sys_exit", exit)?;
                self.detach_raw("inside", enter)?;
                self.settle();
                self.clear_inside();
            }
            (false, None) => {}
        }
        Ok(())
    }

    fn set_watching(&mut self, on: u32) -> Result<(), KernelError> {
        self.watching
            .set(0, on, 0)
            .map_err(|source| map_error("DENIALS", source))
    }

    /// What every task is blocked in, by the `tasks` iterator.
    ///
    /// # Errors
    /// When the kernel has no such iterator (5.8, 5.15 for registers).
    pub fn blocked(&mut self) -> Result<Vec<Blocked>, KernelError> {
        let btf = self
            .btf
            .as_ref()
            .ok_or(KernelError::Foreign { name: "BTF" })?;
        let program: &mut Iter = program(&mut self.ebpf, "tasks")?;
        if program.fd().is_err() {
            program
                .load("task", btf)
                .map_err(|source| program_error("load", "tasks", source))?;
        }
        let link = program
            .attach()
            .map_err(|source| program_error("attach", "tasks", source))?;
        let link = program
            .take_link(link)
            .map_err(|source| program_error("attach", "tasks", source))?;
        let io = |source| KernelError::Io {
            action: "reading the tasks iterator",
            source,
        };
        let mut file = link
            .into_file()
            .map_err(|error| io(io::Error::other(error)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        Ok(bytes
            .chunks_exact(size_of::<Blocked>())
            .filter_map(value)
            .collect())
    }

    /// Runs that the kernel skipped because the program was running on that CPU already (5.12+), over all programs.
    /// aya 0.14 does not expose the figure; fdinfo does.
    #[must_use]
    pub fn recursion_misses(&self) -> u64 {
        let fds = self
            .ebpf
            .programs()
            .filter_map(|(_, program)| program.fd().ok());
        let misses = |fd: &aya::programs::ProgramFd| {
            let info =
                fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
            info.lines()
                .find_map(|line| line.strip_prefix("recursion_misses:"))?
                .trim()
                .parse::<u64>()
                .ok()
        };
        fds.filter_map(misses).sum()
    }

    /// Instructions that the verifier saw in each loaded program (5.16+).
    #[must_use]
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        let count = |(name, program): (&str, &aya::programs::Program)| {
            Some((
                name.to_owned(),
                program.info().ok()?.verified_instruction_count()?,
            ))
        };
        self.ebpf.programs().filter_map(count).collect()
    }
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, KernelError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or(KernelError::Foreign { name })?;
    program
        .try_into()
        .map_err(|source| program_error("load", name, source))
}
