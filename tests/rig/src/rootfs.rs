//! Root file systems from Debian packages, without a registry: downloaded once, unpacked, shared read-only.

use crate::{oci, process};
use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Changes whenever what is done to the unpacked packages changes: old trees are then not used again.
const LAYOUT: &str = "4";

/// Which packages a tree was made of, a line each: name, tab, version.
const VERSIONS: &str = "etc/packages";

/// One static program with all applets; 2 MB.
const BUSYBOX: &[&str] = &["busybox-static"];

/// redis-server with its tools and the libraries that it loads; 33 MB.
const REDIS: &[&str] = &[
    "redis-server",
    "redis-tools",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "libatomic1",
    "libjemalloc2",
    "liblzf1",
    "libssl3",
    "libsystemd0",
    "libcap2",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libzstd1",
];

/// nginx with the libraries that it loads; 23 MB.
const NGINX: &[&str] = &[
    "nginx",
    "nginx-light",
    "nginx-common",
    "libc6",
    "libcrypt1",
    "libpcre2-8-0",
    "libssl3",
    "zlib1g",
];

/// memcached with the libraries that it loads; 17 MB.
const MEMCACHED: &[&str] = &[
    "memcached",
    "libc6",
    "libevent-2.1-7",
    "libsasl2-2",
    "libssl3",
];

/// haproxy with the libraries that it loads, and openssl for its certificate; 30 MB.
const HAPROXY: &[&str] = &[
    "haproxy",
    "openssl",
    "libc6",
    "libcrypt1",
    "libgcc-s1",
    "libstdc++6",
    "liblua5.3-0",
    "libopentracing1",
    "libopentracing-c-wrapper0",
    "libpcre2-8-0",
    "libssl3",
    "libsystemd0",
    "libcap2",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libzstd1",
];

/// postgresql with its clients, its compiler of expressions (LLVM) and the libraries that they load; 300 MB.
const POSTGRESQL: &[&str] = &[
    "postgresql-15",
    "postgresql-client-15",
    "openssl",
    "dash",
    "tzdata",
    "libpq5",
    "libllvm14",
    "libaudit1",
    "libbsd0",
    "libc6",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libedit2",
    "libffi8",
    "libgcc-s1",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libicu72",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblz4-1",
    "liblzma5",
    "libmd0",
    "libnettle8",
    "libp11-kit0",
    "libpam0g",
    "libreadline8",
    "libsasl2-2",
    "libselinux1",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libtasn1-6",
    "libtinfo6",
    "libunistring2",
    "libxml2",
    "libz3-4",
    "libzstd1",
    "zlib1g",
];

/// mariadb with its clients and the libraries that they load; 150 MB.
const MARIADB: &[&str] = &[
    "mariadb-server",
    "mariadb-server-core",
    "mariadb-client",
    "mariadb-client-core",
    "mariadb-common",
    "mysql-common",
    "libaio1",
    "libbsd0",
    "libc6",
    "libcap2",
    "libcrypt1",
    "libedit2",
    "libgcc-s1",
    "libgcrypt20",
    "libgpg-error0",
    "liblz4-1",
    "liblzma5",
    "libmd0",
    "libncurses6",
    "libnuma1",
    "libpcre2-8-0",
    "libssl3",
    "libstdc++6",
    "libsystemd0",
    "libtinfo6",
    "liburing2",
    "libzstd1",
    "zlib1g",
];

/// The users of `/etc/passwd` besides root, each with a group of the same name and number.
const USERS: &[(&str, u32)] = &[
    ("www-data", 33),
    (POSTGRES.0, POSTGRES.1),
    (MYSQL.0, MYSQL.1),
    ("haproxy", 103),
    ("memcache", 104),
    ("nobody", 65534),
];

/// Who postgresql runs as.
pub(crate) const POSTGRES: (&str, u32) = ("postgres", 101);

/// Who mariadb runs as.
pub(crate) const MYSQL: (&str, u32) = ("mysql", 102);

/// A key and a certificate for TLS, signed by itself, with the openssl of the tree.
const CERTIFICATE: &str = "chroot . /usr/bin/openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 36500 \
    -keyout /conf/key.pem -out /conf/certificate.pem\n";

/// What nginx serves as `/`; long enough to be compressed.
pub(crate) const NGINX_INDEX: &str = include_str!("load/index.html");

/// The size of `/large.bin`: more than one sendfile call and than the socket's buffers take.
pub(crate) const NGINX_LARGE: usize = 8 << 20;

/// busybox and a link for each of its applets.
pub fn busybox() -> Result<PathBuf> {
    from_packages("busybox", BUSYBOX, &[])
}

