//! Real programs under real load: started, worked, reconfigured and stopped, each step checked.
//!
//! The clients stay outside the container's cgroup and enter only its network namespace, so that what is recorded
//! is the server alone.

mod nginx;
mod redis;

pub use nginx::{nginx, nginx_bundle};
pub use redis::{RedisClient, redis, redis_bundle, redis_ready};

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// Longest time for one step, on a busy machine too.
const STEP: Duration = Duration::from_secs(60);

/// A server in a container, whoever runs it, as its load sees it.
pub trait Server {
    /// The container's name.
    fn name(&self) -> &str;

    /// The pid of its first process on this machine; waits until it is known.
    fn pid(&self) -> Result<i32>;

    /// Its cgroup2 folder.
    fn cgroup_dir(&self) -> Result<PathBuf>;

    /// What it has printed.
    fn log(&self) -> String;

    /// How it ended, when it has and that is known.
    fn try_wait(&mut self) -> Result<Option<ExitStatus>>;

    /// Waits until it has ended; how, where that is known.
    fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>>;

    /// Sends a signal to its first process.
    fn kill(&self, signal: i32) -> Result<()> {
        crate::process::signal(self.pid()?, signal)
    }
}

/// The network namespace of a container.
#[derive(Debug)]
struct Network {
    path: PathBuf,
    file: File,
}

impl Network {
    fn of(container: &impl Server) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/{}/ns/net", container.pid()?));
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { path, file })
    }

    /// Connects to a port on the container's loopback.
    fn connect(&self, port: u16) -> Result<TcpStream> {
        let enter_and_connect = || -> Result<TcpStream> {
            // SAFETY: the descriptor is open; the call changes the network namespace of this thread alone.
            if unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error()).context("setns");
            }
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into();
            let stream = TcpStream::connect_timeout(&address, STEP)?;
            stream.set_read_timeout(Some(STEP))?;
            stream.set_write_timeout(Some(STEP))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        // The thread ends with the namespace that it has entered.
        std::thread::scope(|scope| match scope.spawn(enter_and_connect).join() {
            Ok(stream) => stream,
            Err(_) => bail!("the connecting thread panicked"),
        })
    }

    /// Connects as soon as the server listens; fails at once when the container has ended.
    fn connect_when_ready(&self, container: &mut impl Server, port: u16) -> Result<TcpStream> {
        let end = Instant::now() + STEP;
        loop {
            match self.connect(port) {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() > end => {
                    return Err(error).context("the server does not listen");
                }
                Err(_) => {}
            }
            if let Some(status) = container.try_wait()? {
                bail!(
                    "{} ended with {status} before it listened\n{}",
                    container.name(),
                    container.log()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A command in this namespace.
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(crate::process::need("nsenter", "util-linux")?);
        command
            .arg(format!("--net={}", self.path.display()))
            .arg("--");
        Ok(command)
    }
}

/// Sends the signal that ends a server and checks that it ended well.
fn stop(container: &mut impl Server, signal: i32) -> Result<()> {
    container.kill(signal)?;
    match container.wait(STEP)? {
        Some(status) if !status.success() => bail!(
            "{} ended with {status}\n{}",
            container.name(),
            container.log()
        ),
        _ => Ok(()),
    }
}
