//! The files that processes have executed, as long as something may still be explained by them.

use std::collections::{BTreeMap, BTreeSet};

/// So many more are taken in before those of no more use are looked for.
const ROUND: usize = 4096;

/// Files by when they were executed (`ktime`): by that a process names the program that it runs.
///
/// A file is of use while a process runs it, which may make its first call at any time, and while a recorded first call is explained
/// by it. It is forgotten if it was of no use at two looks: a process that forks and ends at the instant of one look may be
/// missed at it, with its child.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<u64, File>,
    added: usize,
}

#[derive(Clone, Debug)]
struct File {
    name: String,
    /// It was there at the last look, and of no use.
    unused: bool,
}

impl Files {
    /// Takes in a file.
    pub(super) fn add(&mut self, image: u64, name: &str) {
        let file = File {
            name: name.to_owned(),
            unused: false,
        };
        self.files.insert(image, file);
        self.added += 1;
    }

    /// The file that was executed then.
    pub(super) fn of(&self, image: u64) -> Option<&str> {
        Some(&self.files.get(&image)?.name)
    }

    /// Is it time to look for those of no more use?
    pub(super) fn are_many(&self) -> bool {
        self.added >= ROUND
    }

    /// Keeps those that are of use, and those that were at the last look.
    pub(super) fn keep(&mut self, used: &BTreeSet<u64>) {
        self.added = 0;
        self.files.retain(|image, file| {
            let unused = !used.contains(image);
            let keep = !(unused && file.unused);
            file.unused = unused;
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_something_stays_and_the_number_is_bounded() {
        let mut files = Files::default();
        let used = BTreeSet::from([1, 7]);
        for image in 1..=1_000_000 {
            files.add(image, "file");
            if files.are_many() {
                files.keep(&used);
            }
            assert!(files.files.len() <= 3 * ROUND);
        }
        assert_eq!((files.of(1), files.of(7)), (Some("file"), Some("file")));
        assert_eq!(files.of(2), None);
        assert_eq!(files.of(1_000_000), Some("file"));
    }

    #[test]
    fn one_that_was_missed_at_one_look_stays() {
        let mut files = Files::default();
        files.add(1, "file");
        files.keep(&BTreeSet::new());
        files.keep(&BTreeSet::from([1]));
        files.keep(&BTreeSet::new());
        assert_eq!(files.of(1), Some("file"));
        files.keep(&BTreeSet::new());
        assert_eq!(files.of(1), None);
    }
}