/// redis-server, redis-cli and redis-benchmark in `/usr/bin`.
pub fn redis() -> Result<PathBuf> {
    from_packages("redis", REDIS, &[])
}

/// nginx in `/usr/sbin`, with a configuration and files to serve.
pub fn nginx() -> Result<PathBuf> {
    let large = "seccast\n".repeat(NGINX_LARGE / 8);
    let files = [
        ("conf/nginx.conf", include_str!("load/nginx.conf")),
        ("srv/www/index.html", NGINX_INDEX),
        ("srv/www/large.bin", &large),
        ("srv/www/forbidden/file", ""),
    ];
    from_packages("nginx", NGINX, &files)
}

/// memcached in `/usr/bin`.
pub fn memcached() -> Result<PathBuf> {
    from_packages("memcached", MEMCACHED, &[])
}

/// haproxy in `/usr/sbin`, with a configuration and a certificate.
pub fn haproxy() -> Result<PathBuf> {
    let files = [("conf/haproxy.cfg", include_str!("load/haproxy.cfg"))];
    let prepare = format!("{CERTIFICATE}cat conf/certificate.pem conf/key.pem >conf/both.pem\n");
    prepared("haproxy", HAPROXY, &files, &prepare)
}

/// postgresql and its clients in `/usr/lib/postgresql/15/bin`, with a new cluster in `/data/main`.
///
/// What Debian's scripts would make: local users by their name, others by a password, TLS with a key of its own. The
/// segments of its log are small, so that the tree can be copied for each start.
pub fn postgresql() -> Result<PathBuf> {
    let (name, id) = POSTGRES;
    let prepare = format!(
        "{CERTIFICATE}chown {name_id} conf/key.pem\n\
         : >dev/null; chmod 666 dev/null\n\
         chroot --userspec={name_id} . /usr/lib/postgresql/15/bin/initdb -D /data/main -U {name} --no-locale -E UTF8 \
         --auth-local=peer --auth-host=scram-sha-256 --wal-segsize=1 --no-sync\n\
         rm dev/null\n",
        name_id = format_args!("{id}:{id}")
    );
    prepared("postgresql", POSTGRESQL, &[], &prepare)
}

/// mariadb in `/usr/sbin` and its clients in `/usr/bin`, with new system tables in `/data/main`.
///
/// What Debian's scripts would make: root comes in as root, without a password. The log is small, so that the tree can
/// be copied for each start.
pub fn mariadb() -> Result<PathBuf> {
    let (_, id) = MYSQL;
    // What mariadb-install-db does; it is a script, and there is no shell in the tree.
    let prepare = format!(
        "mkdir data/main; chown {id}:{id} data/main\n\
         (printf '%s\\n' 'create database mysql;' 'use mysql;' \"SET @auth_root_socket='root';\"; cd usr/share/mysql; cat \
         mysql_system_tables.sql mysql_performance_tables.sql mysql_system_tables_data.sql maria_add_gis_sp_bootstrap.sql \
         mysql_sys_schema.sql) | \
         chroot --userspec={id}:{id} . /usr/sbin/mariadbd --no-defaults --bootstrap --datadir=/data/main --innodb-log-file-size=4M\n"
    );
    prepared("mariadb", MARIADB, &[], &prepare)
}

/// An empty tree with the mount points that a container needs, and `program` as `/program`.
///
/// For static programs; made anew at every call, in a folder that the caller owns.
pub fn with_program(dir: &Path, program: &Path) -> Result<()> {
    mount_points(dir)?;
    let target = dir.join("program");
    fs::copy(program, &target).with_context(|| format!("cannot copy {}", program.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Downloads and unpacks `packages` as `<cache>/rootfs/NAME-HASH` with `files` of our own added, or finds what an earlier
/// call left there.
///
/// Callers in other threads and processes wait for the first; a tree is complete or absent.
pub fn from_packages(name: &str, packages: &[&str], files: &[(&str, &str)]) -> Result<PathBuf> {
    prepared(name, packages, files, "")
}

/// As [`from_packages`]; when all is there, a shell runs the lines of `prepare` in the tree's folder.
fn prepared(
    name: &str,
    packages: &[&str],
    files: &[(&str, &str)],
    prepare: &str,
) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(LAYOUT);
    for package in packages {
        hash.update(" ");
        hash.update(package);
    }
    for (path, content) in files {
        hash.update(format!("\0{path}\0{}\0", content.len()));
        hash.update(content);
    }
    hash.update(prepare);
    let hash = oci::hex(&hash.finalize());
    let parent = crate::cache_dir().join("rootfs");
    let rootfs = parent.join(format!("{name}-{hash:.12}"));
    if rootfs.is_dir() {
        return Ok(rootfs);
    }
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let lock = File::create(parent.join(format!("{name}.lock")))?;
    lock.lock()
        .context("cannot lock the cache of root file systems")?;
    if rootfs.is_dir() {
        return Ok(rootfs);
    }
    let work = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(&parent)?;
    let (debs, tree) = (work.path().join("debs"), work.path().join("tree"));
    fs::create_dir(&debs)?;
    fs::create_dir(&tree)?;
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))?;
    download(packages, &debs)?;
    unpack(&debs, &tree)?;
    finish(&tree)?;
    for (path, content) in files {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&tree))?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !prepare.is_empty() {
        let mut shell = Command::new("sh");
        shell.args(["-ec", prepare]).current_dir(&tree);
        process::check(&mut shell, Duration::from_secs(120))
            .with_context(|| format!("cannot prepare {name}"))?;
    }
    fs::rename(&tree, &rootfs)
        .with_context(|| format!("cannot move the tree to {}", rootfs.display()))?;
    Ok(rootfs)
}

