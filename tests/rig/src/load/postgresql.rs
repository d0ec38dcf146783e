//! postgresql: queries of many kinds, parallel and compiled ones, files, notifications, cancelled and ended backends, a base
//! backup, pgbench, VACUUM, CHECKPOINT, SIGHUP, a smart shutdown that a fast one hurries.

use super::{Clients, Network, STEP, Server, answered, stop};
use crate::process;
use crate::{Bundle, rootfs};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Stdio};

const PORT: u16 = 5432;

/// Where Debian keeps its programs.
const BIN: &str = "/usr/lib/postgresql/15/bin";

/// How a client on the machine comes in.
const LOCAL: &str = "host=/run dbname=postgres";

/// How a client on the network comes in.
const REMOTE: &str = "host=127.0.0.1 dbname=postgres user=app password=secret sslmode=require";

const PSQL: &str = "/usr/lib/postgresql/15/bin/psql";

/// The other sessions that sleep.
const SLEEPING: &str =
    "from pg_stat_activity where wait_event = 'PgSleep' and pid <> pg_backend_pid()";

pub(super) const DOES: &str = "queries sorted on disk, in parallel and compiled, COPY to and from files, large objects, NOTIFY, timeouts, \
    cancelled and ended backends, new databases and tablespaces, TLS with a password, a base backup, pgbench; VACUUM, CHECKPOINT; \
    reload by SIGHUP, end by SIGTERM (smart) and, with a client that stays, SIGINT (fast)";

/// postgresql as Debian's `postgresql.conf` has it, as the user postgres, its data in memory.
pub fn postgresql_bundle() -> Result<Bundle> {
    let mut args = vec![format!("{BIN}/postgres"), "-D".into(), "/data/main".into()];
    for setting in [
        "unix_socket_directories=/run",
        "ssl=on",
        "ssl_cert_file=/conf/certificate.pem",
        "ssl_key_file=/conf/key.pem",
        "autovacuum_naptime=1s",
        "log_checkpoints=on",
    ] {
        args.extend(["-c".into(), setting.into()]);
    }
    let (_, id) = rootfs::POSTGRES;
    Ok(Bundle::new(rootfs::postgresql()?, args)
        .user(id, id)
        .tmpfs_with_content("/data")
        .tmpfs("/run"))
}

/// The whole load, from the first connection to the end; `requests` are the transactions of each client of pgbench.
pub fn postgresql(container: &mut impl Server, requests: u32) -> Result<()> {
    let network = Network::of(container)?;
    drop(network.connect_when_ready(container, PORT)?);
    let clients = Clients::of(container, rootfs::POSTGRES.1)?;
    // It listens before it answers.
    process::poll("postgresql to answer", STEP, || {
        runs(container)?;
        let mut command = clients.command(&[&program("pg_isready"), "-q", "-h", "/run"])?;
        Ok(process::output(&mut command, STEP)?.status.success())
    })
    .with_context(|| container.log())?;
    statements(container, &clients)?;
    disturbed(&clients)?;
    benchmark(&clients, requests)?;
    clients.run(&[
        &program("pg_basebackup"),
        "-h",
        "/run",
        "-D",
        "/data/backup",
        "-F",
        "tar",
        "-X",
        "stream",
        "-c",
        "fast",
        "--no-sync",
    ])?;
    reload(container, &clients)?;
    shutdown(container, &clients)
}

