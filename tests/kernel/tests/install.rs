//! `seccast install` on a disk that is full, at every point where it can be.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod root {
    use seccast_kernel::{kernel, seccast};
    use std::fs;
    use std::process::Command;

    /// Five pages.
    const BYTES: usize = 20_000;

    fn profile(call: &str) -> String {
        let text = format!(
            "{{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{{\"names\":[\"{call}\"],\"action\":\"SCMP_ACT_ALLOW\"}}]}}"
        );
        format!("{text}{}\n", " ".repeat(BYTES - 1 - text.len()))
    }

    /// Runs a script in a mount namespace of its own, in a folder with `old/web.json`, `new/web.json` and an empty `root`.
    fn script(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, call) in [("old", "read"), ("new", "write")] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("web.json"), profile(call)).unwrap();
        }
        fs::create_dir(folder.path().join("root")).unwrap();
        let output = Command::new("timeout")
            .args(["120", "unshare", "--mount", "--propagation", "private"])
            .args(["sh", "-euc", text])
            .env("SECCAST", seccast())
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// After a try to install the new profile over the old one: its exit code, which profile is read, how many files there are.
    const TRY: &str = r#"
        install() { "$SECCAST" install --quiet --root root "$@"; }
        try() {
            code=0; install new/web.json >out 2>err || code=$?
            [ $code = 0 ] || grep -q "unchanged: cannot .*: No space left on device" err || cat err
            for one in old new; do cmp -s root/seccast/web.json $one/web.json && read=$one; done
            echo "$1: $code $read $(ls -A root/seccast | wc -l)"
        }
    "#;

    #[test]
    fn a_disk_without_space_leaves_the_old_profile_and_nothing_half() {
        let Some(_kernel) = kernel() else { return };
        // 16 pages, five of them the old profile's: the new one has its five with up to six that somebody else fills.
        let said = script(&format!(
            "{TRY}
            mount -t tmpfs -o size=64k,mode=755 none root
            for pages in $(seq 0 11); do
                install old/web.json >out
                head -c $((pages * 4096)) /dev/zero >root/fill
                try $pages
                rm -r root/fill root/seccast
            done"
        ));
        let wanted: String = (0..=11)
            .map(|pages| match pages {
                0..=6 => format!("{pages}: 0 new 3\n"),
                _ => format!("{pages}: 3 old 2\n"),
            })
            .collect();
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_disk_without_inodes_leaves_the_old_profile_and_nothing_half() {
        let Some(_kernel) = kernel() else { return };
        // The root, the folder, the old version, the alias; then the new version, and the link that becomes the alias.
        let said = script(&format!(
            "{TRY}
            for inodes in 4 5 6; do
                mount -t tmpfs -o nr_inodes=$inodes,mode=755 none root
                install old/web.json >out
                try $inodes
                umount root
            done"
        ));
        assert_eq!(said, "4: 3 old 2\n5: 3 old 3\n6: 0 new 3\n");
    }

    #[test]
    fn a_watched_node_becomes_ready_when_there_is_space_again() {
        let Some(_kernel) = kernel() else { return };
        let said = script(&format!(
            "{TRY}
            mount -t tmpfs -o size=64k,mode=755 none root
            install old/web.json >out
            head -c 45056 /dev/zero >root/fill
            \"$SECCAST\" install --watch new --root root --ready ready 2>log &
            wait_for() {{ for i in $(seq 1200); do grep -q \"$1\" log && return; sleep 0.05; done; cat log; exit 1; }}
            wait_for 'not ready: seccast/web.json: .*No space left on device'
            [ ! -e ready ]; cmp root/seccast/web.json old/web.json
            rm root/fill
            wait_for 'ready: the node is equal'
            cmp root/seccast/web.json new/web.json
            kill $!; wait $!; cat log"
        ));
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert!(lines[1].contains("in place of"), "{said}");
    }
}
