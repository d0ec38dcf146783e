//! A command of the user's, started in a cgroup of its own.

use crate::{
    cgroup::{Cgroup, CgroupError, Hierarchy},
    proc,
};
use seccast_model::{Filter, filter::Instruction};
use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, ExitStatus},
    str::FromStr,
    time::Duration,
};

/// Who a command runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// As sudo and its like name users: a name, an id, or `#` and an id. `None` where /etc/passwd does not know it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let id = name.strip_prefix('#').unwrap_or(name);
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        passwd.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let (uid, gid) = (fields.get(2)?, fields.get(3)?);
            (fields.first() == Some(&name) || *uid == id)
                .then(|| {
                    Some(Self {
                        uid: uid.parse().ok()?,
                        gid: gid.parse().ok()?,
                    })
                })
                .flatten()
        })
    }
}

impl FromStr for User {
    type Err = String;

    /// `UID:GID`, or `UID` with the group that /etc/passwd gives it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            part.parse::<u32>()
                .map_err(|_| format!("`{part}` is no number; write UID or UID:GID"))
        };
        match text.split_once(':') {
            Some((uid, gid)) => Ok(Self {
                uid: number(uid)?,
                gid: number(gid)?,
            }),
            None => {
                let uid = number(text)?;
                let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
                let entry = passwd
                    .lines()
                    .map(|line| line.split(':').collect::<Vec<_>>())
                    .find(|fields| fields.get(2) == Some(&text));
                let gid = entry.and_then(|fields| fields.get(3)?.parse().ok());
                gid.map(|gid| Self { uid, gid })
                    .ok_or_else(|| format!("user {uid} is not in /etc/passwd; write UID:GID"))
            }
        }
    }
}

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Its cgroup cannot be made or entered.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// No such file.
    #[error("{program}: not found")]
    NotFound {
        /// As it was given.
        program: String,
    },
    /// The kernel does not take its filter.
    #[error(
        "cannot install the seccomp filter of {instructions} instructions for {program}; the kernel takes up to 4,096, and seccast's own \
         filter, where it runs under one, must allow seccomp(2)"
    )]
    Filter {
        /// As it was given.
        program: String,
        /// How long the filter is.
        instructions: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is there and cannot be executed.
    #[error("cannot execute {program}")]
    NotExecutable {
        /// As it was given.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl CommandError {
    pub(crate) fn not_executed(program: String, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { program },
            _ => Self::NotExecutable { program, source },
        }
    }
}