/// Statements and what they answer; all in one session.
#[rustfmt::skip]
const STATEMENTS: &[(&str, &str)] = &[
    ("create role app login superuser password 'secret'", ""),
    ("create table t (id int primary key, word text, doc jsonb)", ""),
    ("insert into t select n, md5(n::text), jsonb_build_object('n', n) from generate_series(1, 20000) n", ""),
    ("create index on t (word); create index on t using gin (doc)", ""),
    ("analyze t", ""),
    ("select count(*) from t", "20000"),
    ("begin; update t set word = 'x' where id < 100; savepoint s; delete from t; rollback to s; commit", ""),
    ("select count(*) from t where word = 'x'", "99"),
    // Sorted on disk.
    ("set work_mem = '64kB'; select count(*) from (select * from t a order by word desc offset 1) b; reset work_mem", "19999"),
    ("create temp table u as select * from t; select count(*) from u join t using (word) where u.id > 19990", "10"),
    // By several processes, with memory that they share.
    ("set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0", ""),
    ("select sum(length(word)) from t", "636931"),
    ("create index concurrently on t ((id + 1)); reset all", ""),
    // Compiled.
    ("set jit_above_cost = 0; set jit_optimize_above_cost = 0; set jit_inline_above_cost = 0; select sum(id * 2 + 1) from t; reset all", "400040000"),
    ("copy t to '/data/copy.csv' csv; truncate t; copy t from '/data/copy.csv' csv; select count(*) from t", "20000"),
    ("select lo_from_bytea(4711, repeat('x', 100000)::bytea); select length(lo_get(4711)); select lo_unlink(4711)", "4711\n100000\n1"),
    ("select lo_import('/data/copy.csv', 4712) ; select lo_export(4712, '/data/large')", "4712\n1"),
    ("select to_tsvector('english', 'jumping cats') @@ to_tsquery('cat')", "t"),
    ("do $$ begin perform pg_advisory_lock(1); perform pg_sleep(0.01); perform pg_advisory_unlock_all(); end $$", ""),
    ("create function f(n int) returns int language plpgsql as 'begin return n + 1; exception when others then return 0; end'; select f(1)", "2"),
    ("create materialized view m as select id % 10 as digit, count(*) from t group by 1; refresh materialized view m", ""),
    ("select now() at time zone 'Europe/Berlin' is not null, 'b' collate \"en-x-icu\" > 'a'", "t|t"),
    ("select xpath('/a/text()', '<a>b</a>')", "{b}"),
    ("select count(*) > 0 from pg_ls_dir('.'); select length(pg_read_file('PG_VERSION')); select size from pg_stat_file('PG_VERSION')", "t\n3\n3"),
    ("select pg_database_size('postgres') > 0, pg_size_pretty(pg_total_relation_size('t')) <> ''", "t|t"),
    ("create database other template template0 strategy file_copy", ""),
    ("create database another", ""),
    ("drop database other", ""),
    ("create tablespace space location '/data/space'", ""),
    ("alter table t set tablespace space", ""),
    ("reindex table t", ""),
    ("vacuum (verbose off, analyze, parallel 2) t", ""),
    ("vacuum full t", ""),
    ("cluster t using t_pkey", ""),
    ("select pg_switch_wal() is not null", "t"),
    ("checkpoint", ""),
    ("prepare p as select $1::int; execute p(3); deallocate p", "3"),
    ("select count(*) >= 1 from pg_stat_activity; select count(*) > 0 from pg_stat_bgwriter", "t\nt"),
];

fn statements(container: &impl Server, clients: &Clients) -> Result<()> {
    let data = PathBuf::from(format!("/proc/{}/root/data", container.pid()?));
    fs::create_dir(data.join("space"))?;
    chown(data.join("space"), Some(clients.user), Some(clients.user))?;
    let script: String = STATEMENTS
        .iter()
        .map(|(sql, _)| format!("{sql};\n\\echo --\n"))
        .collect();
    fs::write(data.join("load.sql"), script)?;
    let answers = clients
        .run(&psql(&["-d", LOCAL, "-f", "/data/load.sql"]))?
        .stdout;
    answered(STATEMENTS, &answers)
}

/// Statements that are interrupted, and a message to whoever listens.
fn disturbed(clients: &Clients) -> Result<()> {
    let heard = query(clients, LOCAL, "listen channel; notify channel, 'hello'")?;
    ensure!(heard.contains("payload \"hello\""), "notify: {heard}");
    Waiting::start(
        clients,
        "set statement_timeout = '20ms'; select pg_sleep(60)",
    )?
    .ends_with("canceling statement due to statement timeout")?;
    for (function, reason) in [
        (
            "pg_cancel_backend",
            "canceling statement due to user request",
        ),
        (
            "pg_terminate_backend",
            "terminating connection due to administrator command",
        ),
    ] {
        let waiting = Waiting::start(clients, "select pg_sleep(60)")?;
        let sql = format!("select {function}(pid) {SLEEPING}");
        process::poll("a statement to be interrupted", STEP, || {
            Ok(query(clients, LOCAL, &sql)? == "t")
        })?;
        waiting.ends_with(reason)?;
    }
    Ok(())
}

