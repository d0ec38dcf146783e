//! haproxy: HTTP, HTTPS and TCP in front of two servers, servers that fail and come back, a reload by SIGUSR2 with the
//! listeners handed over, SIGUSR1.

use super::{Network, STEP, Server, ab, children, fetch, stop};
use crate::process;
use crate::{Bundle, rootfs};
use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const HTTP: u16 = 80;
const STREAM: u16 = 81;

/// The servers behind it; `haproxy.cfg` has the same.
const BACKENDS: [u16; 2] = [8001, 8002];

/// What they answer; long enough to be compressed.
const ANSWER: &str = include_str!("index.html");

pub(super) const DOES: &str = "HTTP, HTTPS and TCP to two servers, compression, refused requests, the commands of its socket, servers that \
    are taken out, fail and come back (503); reload by SIGUSR2 with a connection open, end by SIGUSR1";

/// haproxy as Debian's service starts it: a master as root, its workers as haproxy in an empty root.
pub fn haproxy_bundle() -> Result<Bundle> {
    let args = "/usr/sbin/haproxy -Ws -f /conf/haproxy.cfg -p /run/haproxy.pid -S /run/haproxy-master.sock";
    Ok(Bundle::new(rootfs::haproxy()?, args.split(' ')).tmpfs("/run"))
}

/// The whole load, from the first connection to the end by SIGUSR1; `requests` for each run of ab.
pub fn haproxy(container: &mut impl Server, requests: u32) -> Result<()> {
    let network = Network::of(container)?;
    let socket = PathBuf::from(format!("/proc/{}/root/run", container.pid()?));
    let backends = BACKENDS
        .iter()
        .map(|&port| Backend::start(&network, port))
        .collect::<Result<Vec<_>>>()?;
    drop(network.connect_when_ready(container, HTTP)?);
    let answers = |status| -> Result<()> {
        process::poll(&format!("haproxy to answer with {status}"), STEP, || {
            Ok(fetch(&network, HTTP, "GET / HTTP/1.1")?.0 == status)
        })
    };
    answers(200)?;
    requests_of_every_kind(&network)?;
    for url in ["http://127.0.0.1/", "https://127.0.0.1/"] {
        ab(&network, url, requests)?;
    }

    let admin = socket.join("haproxy.sock");
    for (command, says) in [
        ("show info", "Name: HAProxy"),
        ("show stat", "app,one"),
        ("show servers state", "two"),
        ("show table", ""),
        ("disable server app/one", ""),
        ("set maxconn global 100", ""),
        ("clear counters all", ""),
    ] {
        let reply = ask(&admin, command)?;
        ensure!(reply.contains(says), "{command}: {reply}");
    }
    ask(&admin, "disable server app/two")?;
    answers(503)?;
    ask(&admin, "enable server app/one; enable server app/two")?;
    answers(200)?;

    reload(container, &network)?;
    requests_of_every_kind(&network)?;
    let master = socket.join("haproxy-master.sock");
    // It executes itself when it reloads, and in that moment never answers whoever it has not accepted.
    let short = Duration::from_secs(5);
    process::poll("the master to answer again", STEP, || {
        let reply = ask_within(&master, "show proc", short);
        Ok(reply.is_ok_and(|reply| reply.contains("workers")))
    })?;
    ab(&network, "http://127.0.0.1/", requests)?;

    drop(backends);
    answers(503)?;
    let _again = Backend::start(&network, BACKENDS[1])?;
    answers(200)?;
    stop(container, libc::SIGUSR1)
}

fn requests_of_every_kind(network: &Network) -> Result<()> {
    let get = |request: &str| fetch(network, HTTP, request);
    let (status, plain) = get("GET / HTTP/1.1")?;
    ensure!(
        (status, plain) == (200, ANSWER.len()),
        "status {status} with {plain} bytes"
    );
    let (status, packed) = get("GET / HTTP/1.1\r\nAccept-Encoding: gzip")?;
    ensure!(
        status == 200 && packed < plain,
        "gzip: status {status} with {packed} bytes"
    );
    for (request, expected) in [
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 200),
        ("GET /forbidden/x HTTP/1.1", 403),
        ("GET /nowhere HTTP/1.1", 503),
        ("NONSENSE", 400),
    ] {
        let (status, _) = get(request)?;
        ensure!(
            status == expected,
            "{request:?}: status {status}, not {expected}"
        );
    }
    let (status, body) = fetch(network, STREAM, "GET / HTTP/1.1")?;
    ensure!(
        (status, body) == (200, ANSWER.len()),
        "as a stream: status {status} with {body} bytes"
    );
    Ok(())
}

/// New workers take over while the old one still serves a connection; it ends with that.
fn reload(container: &impl Server, network: &Network) -> Result<()> {
    let old = children(container)?;
    ensure!(!old.is_empty(), "haproxy has no worker");
    let mut kept = network.connect(STREAM)?;
    kept.write_all(b"GET / HTTP/1.1\r\n")?;
    container.kill(libc::SIGUSR2)?;
    process::poll("haproxy to start new workers", STEP, || {
        Ok(!children(container)?.is_subset(&old))
    })
    .with_context(|| container.log())?;
    kept.write_all(b"\r\n")?;
    let mut reply = String::new();
    kept.read_to_string(&mut reply)?;
    ensure!(
        reply.ends_with(ANSWER),
        "a connection from before the reload got {reply:?}"
    );
    drop(kept);
    process::poll("the old worker to end", STEP, || {
        Ok(children(container)?.is_disjoint(&old))
    })
    .with_context(|| container.log())
}

/// A command to one of its sockets.
fn ask(socket: &Path, command: &str) -> Result<String> {
    ask_within(socket, command, STEP)
}

fn ask_within(socket: &Path, command: &str, limit: Duration) -> Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut reply = String::new();
    stream
        .read_to_string(&mut reply)
        .with_context(|| command.to_owned())?;
    Ok(reply)
}

/// A web server of our own in the container's network, outside of its cgroup; gone when dropped.
#[derive(Debug)]
struct Backend {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    fn start(network: &Network, port: u16) -> Result<Self> {
        let listener = network.inside(|| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .with_context(|| format!("cannot listen at port {port}"))
        })?;
        listener.set_nonblocking(true)?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match listener.accept() {
                    // Whoever leaves early, as health checks do, is no error.
                    Ok((stream, _)) => drop(std::thread::spawn(|| answer(stream))),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Ok(Self {
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request, with its body.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(STEP))?;
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(("content-length", value)) = line.to_lowercase().trim().split_once(": ") {
            length = value.parse().unwrap_or_default();
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    stream.get_mut().write_all(reply.as_bytes())
}