/// Makes this process the user's, for good: of use in a child before it executes something.
pub(crate) fn become_user(User { uid, gid }: User) -> io::Result<()> {
    // SAFETY: async-signal-safe system calls without pointers but an empty list.
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) != 0
            || libc::setgid(gid) != 0
            || libc::setuid(uid) != 0
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Puts this process under a filter, for good: of use in a child right before it executes something.
///
/// Without CAP_SYS_ADMIN the kernel asks for no_new_privs (seccomp(2)); under that, set-id programs get no privileges.
fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: async-signal-safe system calls; the kernel copies the program, which outlives them.
    let failed = || unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        ) != 0
    };
    if !failed() {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::EACCES) {
        return Err(error);
    }
    // SAFETY: no pointers.
    let no_new_privs = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if no_new_privs != 0 || failed() {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes a cgroup for a command, below the caller's own, so that its limits hold for the command as well, or else below the
/// root.
///
/// # Errors
/// When neither takes one that the command may be moved to: why its own does not.
pub fn cgroup(hierarchy: &Hierarchy) -> Result<Cgroup, CgroupError> {
    let name = format!("seccast-{}", std::process::id());
    let below = |parent: &str| {
        let parent = hierarchy.open(parent)?;
        // Both ends of the move lie below it, so that the kernel asks for the right to write there as well (cgroup2 delegation).
        parent.open_procs()?;
        hierarchy.create(&format!("{}/{name}", parent.path.trim_end_matches('/')))
    };
    let own = hierarchy
        .of_process(std::process::id())
        .map_or_else(|_| "/".to_owned(), |cgroup| cgroup.path);
    below(&own).or_else(|error| below("/").map_err(|_| error))
}

/// A running command.
pub struct Running {
    child: Child,
    cgroup: Option<Cgroup>,
}

impl Running {
    /// Starts `command` in `cgroup`, or where the caller is, optionally as another user. `filter` is installed last, so that the
    /// execve is the first call under it, or calls, where the PATH is searched. It sets no_new_privs only where CAP_SYS_ADMIN is
    /// missing, which `user` takes away.
    ///
    /// A filter that does not let the execve happen is no error: where it kills, the command ends by SIGSYS.
    ///
    /// # Errors
    /// When it cannot be executed, the cgroup cannot be entered, or the kernel refuses the filter.
    pub fn start(
        command: &[String],
        cgroup: Option<Cgroup>,
        user: Option<User>,
        filter: Option<&[libc::sock_filter]>,
    ) -> Result<Self, CommandError> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| CommandError::NotFound {
                program: String::new(),
            })?;
        let not_executed = |source| CommandError::not_executed(program.clone(), source);
        let mut procs = cgroup.as_ref().map(Cgroup::open_procs).transpose()?;
        let mut child = Command::new(program);
        child.args(arguments);
        // Of a child that does not execute only an errno comes back: whether the filter was refused is told here.
        let (mut refused, mut refuse) = io::pipe().map_err(&not_executed)?;
        let own = filter.map(<[_]>::to_vec);
        let enter = move || -> io::Result<()> {
            if let Some(procs) = &mut procs {
                procs.write_all(b"0")?;
            }
            user.map_or(Ok(()), become_user)?;
            own.as_deref().map_or(Ok(()), |filter| {
                install(filter).inspect_err(|_| drop(refuse.write_all(b"1")))
            })
        };
        // SAFETY: between fork and exec it writes to open files and makes system calls; it does not allocate.
        unsafe { child.pre_exec(enter) };
        let spawned = child.spawn();
        drop(child);
        match spawned {
            Ok(child) => Ok(Self { child, cgroup }),
            Err(source) if refused.read(&mut [0]).is_ok_and(|length| length == 1) => {
                Err(CommandError::Filter {
                    program: program.clone(),
                    instructions: filter.map_or(0, <[_]>::len),
                    source,
                })
            }
            Err(source) => Err(not_executed(source)),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, once it has ended.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: no pointers; the child is not reaped yet, so the id is its own.
            let _ = unsafe { libc::kill(pid, signal) };
        }
    }

    /// Kills everything in its cgroup, or it alone where it has none.
    pub fn kill(&self) {
        let Some(cgroup) = &self.cgroup else {
            return self.signal(libc::SIGKILL);
        };
        for pid in cgroup.processes() {
            if let Ok(pid) = i32::try_from(pid) {
                // SAFETY: no pointers.
                let _ = unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }

    /// Leaves nothing behind: what still runs moves back to where the caller is, and the cgroup goes. Returns the names of
    /// what still runs.
    #[must_use]
    pub fn leave(mut self, hierarchy: &Hierarchy) -> Vec<String> {
        let _ = self.child.try_wait();
        let left: Vec<_> = self.cgroup.iter().flat_map(Cgroup::processes).collect();
        if let Ok(home) = hierarchy.of_process(std::process::id()) {
            for pid in &left {
                let _ = home.add(*pid);
            }
        }
        left.into_iter()
            .filter_map(|pid| Some(format!("{} ({pid})", proc::comm(pid)?)))
            .collect()
    }
}

impl Drop for Running {
    /// After [`Running::leave`] only the cgroup is left; without it, a failure of the recorder's ends what it started.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.child.wait();
        }
        let Some(cgroup) = &self.cgroup else { return };
        self.kill();
        // A killed process leaves its cgroup a moment after it is gone.
        for _ in 0..50 {
            if cgroup.remove().is_ok() || !cgroup.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A filter as seccomp(2) takes it, for [`Running::start`].
#[must_use]
pub fn instructions(filter: &Filter) -> Vec<libc::sock_filter> {
    let instruction = |of: &Instruction| libc::sock_filter {
        code: of.code,
        jt: of.jt,
        jf: of.jf,
        k: of.k,
    };
    filter.instructions().iter().map(instruction).collect()
}

/// The exit code that a shell would show: 128+n for a signal.
#[must_use]
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}
