//! nginx: files small, large and absent, ranges, compression, keep-alive, ab, a reload, reopened logs, SIGQUIT.

use super::{Network, STEP, Server, stop};
use crate::process;
use crate::{Bundle, rootfs};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};

const PORT: u16 = 80;

/// nginx with a master as root and two workers as www-data.
pub fn nginx_bundle() -> Result<Bundle> {
    let args = [
        "/usr/sbin/nginx",
        "-c",
        "/conf/nginx.conf",
        "-g",
        "daemon off;",
    ];
    Ok(Bundle::new(rootfs::nginx()?, args).tmpfs("/data"))
}

/// The whole load, from the first connection to the end by SIGQUIT; `requests` for each run of ab.
pub fn nginx(container: &mut impl Server, requests: u32) -> Result<()> {
    let network = Network::of(container)?;
    drop(network.connect_when_ready(container, PORT)?);
    files(&network)?;
    benchmark(&network, requests)?;
    reload(container)?;
    files(&network)?;
    container.kill(libc::SIGUSR1)?;
    benchmark(&network, requests)?;
    stop(container, libc::SIGQUIT)
}

fn files(network: &Network) -> Result<()> {
    let get = |request: &str, status: u16, length: usize| -> Result<()> {
        let (got, body) = fetch(network, request)?;
        ensure!(
            got == status && body == length,
            "{request:?}: status {got} with {body} bytes, not {status} with {length}"
        );
        Ok(())
    };
    let index = rootfs::NGINX_INDEX.len();
    get("GET / HTTP/1.1", 200, index)?;
    get("HEAD / HTTP/1.1", 200, 0)?;
    get("GET /large.bin HTTP/1.1", 200, rootfs::NGINX_LARGE)?;
    get("GET /large.bin HTTP/1.1\r\nRange: bytes=100-299", 206, 200)?;
    let (status, _) = fetch(
        network,
        "GET /large.bin HTTP/1.1\r\nRange: bytes=0-9,100-109",
    )?;
    ensure!(status == 206, "two ranges: status {status}");
    let (status, body) = fetch(network, "GET / HTTP/1.1\r\nAccept-Encoding: gzip")?;
    ensure!(
        status == 200 && body < index,
        "gzip: status {status} with {body} bytes"
    );
    for (request, expected) in [
        ("GET /absent HTTP/1.1", 404),
        ("GET /forbidden/ HTTP/1.1", 403),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("NONSENSE", 400),
    ] {
        let (status, _) = fetch(network, request)?;
        ensure!(
            status == expected,
            "{request:?}: status {status}, not {expected}"
        );
    }
    Ok(())
}

/// Status and length of the body of one request on a connection of its own.
fn fetch(network: &Network, request: &str) -> Result<(u16, usize)> {
    let mut stream = network.connect(PORT)?;
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

fn benchmark(network: &Network, requests: u32) -> Result<()> {
    let ab = process::need("ab", "apache2-utils")?;
    for options in [&["-c", "4"][..], &["-c", "4", "-k"]] {
        let mut command = network.command()?;
        command
            .arg(&ab)
            .args(["-q", "-n", &requests.to_string()])
            .args(options)
            .arg(format!("http://127.0.0.1:{PORT}/"));
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

/// Reloads the configuration and waits until new workers have replaced the old ones.
fn reload(container: &impl Server) -> Result<()> {
    let workers = || -> Result<BTreeSet<String>> {
        let procs = fs::read_to_string(container.cgroup_dir()?.join("cgroup.procs"))?;
        let master = container.pid()?.to_string();
        Ok(procs
            .lines()
            .filter(|pid| *pid != master)
            .map(Into::into)
            .collect())
    };
    let old = workers()?;
    if old.is_empty() {
        bail!("nginx has no workers");
    }
    container.kill(libc::SIGHUP)?;
    process::poll("nginx to replace its workers", STEP, || {
        let now = workers()?;
        Ok(now.len() >= old.len() && now.is_disjoint(&old))
    })
    .with_context(|| container.log())
}
