//! Real programs under real load: started, worked, reconfigured and stopped, each step checked.
//!
//! The clients stay outside the container's cgroup and enter only its network namespace, so that what is recorded
//! is the server alone.

mod haproxy;
mod mariadb;
mod memcached;
mod nginx;
mod postgresql;
mod redis;

pub use haproxy::{haproxy, haproxy_bundle};
pub use mariadb::{mariadb, mariadb_bundle};
pub use memcached::{memcached, memcached_bundle};
pub use nginx::{nginx, nginx_bundle};
pub use postgresql::{postgresql, postgresql_bundle};
pub use redis::{RedisClient, redis, redis_bundle, redis_ready};

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::process::{self, Output};
use crate::{Bundle, Container, rootfs};

/// A real server with its load.
#[derive(Clone, Copy, Debug)]
pub struct App {
    /// Its name.
    pub name: &'static str,
    /// The Debian package that has its program.
    pub package: &'static str,
    /// Its root file system, from the cache or made now.
    pub rootfs: fn() -> Result<PathBuf>,
    /// How it is started.
    pub bundle: fn() -> Result<Bundle>,
    /// The whole load, from the first connection to a clean end; the number is that of requests to each benchmark in it.
    pub load: fn(&mut Container, u32) -> Result<()>,
    /// What the load does, for a reader.
    pub does: &'static str,
}

/// Every server that has a load.
pub const APPS: [App; 6] = [
    App {
        name: "redis",
        package: "redis-server",
        rootfs: rootfs::redis,
        bundle: redis_bundle,
        load: redis,
        does: redis::DOES,
    },
    App {
        name: "nginx",
        package: "nginx",
        rootfs: rootfs::nginx,
        bundle: nginx_bundle,
        load: nginx,
        does: nginx::DOES,
    },
    App {
        name: "memcached",
        package: "memcached",
        rootfs: rootfs::memcached,
        bundle: memcached_bundle,
        load: memcached,
        does: memcached::DOES,
    },
    App {
        name: "postgresql",
        package: "postgresql-15",
        rootfs: rootfs::postgresql,
        bundle: postgresql_bundle,
        load: postgresql,
        does: postgresql::DOES,
    },
    App {
        name: "haproxy",
        package: "haproxy",
        rootfs: rootfs::haproxy,
        bundle: haproxy_bundle,
        load: haproxy,
        does: haproxy::DOES,
    },
    App {
        name: "mariadb",
        package: "mariadb-server-core",
        rootfs: rootfs::mariadb,
        bundle: mariadb_bundle,
        load: mariadb,
        does: mariadb::DOES,
    },
];

/// Checks the answers to statements; each ends with a line of two dashes.
fn answered(statements: &[(&str, &str)], answers: &str) -> Result<()> {
    let mut answers = answers.split("--\n");
    for (sql, expected) in statements {
        let answer = answers.next().unwrap_or_default().trim_end();
        ensure!(
            answer == *expected,
            "{sql}: expected {expected:?}, got {answer:?}"
        );
    }
    Ok(())
}

/// Longest time for one step, on a machine with other loads and busy loops beside it too.
const STEP: Duration = Duration::from_secs(300);

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
        process::signal(self.pid()?, signal)
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

    /// Does something in this namespace, on a thread that ends with it.
    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let enter_and_work = || {
            // SAFETY: the descriptor is open; the call changes the network namespace of this thread alone.
            if unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error()).context("setns");
            }
            work()
        };
        std::thread::scope(|scope| match scope.spawn(enter_and_work).join() {
            Ok(done) => done,
            Err(_) => bail!("the thread in the container's network panicked"),
        })
    }

    /// Connects to a port on the container's loopback.
    fn connect(&self, port: u16) -> Result<TcpStream> {
        self.inside(|| {
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into();
            let stream = TcpStream::connect_timeout(&address, STEP)?;
            stream.set_read_timeout(Some(STEP))?;
            stream.set_write_timeout(Some(STEP))?;
            stream.set_nodelay(true)?;
            Ok(stream)
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

/// Client programs of the container's own files: in its mount and network namespaces, outside of its cgroup and its filter.
#[derive(Debug)]
struct Clients {
    pid: i32,
    user: u32,
}

impl Clients {
    fn of(container: &impl Server, user: u32) -> Result<Self> {
        Ok(Self {
            pid: container.pid()?,
            user,
        })
    }

    /// A command line in the container, as this user.
    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(process::need("nsenter", "util-linux")?);
        command
            .args(["--mount", "--net", "--target", &self.pid.to_string()])
            .args(["--setuid", &self.user.to_string()])
            .args(["--setgid", &self.user.to_string(), "--"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        Ok(command)
    }

    /// Runs it to its end, which has to be a good one.
    fn run(&self, words: &[&str]) -> Result<Output> {
        process::check(&mut self.command(words)?, STEP)
    }
}

/// Status and length of the body of one request on a connection of its own.
fn fetch(network: &Network, port: u16, request: &str) -> Result<(u16, usize)> {
    let mut stream = network.connect(port)?;
    let request = match request.split_once("\r\n\r\n") {
        Some((head, body)) => {
            format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n{body}")
        }
        None => format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    };
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    stream
        .read_to_end(&mut reply)
        .with_context(|| request.clone())?;
    let end = reply
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("a reply without an end of its head")?;
    let head = String::from_utf8_lossy(&reply[..end]);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((
        status.with_context(|| format!("no status in {head}"))?,
        reply.len() - end - 4,
    ))
}

/// Requests of one file by ab, on connections of their own and on kept ones; each has to be answered with 200.
fn ab(network: &Network, url: &str, requests: u32) -> Result<()> {
    let ab = process::need("ab", "apache2-utils")?;
    for options in [&["-c", "4"][..], &["-c", "4", "-k"]] {
        let mut command = network.command()?;
        command
            .arg(&ab)
            .args(["-q", "-n", &requests.to_string()])
            .args(options)
            .arg(url);
        let output = process::check(&mut command, STEP)?.stdout;
        let number = |name: &str| -> Option<u32> {
            output
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.trim().parse().ok())
        };
        let seen = (
            number("Complete requests:"),
            number("Failed requests:"),
            number("Non-2xx responses:"),
        );
        ensure!(
            seen == (Some(requests), Some(0), None),
            "ab: {seen:?}\n{output}"
        );
    }
    Ok(())
}

/// The processes of a container but its first.
fn children(container: &impl Server) -> Result<BTreeSet<String>> {
    let procs = fs::read_to_string(container.cgroup_dir()?.join("cgroup.procs"))?;
    let first = container.pid()?.to_string();
    let others = procs.lines().filter(|pid| *pid != first);
    Ok(others.map(Into::into).collect())
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
