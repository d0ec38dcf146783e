//! nginx: files small, large and absent, ranges, compression, keep-alive, ab, a reload, reopened logs, SIGQUIT.

use super::{Network, STEP, Server, ab, children, fetch, stop};
use crate::process;
use crate::{Bundle, rootfs};
use anyhow::{Context as _, Result, bail, ensure};

const PORT: u16 = 80;

pub(super) const DOES: &str = "files small, large, absent and forbidden, ranges, compression, bad requests, ab with and without keep-alive; \
    reload by SIGHUP, logs reopened by SIGUSR1, end by SIGQUIT";

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
    let url = format!("http://127.0.0.1:{PORT}/");
    ab(&network, &url, requests)?;
    reload(container)?;
    files(&network)?;
    container.kill(libc::SIGUSR1)?;
    ab(&network, &url, requests)?;
    stop(container, libc::SIGQUIT)
}

fn files(network: &Network) -> Result<()> {
    let get = |request: &str, status: u16, length: usize| -> Result<()> {
        let (got, body) = fetch(network, PORT, request)?;
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
        PORT,
        "GET /large.bin HTTP/1.1\r\nRange: bytes=0-9,100-109",
    )?;
    ensure!(status == 206, "two ranges: status {status}");
    let (status, body) = fetch(network, PORT, "GET / HTTP/1.1\r\nAccept-Encoding: gzip")?;
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
        let (status, _) = fetch(network, PORT, request)?;
        ensure!(
            status == expected,
            "{request:?}: status {status}, not {expected}"
        );
    }
    Ok(())
}

/// Reloads the configuration and waits until new workers have replaced the old ones.
fn reload(container: &impl Server) -> Result<()> {
    let old = children(container)?;
    if old.is_empty() {
        bail!("nginx has no workers");
    }
    container.kill(libc::SIGHUP)?;
    process::poll("nginx to replace its workers", STEP, || {
        let now = children(container)?;
        Ok(now.len() >= old.len() && now.is_disjoint(&old))
    })
    .with_context(|| container.log())
}
