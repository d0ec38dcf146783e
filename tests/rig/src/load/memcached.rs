//! memcached: every command of the text, meta and binary protocols, eviction, crawlers, many connections, SIGHUP, SIGTERM.

use super::{Network, STEP, Server, stop};
use crate::process;
use crate::{Bundle, rootfs};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

const PORT: u16 = 11211;

/// How many connections the benchmark has.
const CONNECTIONS: u32 = 5;

pub(super) const DOES: &str = "every command of the text, meta and binary protocols, values too large, eviction and crawlers, a watcher, \
    connections at the same time; SIGHUP, end by SIGTERM. It saves nothing";

/// memcached as Debian's service starts it, as root who becomes memcache, with so little memory that it has to evict.
pub fn memcached_bundle() -> Result<Bundle> {
    let args = "/usr/bin/memcached -m 8 -p 11211 -u memcache -l 127.0.0.1 -P /run/memcached.pid";
    Ok(Bundle::new(rootfs::memcached()?, args.split(' ')).tmpfs("/run"))
}

/// The whole load, from the first connection to the end by SIGTERM; `requests` for each connection of a benchmark.
pub fn memcached(container: &mut impl Server, requests: u32) -> Result<()> {
    let network = Network::of(container)?;
    let mut client = Client::new(network.connect_when_ready(container, PORT)?);
    text(&mut client)?;
    meta(&mut client)?;
    binary(&network)?;
    statistics(&mut client, &network)?;
    eviction(&mut client)?;
    benchmark(&network, requests)?;
    container.kill(libc::SIGHUP)?;
    client.expect("OK", "flush_all")?;
    client.expect("NOT_FOUND", "delete counter")?;
    drop(client);
    stop(container, libc::SIGTERM)
}

fn text(client: &mut Client) -> Result<()> {
    client.expect("STORED", "set key 7 0 5\r\nvalue")?;
    client.expect("VALUE key 7 5\nvalue\nEND", "get key")?;
    client.expect("NOT_STORED", "add key 0 0 1\r\nx")?;
    client.expect("STORED", "replace key 0 0 1\r\nb")?;
    client.expect("STORED", "append key 0 0 1\r\nc")?;
    client.expect("STORED", "prepend key 0 0 1\r\na")?;
    client.expect("VALUE key 0 3\nabc\nEND", "get key absent")?;
    let reply = client.call("gets key")?;
    let unique = reply.lines().next().and_then(|line| line.split(' ').nth(4));
    let unique = unique.with_context(|| format!("gets: {reply}"))?.to_owned();
    client.expect("STORED", &format!("cas key 0 0 3 {unique}\r\nnew"))?;
    client.expect("EXISTS", &format!("cas key 0 0 3 {unique}\r\nold"))?;
    client.expect("STORED", "set counter 0 0 2\r\n41")?;
    client.expect("42", "incr counter 1")?;
    client.expect("40", "decr counter 2")?;
    client.expect("TOUCHED", "touch counter 100")?;
    client.expect("VALUE counter 0 2\n40\nEND", "gat 100 counter")?;
    client.expect("STORED", "set short 0 1 1\r\nx")?;
    client.expect("DELETED", "delete key")?;
    client.expect("ERROR", "no-such-command")?;
    client.expect("OK", "verbosity 0")?;
    let large = "x".repeat(1 << 19);
    client.expect(
        "STORED",
        &format!("set large 0 0 {}\r\n{large}", large.len()),
    )?;
    let reply = client.call("get large")?;
    ensure!(reply.contains(&large), "a large value came back changed");
    let huge = "x".repeat(2 << 20);
    client.expect(
        "SERVER_ERROR object too large for cache",
        &format!("set huge 0 0 {}\r\n{huge}", huge.len()),
    )
}

fn meta(client: &mut Client) -> Result<()> {
    client.expect("HD", "ms meta 2 T90\r\nhi")?;
    client.expect("VA 2 s2\nhi", "mg meta s v")?;
    client.expect("HD", "ma counter")?;
    client.expect("HD", "md meta")?;
    client.expect("EN", "mg meta v")?;
    client.expect("MN", "mn")
}

