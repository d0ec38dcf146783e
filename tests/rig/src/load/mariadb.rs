//! mariadb: tables of every engine, sorts on disk, files, locks, events, plugins, killed connections, no descriptors, mariadb-slap,
//! FLUSH, SIGHUP, SIGTERM.

use super::{Clients, Network, STEP, Server, answered, stop};
use crate::process;
use crate::{Bundle, rootfs};
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const PORT: u16 = 3306;

/// Where its local clients come in.
const SOCKET: &str = "--socket=/run/mysqld.sock";

/// Longer than any test; what is connected meanwhile is ended.
const SLEEP: &str = "select sleep(60)";

/// What a client says whose connection was ended.
const LOST: &str = "Lost connection to server during query";

pub(super) const DOES: &str = "tables of InnoDB, Aria, MyISAM, CSV, MEMORY and the archive plugin, changed in every way, sorts and temporary \
    tables on disk, LOAD DATA and OUTFILE, transactions, locks, a trigger, a procedure, an event, killed statements and connections, \
    a client while there is no descriptor left, local and network clients, mariadb-slap; FLUSH of everything, CHECK, OPTIMIZE, \
    reload by SIGHUP, end by SIGTERM with a client in a transaction";

/// mariadb with Debian's configuration, as the user mysql, its data in memory.
pub fn mariadb_bundle() -> Result<Bundle> {
    let args = "/usr/sbin/mariadbd --defaults-file=/etc/mysql/mariadb.cnf --datadir=/data/main --socket=/run/mysqld.sock \
                --pid-file=/run/mysqld.pid --innodb-log-file-size=4M --event-scheduler=on";
    let (_, id) = rootfs::MYSQL;
    Ok(Bundle::new(rootfs::mariadb()?, args.split_whitespace())
        .user(id, id)
        .tmpfs_with_content("/data")
        .tmpfs("/run")
        .tmpfs("/tmp"))
}

/// The whole load, from the first connection to the end by SIGTERM; `requests` are the queries of each client of mariadb-slap.
pub fn mariadb(container: &mut impl Server, requests: u32) -> Result<()> {
    let network = Network::of(container)?;
    drop(network.connect_when_ready(container, PORT)?);
    // root comes in by who it is.
    let clients = Clients::of(container, 0)?;
    statements(container, &clients)?;
    disturbed(&clients)?;
    without_descriptors(container, &clients)?;
    benchmark(&clients, requests)?;
    container.kill(libc::SIGHUP)?;
    ask(
        &clients,
        "flush tables; flush logs; flush status; flush privileges; flush hosts",
    )?;
    // Whoever is still connected is waited for, until what was not committed is undone.
    let undone = format!("use app; start transaction; update t set word = 'y'; {SLEEP}");
    let mut staying = clients.command(&client(&["-e", &undone]))?;
    let staying = std::thread::spawn(move || process::output(&mut staying, STEP));
    sleeping(&clients)?;
    // And what was deleted is purged.
    ask(
        &clients,
        "set global innodb_fast_shutdown = 0; use app; create table q (id int primary key, body text, key (body(200))); \
         insert into q select seq, repeat(seq, 40) from seq_1_to_5000; update q set body = id; delete from q",
    )?;
    stop(container, libc::SIGTERM)?;
    let Ok(staying) = staying.join() else {
        bail!("the client panicked")
    };
    let staying = staying?;
    ensure!(staying.stderr.contains(LOST), "{staying:?}");
    let log = container.log();
    ensure!(
        log.trim_end().ends_with("Shutdown complete"),
        "mariadb did not say goodbye:\n{log}"
    );
    Ok(())
}

