//! redis-server: every kind of command, snapshots, the append-only file, scripts, subscriptions, redis-benchmark, SIGTERM.

use super::{Network, STEP, Server, stop};
use crate::process;
use crate::{Bundle, rootfs};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

const PORT: u16 = 6379;

pub(super) const DOES: &str = "strings, lists, expiry, transactions, Lua, publish and subscribe, large values, CONFIG SET, redis-benchmark; \
    snapshots and the append-only file in every mode; end by SIGTERM with a last save";

/// The tests of redis-benchmark that are run.
const BENCHMARKS: &[&str] = &[
    "ping", "set", "get", "incr", "lpush", "rpush", "lpop", "rpop", "sadd", "hset", "spop", "zadd",
    "zpopmin", "mset",
];

/// redis-server as an unprivileged user with its data in memory.
pub fn redis_bundle() -> Result<Bundle> {
    // hz: how often the server looks after its children; at the default of 10 each snapshot would cost a tenth of a second.
    let args = "/usr/bin/redis-server --port 6379 --bind 127.0.0.1 --dir /data --hz 100 --dynamic-hz no --daemonize no";
    Ok(Bundle::new(rootfs::redis()?, args.split(' '))
        .user(999, 999)
        .tmpfs("/data"))
}

/// The whole load, from the first connection to the end by SIGTERM; `requests` for each test of redis-benchmark.
pub fn redis(container: &mut impl Server, requests: u32) -> Result<()> {
    let network = Network::of(container)?;
    let mut client = redis_ready(container)?;
    commands(&mut client, &network)?;
    benchmark(&network, requests)?;
    persistence(&mut client)?;
    drop(client);
    stop(container, libc::SIGTERM)?;
    let log = container.log();
    ensure!(
        log.contains("ready to exit, bye bye"),
        "redis did not say goodbye:\n{log}"
    );
    Ok(())
}

/// A connection to the server, as soon as it answers.
pub fn redis_ready(container: &mut impl Server) -> Result<RedisClient> {
    let network = Network::of(container)?;
    let mut client = RedisClient::new(network.connect_when_ready(container, PORT)?)?;
    client.expect("+PONG", &["PING"])?;
    Ok(client)
}

fn commands(client: &mut RedisClient, network: &Network) -> Result<()> {
    client.expect("+OK", &["SET", "key", "value"])?;
    client.expect("value", &["GET", "key"])?;
    client.expect("+OK", &["SET", "short", "lived", "PX", "1"])?;
    client.expect(":1", &["APPEND", "a", "b"])?;
    client.expect("+OK", &["MULTI"])?;
    client.expect("+QUEUED", &["INCR", "counter"])?;
    client.expect("[:1]", &["EXEC"])?;
    let script = "redis.call('set', KEYS[1], ARGV[1]); return redis.call('get', KEYS[1])";
    client.expect("scripted", &["EVAL", script, "1", "script", "scripted"])?;

    let mut subscriber = RedisClient::new(network.connect(PORT)?)?;
    subscriber.expect("[subscribe channel :1]", &["SUBSCRIBE", "channel"])?;
    client.expect(":1", &["PUBLISH", "channel", "hello"])?;
    ensure!(
        subscriber.reply()? == "[message channel hello]",
        "the subscriber got something else"
    );
    drop(subscriber);

    // Values too large for one read, one write and for the thread that frees at once.
    let large = "x".repeat(1 << 20);
    client.expect("+OK", &["SET", "large", &large])?;
    ensure!(
        client.call(&["GET", "large"])? == large,
        "a large value came back changed"
    );
    let many: Vec<String> = (0..5_000).map(|n| format!("member-{n}")).collect();
    let mut add = vec!["RPUSH", "list"];
    add.extend(many.iter().map(String::as_str));
    client.expect(":5000", &add)?;
    client.expect(":2", &["UNLINK", "list", "large"])?;

    for section in ["server", "memory", "cpu", "stats"] {
        ensure!(
            client.call(&["INFO", section])?.starts_with('#'),
            "INFO {section}"
        );
    }
    client.expect("+OK", &["CONFIG", "SET", "maxmemory", "100mb"])?;
    client.expect("+OK", &["CONFIG", "SET", "maxclients", "500"])?;
    client.expect("+OK", &["CONFIG", "RESETSTAT"])?;
    client.call(&["MEMORY", "PURGE"])?;
    client.call(&["CLIENT", "LIST"])?;
    client.call(&["SLOWLOG", "GET"])?;
    ensure!(
        client.call(&["NO-SUCH-COMMAND"])?.starts_with("-ERR"),
        "an unknown command was accepted"
    );
    Ok(())
}