/// A request of the old binary protocol: noop, set, get, version, quit.
fn binary(network: &Network) -> Result<()> {
    let mut stream = network.connect(PORT)?;
    let mut call =
        |opcode: u8, extras: &[u8], key: &[u8], value: &[u8]| -> Result<(u16, Vec<u8>)> {
            let length = u32::try_from(extras.len() + key.len() + value.len())?;
            let mut request = vec![0x80, opcode];
            request.extend(u16::try_from(key.len())?.to_be_bytes());
            request.extend([u8::try_from(extras.len())?, 0, 0, 0]);
            request.extend(length.to_be_bytes());
            request.extend([0; 12]);
            request.extend([extras, key, value].concat());
            stream.write_all(&request)?;
            let mut head = [0; 24];
            stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
            let mut body = vec![0; usize::try_from(length)?];
            stream.read_exact(&mut body)?;
            Ok((u16::from_be_bytes([head[6], head[7]]), body))
        };
    for (opcode, extras, key, value, answer) in [
        (10, &[][..], &b""[..], &b""[..], &b""[..]),
        (1, &[0; 8], b"binary", b"packed", b""),
        (0, &[], b"binary", b"", b"\0\0\0\0packed"),
        (7, &[], b"", b"", b""),
    ] {
        let (status, body) = call(opcode, extras, key, value)?;
        ensure!(
            status == 0 && body == answer,
            "binary call {opcode}: status {status}, {body:?}"
        );
    }
    Ok(())
}

fn statistics(client: &mut Client, network: &Network) -> Result<()> {
    for of in ["", " settings", " items", " slabs", " conns", " sizes"] {
        let reply = client.call(&format!("stats{of}"))?;
        ensure!(reply.starts_with("STAT "), "stats{of}: {reply}");
    }
    client.expect("RESET", "stats reset")?;
    client.expect("OK", "slabs automove 1")?;
    client.expect("OK", "cache_memlimit 16")?;
    // memcached's own maintenance may be crawling, which answers BUSY.
    process::poll("the crawler to begin", STEP, || {
        Ok(client.call("lru_crawler crawl all")? == "OK")
    })?;
    process::poll("the crawler to end", STEP, || {
        Ok(client.call("lru_crawler metadump all")?.ends_with("END"))
    })?;
    let mut watcher = Client::new(network.connect(PORT)?);
    watcher.expect("OK", "watch mutations")?;
    client.expect("STORED", "set watched 0 0 1\r\nx")?;
    let seen = watcher.line()?;
    ensure!(
        seen.contains("key=watched"),
        "the watcher got something else: {seen}"
    );
    Ok(())
}

/// More than there is memory for.
fn eviction(client: &mut Client) -> Result<()> {
    let value = "x".repeat(10_000);
    for n in 0..2_500 {
        client.expect("STORED", &format!("set fill-{n} 0 0 10000\r\n{value}"))?;
    }
    let statistics = client.call("stats")?;
    let evicted = statistics
        .lines()
        .find_map(|line| line.strip_prefix("STAT evictions "));
    ensure!(
        evicted.is_some_and(|count| count != "0"),
        "nothing was evicted:\n{statistics}"
    );
    client.expect("END", "get fill-0")
}

fn benchmark(network: &Network, requests: u32) -> Result<()> {
    let client = |number: u32| -> Result<()> {
        let mut client = Client::new(network.connect(PORT)?);
        for n in 0..requests {
            let (key, value) = (format!("key-{number}-{n}"), format!("{n:08}"));
            client.expect("STORED", &format!("set {key} 0 0 8\r\n{value}"))?;
            client.expect(
                &format!("VALUE {key} 0 8\n{value}\nEND"),
                &format!("get {key}"),
            )?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..CONNECTIONS)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        for one in all {
            match one.join() {
                Ok(done) => done?,
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(())
    })
}

/// One connection that speaks text.
#[derive(Debug)]
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends one command and returns its reply: lines and values, joined by line feeds.
    fn call(&mut self, command: &str) -> Result<String> {
        let name = &command[..command.len().min(40)];
        let stream = self.stream.get_mut();
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .with_context(|| name.to_owned())?;
        self.reply().with_context(|| name.to_owned())
    }

    fn expect(&mut self, expected: &str, command: &str) -> Result<()> {
        let reply = self.call(command)?;
        ensure!(
            reply == expected,
            "{}: expected {expected:?}, got {:?}",
            &command[..command.len().min(40)],
            &reply[..reply.len().min(200)]
        );
        Ok(())
    }

    /// Values and statistics end with `END`, everything else with its first line.
    fn reply(&mut self) -> Result<String> {
        let mut reply = String::new();
        loop {
            let line = self.line()?;
            let mut words = line.split(' ');
            let (more, length) = match words.next() {
                Some("VALUE") => (true, words.nth(2)),
                Some("VA") => (false, words.next()),
                Some(word) => (word == "STAT" || word.starts_with("key="), None),
                None => (false, None),
            };
            reply.push_str(&line);
            if let Some(length) = length {
                let length: usize = length.parse().with_context(|| line.clone())?;
                ensure!(length <= 16 << 20, "a value of {length} bytes");
                let mut value = vec![0; length + 2];
                self.stream.read_exact(&mut value)?;
                value.truncate(length);
                reply.push('\n');
                reply.push_str(&String::from_utf8_lossy(&value));
            }
            if !more {
                return Ok(reply);
            }
            reply.push('\n');
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}
