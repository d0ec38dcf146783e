//! Names of capabilities.

use crate::near;

/// By number. Source: `include/uapi/linux/capability.h` of Linux; the last one is of 5.9.
pub const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The name in full of `CAP_CHOWN`, `CHOWN` or `chown`.
///
/// # Errors
/// Where there is no such capability; the text says what may have been meant.
pub fn parse(text: &str) -> Result<&'static str, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix(PREFIX).unwrap_or(&upper);
    let bare = |full: &'static str| full.strip_prefix(PREFIX).unwrap_or(full);
    ALL.into_iter()
        .find(|full| bare(full) == name)
        .ok_or_else(|| {
            let near = near::names(name, ALL.map(|full| bare(full).to_owned()));
            format!(
                "`{}` is no capability{}",
                text.escape_debug(),
                near::suggestion(&near)
            )
        })
}

const PREFIX: &str = "CAP_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_the_prefix() {
        for text in ["CAP_NET_RAW", "NET_RAW", "net_raw", "cap_net_raw"] {
            assert_eq!(parse(text), Ok("CAP_NET_RAW"), "{text}");
        }
        assert_eq!(
            parse("CAP_SYSADMIN"),
            Err("`CAP_SYSADMIN` is no capability (did you mean SYS_ADMIN, SYS_RAWIO?)".to_owned())
        );
        assert_eq!(parse("\n"), Err("`\\n` is no capability".to_owned()));
    }

    #[test]
    fn numbers_are_the_kernels() {
        let numbers = [
            (0, "CAP_CHOWN"),
            (21, "CAP_SYS_ADMIN"),
            (31, "CAP_SETFCAP"),
            (39, "CAP_BPF"),
            (40, "CAP_CHECKPOINT_RESTORE"),
        ];
        for (number, name) in numbers {
            assert_eq!(ALL[number], name);
        }
    }
}