fn benchmark(network: &Network, requests: u32) -> Result<()> {
    let mut command = network.command()?;
    command.arg("chroot").arg(rootfs::redis()?).args([
        "/usr/bin/redis-benchmark",
        "-q",
        "-c",
        "5",
        "-n",
    ]);
    command
        .arg(requests.to_string())
        .arg("-t")
        .arg(BENCHMARKS.join(","));
    let output = process::check(&mut command, STEP)?;
    let done = output
        .stdout
        .replace('\r', "\n")
        .lines()
        .filter(|line| line.contains("requests per second"))
        .count();
    ensure!(
        done >= BENCHMARKS.len(),
        "redis-benchmark ran {done} tests:\n{}",
        output.stdout
    );
    Ok(())
}

fn persistence(client: &mut RedisClient) -> Result<()> {
    client.expect("+Background saving started", &["BGSAVE"])?;
    client.settled("rdb_bgsave_in_progress", "rdb_last_bgsave_status")?;
    client.expect("+OK", &["SAVE"])?;
    client.expect("+OK", &["CONFIG", "SET", "appendonly", "yes"])?;
    client.settled("aof_rewrite_in_progress", "aof_last_bgrewrite_status")?;
    client.expect("+OK", &["SET", "every", "second"])?;
    client.expect("+OK", &["CONFIG", "SET", "appendfsync", "always"])?;
    client.expect("+OK", &["SET", "each", "write"])?;
    client.expect(
        "+Background append only file rewriting started",
        &["BGREWRITEAOF"],
    )?;
    client.settled("aof_rewrite_in_progress", "aof_last_bgrewrite_status")?;
    client.expect("+OK", &["CONFIG", "SET", "appendonly", "no"])?;
    client.expect("+OK", &["FLUSHALL", "ASYNC"])?;
    client.expect("+OK", &["SET", "saved", "at exit"])?;
    client.expect("+OK", &["CONFIG", "SET", "save", "3600 1"])?;
    Ok(())
}

/// One connection.
#[derive(Debug)]
pub struct RedisClient {
    stream: BufReader<TcpStream>,
}

impl RedisClient {
    fn new(stream: TcpStream) -> Result<Self> {
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends one command and returns its reply as text: `+OK`, `-ERR …`, `:1`, a bulk string as it is, an array in brackets.
    pub fn call(&mut self, words: &[&str]) -> Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let name = words
            .iter()
            .take(3)
            .map(|word| &word[..word.len().min(40)])
            .collect::<Vec<_>>()
            .join(" ");
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .with_context(|| name.clone())?;
        self.reply().with_context(|| name)
    }

    /// Sends one command and checks its reply.
    pub fn expect(&mut self, expected: &str, words: &[&str]) -> Result<()> {
        let reply = self.call(words)?;
        ensure!(
            reply == expected,
            "{}: expected {expected:?}, got {reply:?}",
            words[..words.len().min(3)].join(" ")
        );
        Ok(())
    }

    /// Waits until work in the background is over by `INFO persistence`, and checks that it was done well.
    fn settled(&mut self, in_progress: &str, status: &str) -> Result<()> {
        let (over, well) = (format!("{in_progress}:0"), format!("{status}:ok"));
        let mut info = String::new();
        process::poll("redis to finish in the background", STEP, || {
            info = self.call(&["INFO", "persistence"])?;
            Ok(info.lines().any(|line| line == over))
        })?;
        ensure!(
            info.lines().any(|line| line == well),
            "redis failed in the background:\n{info}"
        );
        Ok(())
    }

    fn reply(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        let Some(kind) = line.chars().next() else {
            bail!("the server closed the connection")
        };
        match kind {
            '+' | '-' | ':' => Ok(line.into()),
            '$' => {
                let Ok(length) = line[1..].parse::<usize>() else {
                    return Ok("(nil)".into());
                };
                ensure!(length <= 16 << 20, "a reply of {length} bytes");
                let mut bytes = vec![0; length + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            '*' => {
                let count: usize = line[1..].parse().context("length of an array")?;
                let elements = (0..count)
                    .map(|_| self.reply())
                    .collect::<Result<Vec<_>>>()?;
                Ok(format!("[{}]", elements.join(" ")))
            }
            _ => bail!("not a reply: {line}"),
        }
    }
}