/// Statements and what they answer; all in one session.
#[rustfmt::skip]
const STATEMENTS: &[(&str, &str)] = &[
    ("create database app; use app", ""),
    ("create user app@'127.0.0.1' identified by 'secret'; grant all on slap.* to app@'127.0.0.1'", ""),
    ("create table t (id int primary key, word varchar(64), body text) engine=InnoDB", ""),
    ("insert into t select seq, md5(seq), repeat('words ', 50) from seq_1_to_5000", ""),
    ("select count(*), sum(length(word)) from t", "5000\t160000"),
    ("create index word on t (word); alter table t add column n int default 1, algorithm=copy; alter table t add fulltext (body)", ""),
    ("select count(*) from t where match (body) against ('absent')", "0"),
    ("start transaction; update t set n = 2 where id < 100; savepoint s; delete from t; rollback to s; commit; select count(*) from t where n = 2", "99"),
    // Sorted and grouped on disk.
    ("set sort_buffer_size = 65536, tmp_table_size = 1024, max_heap_table_size = 16384", ""),
    ("select count(*) from (select word, body from t group by word, body order by body, word desc limit 4999) x", "4999"),
    ("create temporary table u as select * from t; select count(*) from u join t using (word)", "5000"),
    ("create table a engine=Aria as select * from t; create table y engine=MyISAM as select * from t; create table h (id int) engine=MEMORY", ""),
    ("insert into h values (1); select (select count(*) from a) + (select count(*) from y) + (select count(*) from h)", "10001"),
    ("create table c (id int not null) engine=CSV; insert into c values (1), (2); select sum(id) from c", "3"),
    ("install soname 'ha_archive'; create table z engine=ARCHIVE as select * from t; select count(*) from z; drop table z; uninstall soname 'ha_archive'", "5000"),
    ("create table p (id int) partition by hash (id) partitions 4; insert into p select seq from seq_1_to_100; select count(*) from p", "100"),
    ("select * from t into outfile '/data/t.txt'; truncate t; load data infile '/data/t.txt' into table t; select count(*) from t", "5000"),
    ("select length(load_file('/data/t.txt')) > 100000", "1"),
    ("create trigger before_t before insert on t for each row set new.n = 7; insert into t (id) values (6000); select n from t where id = 6000", "7"),
    ("create procedure f(n int) select n + 1; call f(1)", "2"),
    ("create event e on schedule at now() do insert into h values (2); select get_lock('l', 1), sleep(0.05), release_lock('l')", "1\t0\t1"),
    ("lock tables t write; unlock tables; flush tables t with read lock; unlock tables", ""),
    ("set global slow_query_log = 1, long_query_time = 0, general_log = 1; select 1; set global slow_query_log = 0, general_log = 0", "1"),
    ("set global innodb_buffer_pool_dump_now = 1, innodb_buffer_pool_size = 67108864", ""),
    ("check table t, a, y", "app.t\tcheck\tstatus\tOK\napp.a\tcheck\tstatus\tOK\napp.y\tcheck\tstatus\tOK"),
    ("repair table a, y", "app.a\trepair\tstatus\tOK\napp.y\trepair\tstatus\tOK"),
    ("optimize table y", "app.y\toptimize\tstatus\tOK"),
    ("alter table t engine=InnoDB; analyze table t", "app.t\tanalyze\tstatus\tOK"),
    ("rename table y to x; drop table x, p, a, c", ""),
    ("prepare s from 'select ? + 1'; execute s using 2; deallocate prepare s", "3"),
    ("select count(*) > 0 from information_schema.processlist", "1"),
];

fn statements(container: &impl Server, clients: &Clients) -> Result<()> {
    let data = PathBuf::from(format!("/proc/{}/root/data", container.pid()?));
    let script: String = STATEMENTS
        .iter()
        .map(|(sql, _)| format!("{sql};\nselect '--';\n"))
        .collect();
    fs::write(data.join("load.sql"), script)?;
    let answers = ask(clients, "source /data/load.sql")? + "\n";
    answered(STATEMENTS, &answers)
}

