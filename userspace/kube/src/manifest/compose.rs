//! compose.yaml: a service's `security_opt`.

/// Whether an option sets a profile: docker and podman take `seccomp=` and `seccomp:`.
pub(super) fn is_seccomp(option: &str) -> bool {
    value(option).is_some()
}

/// What it sets: a file, `unconfined`, `builtin`.
pub(super) fn value(option: &str) -> Option<&str> {
    option
        .strip_prefix("seccomp=")
        .or_else(|| option.strip_prefix("seccomp:"))
}