fn download(packages: &[&str], debs: &Path) -> Result<()> {
    let mut apt = Command::new(process::need("apt-get", "apt")?);
    // _apt cannot write into this folder, and the drop of privileges is only about its own downloads.
    apt.args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
        .args(packages)
        .current_dir(debs);
    process::check(&mut apt, Duration::from_secs(300))
        .context("cannot download packages; `apt-get update` may be needed first")?;
    Ok(())
}

fn unpack(debs: &Path, tree: &Path) -> Result<()> {
    let mut debs: Vec<PathBuf> = fs::read_dir(debs)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    debs.sort();
    ensure!(!debs.is_empty(), "apt-get downloaded nothing");
    let mut versions = String::new();
    for deb in debs {
        process::check(
            Command::new("dpkg").arg("-x").args([&deb, tree]),
            Duration::from_secs(120),
        )?;
        let mut field = Command::new("dpkg-deb");
        field.arg("-W").arg(&deb);
        versions.push_str(&process::check(&mut field, Duration::from_secs(60))?.stdout);
    }
    let list = tree.join(VERSIONS);
    fs::create_dir_all(list.parent().unwrap_or(tree))?;
    fs::write(&list, versions).with_context(|| format!("cannot write {}", list.display()))
}

/// The packages of a tree with their exact versions, by name.
pub fn versions(rootfs: &Path) -> Result<BTreeMap<String, String>> {
    let list = rootfs.join(VERSIONS);
    let text =
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let pair = |line: &str| {
        line.split_once('\t')
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .with_context(|| format!("{}: no package with a version: {line}", list.display()))
    };
    text.lines().map(pair).collect()
}

/// What maintainer scripts would have done, as far as these programs need it.
fn finish(tree: &Path) -> Result<()> {
    for unused in [
        "usr/share/doc",
        "usr/share/locale",
        "usr/share/man",
        "etc/init.d",
        "etc/systemd",
        "lib/systemd",
    ] {
        match fs::remove_dir_all(tree.join(unused)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(unused);
            }
            _ => {}
        }
    }
    mount_points(tree)?;
    let mut passwd = String::from("root:x:0:0:root:/root:/bin/sh\n");
    let mut group = String::from("root:x:0:\n");
    for (name, id) in USERS {
        passwd.push_str(&format!("{name}:x:{id}:{id}::/:/bin/false\n"));
        group.push_str(&format!("{name}:x:{id}:\n"));
    }
    fs::write(tree.join("etc/passwd"), passwd)?;
    fs::write(tree.join("etc/group"), group)?;
    // What engines and Debian's base-files bring.
    fs::write(tree.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    fs::write(
        tree.join("etc/nsswitch.conf"),
        "passwd: files\ngroup: files\nhosts: files dns\n",
    )?;
    let busybox = tree.join("bin/busybox");
    if busybox.exists() {
        let applets = process::check(
            Command::new(&busybox).arg("--list"),
            Duration::from_secs(60),
        )?
        .stdout;
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", tree.join("bin").join(applet))
                .with_context(|| format!("link {applet}"))?;
        }
    }
    Ok(())
}

/// Where containers mount something; the tree is shared and read-only by then.
fn mount_points(tree: &Path) -> Result<()> {
    for dir in ["dev", "proc", "sys", "etc", "conf", "root"] {
        fs::create_dir_all(tree.join(dir)).with_context(|| format!("cannot create /{dir}"))?;
    }
    // runc gives a tmpfs the mode of the folder below it, whatever the mount's own options say.
    for dir in ["data", "run", "tmp"] {
        fs::create_dir_all(tree.join(dir)).with_context(|| format!("cannot create /{dir}"))?;
        fs::set_permissions(tree.join(dir), fs::Permissions::from_mode(0o1777))?;
    }
    Ok(())
}