fn benchmark(clients: &Clients, requests: u32) -> Result<()> {
    let pgbench = program("pgbench");
    let mut initialise = clients.command(&[&pgbench, "-i", "-q", REMOTE])?;
    process::check(&mut initialise, STEP)?;
    let requests = requests.to_string();
    for (options, clients_of_it, transactions) in [
        (&["-n", "-j", "2"][..], 4, requests.as_str()),
        (&["-n", "-S", "-M", "prepared"], 4, &requests),
        // A connection for each transaction.
        (&["-n", "-S", "-C"], 2, "5"),
    ] {
        let number = clients_of_it.to_string();
        let mut words = vec![pgbench.as_str(), "-c", &number, "-t", transactions];
        words.extend(options);
        words.push(REMOTE);
        let output = clients.run(&words)?.stdout;
        let all = clients_of_it * transactions.parse::<u32>()?;
        ensure!(
            output.contains(&format!("actually processed: {all}/{all}\n"))
                && output.contains("failed transactions: 0 "),
            "pgbench {options:?}:\n{output}"
        );
    }
    Ok(())
}

/// A setting that the file has changes with SIGHUP.
fn reload(container: &impl Server, clients: &Clients) -> Result<()> {
    query(clients, LOCAL, "alter system set work_mem = '8MB'")?;
    container.kill(libc::SIGHUP)?;
    process::poll("postgresql to read its configuration", STEP, || {
        Ok(query(clients, LOCAL, "show work_mem")? == "8MB")
    })
    .with_context(|| container.log())
}

/// Smart, which waits for the clients; then fast, which does not.
fn shutdown(container: &mut impl Server, clients: &Clients) -> Result<()> {
    let waiting = Waiting::start(clients, "select pg_sleep(60)")?;
    process::poll("a client that stays", STEP, || {
        Ok(query(clients, LOCAL, &format!("select count(*) {SLEEPING}"))? == "1")
    })?;
    container.kill(libc::SIGTERM)?;
    process::poll("postgresql to refuse new clients", STEP, || {
        runs(container)?;
        let mut command = clients.command(&psql(&["-d", LOCAL, "-c", ""]))?;
        let output = process::output(&mut command, STEP)?;
        Ok(output
            .stderr
            .contains("the database system is shutting down"))
    })?;
    stop(container, libc::SIGINT)?;
    waiting.ends_with("terminating connection due to administrator command")?;
    let log = container.log();
    ensure!(
        log.trim_end().ends_with("database system is shut down")
            && !log.contains("terminated by signal"),
        "postgresql lost a process, or did not say goodbye:\n{log}"
    );
    Ok(())
}

/// Whoever waits for a server that has ended waits in vain.
fn runs(container: &mut impl Server) -> Result<()> {
    let ended = container.try_wait()?;
    ensure!(ended.is_none(), "{} has ended: {ended:?}", container.name());
    Ok(())
}

fn program(name: &str) -> String {
    format!("{BIN}/{name}")
}

/// psql that prints values without decoration and stops at the first error.
fn psql<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec![PSQL, "-XAtq", "-v", "ON_ERROR_STOP=1"];
    words.extend(more);
    words
}

fn query(clients: &Clients, connection: &str, sql: &str) -> Result<String> {
    let output = clients.run(&psql(&["-d", connection, "-c", sql]))?;
    Ok(output.stdout.trim_end().to_owned())
}

/// A client whose statement takes a minute unless it is interrupted; ended when dropped.
#[derive(Debug)]
struct Waiting(Child);

impl Waiting {
    fn start(clients: &Clients, sql: &str) -> Result<Self> {
        let mut command = clients.command(&psql(&["-d", REMOTE, "-c", sql]))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Ok(Self(command.spawn().context("cannot start psql")?))
    }

    /// Waits for its end, which has to have this reason.
    fn ends_with(mut self, reason: &str) -> Result<()> {
        process::wait(&mut self.0, STEP)?.context("the client does not end")?;
        let mut errors = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            stderr.read_to_string(&mut errors)?;
        }
        ensure!(
            errors.contains(reason),
            "expected {reason:?}, got {errors:?}"
        );
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