/// Statements and connections that are ended.
fn disturbed(clients: &Clients) -> Result<()> {
    for (kill, reason) in [
        ("kill query", "Query execution was interrupted"),
        ("kill", LOST),
    ] {
        let mut staying = clients.command(&client(&["-e", SLEEP]))?;
        let staying = std::thread::spawn(move || process::output(&mut staying, STEP));
        ask(clients, &format!("{kill} {}", sleeping(clients)?))?;
        let Ok(ended) = staying.join() else {
            bail!("the client panicked")
        };
        let ended = ended?;
        // Interrupted, sleep() may also return 1.
        ensure!(
            ended.stderr.contains(reason) || ended.stdout.trim() == "1",
            "{kill}: {ended:?}"
        );
    }
    Ok(())
}

/// A client comes while the server may open nothing: it says so, and sleeps for a second by clock_nanosleep before it looks again. Else it
/// makes that call only when it ends and one of its tasks has not quite, in 1 of 20 runs or fewer.
fn without_descriptors(container: &impl Server, clients: &Clients) -> Result<()> {
    let pid = container.pid()?.to_string();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let before = line.and_then(|line| line.split_whitespace().nth(3));
    let before = before.with_context(|| limits.clone())?;
    // Another's limits are changed by the same user, or with CAP_SYS_RESOURCE, which not every root has.
    let may_open = |count: &str| {
        let mut command = Command::new(process::need("setpriv", "util-linux")?);
        let (_, id) = rootfs::MYSQL;
        let id = id.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "prlimit"]);
        command.args(["--pid", &pid, &format!("--nofile={count}:")]);
        process::check(&mut command, STEP)
    };
    may_open("3")?;
    let mut late = clients.command(&client(&["-e", "select 7"]))?;
    let late = std::thread::spawn(move || process::output(&mut late, STEP));
    let refused = process::poll("a refused connection", STEP, || {
        Ok(container
            .log()
            .contains("Error in accept: Too many open files"))
    });
    may_open(before)?;
    refused?;
    let Ok(late) = late.join() else {
        bail!("the client panicked")
    };
    let late = late?;
    ensure!(late.stdout == "7\n", "{late:?}");
    Ok(())
}

/// The connection that sleeps, as soon as there is one.
fn sleeping(clients: &Clients) -> Result<String> {
    let mut id = String::new();
    process::poll("a statement that sleeps", STEP, || {
        id = ask(
            clients,
            "select id from information_schema.processlist where state = 'User sleep'",
        )?;
        Ok(!id.is_empty())
    })?;
    Ok(id)
}

fn benchmark(clients: &Clients, requests: u32) -> Result<()> {
    let queries = (requests * 4).to_string();
    for network in [true, false] {
        let mut words = vec![
            "/usr/bin/mariadb-slap",
            "--no-defaults",
            "--auto-generate-sql",
            "--concurrency=4",
        ];
        words.extend([
            "--auto-generate-sql-load-type=mixed",
            "--csv",
            "--number-of-queries",
            &queries,
        ]);
        words.extend(if network {
            [
                "--host=127.0.0.1",
                "--user=app",
                "--password=secret",
                "--create-schema=slap",
            ]
            .as_slice()
        } else {
            &[SOCKET, "--user=root", "--create-schema=slap"]
        });
        let output = clients.run(&words)?;
        ensure!(
            output.stdout.starts_with(",mixed,") && output.stderr.is_empty(),
            "mariadb-slap: {output:?}"
        );
    }
    Ok(())
}

/// mariadb that prints rows without decoration, as root.
fn client<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec![
        "/usr/bin/mariadb",
        "--no-defaults",
        SOCKET,
        "-N",
        "-B",
        "--abort-source-on-error",
    ];
    words.extend(more);
    words
}

fn ask(clients: &Clients, sql: &str) -> Result<String> {
    let output = clients
        .run(&client(&["-e", sql]))
        .with_context(|| sql.to_owned())?;
    Ok(output.stdout.trim_end().to_owned())
}
