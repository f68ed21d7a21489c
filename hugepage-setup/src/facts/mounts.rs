//! Where hugepages are mounted.

use crate::host::{Host, bytes, soft};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A hugetlbfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HugeMount {
    /// Its folder.
    pub target: PathBuf,
    /// Its pages, KiB; none where the kernel does not say.
    pub page_kib: Option<u64>,
    /// All its options, as the kernel tells them.
    pub options: String,
}

impl HugeMount {
    /// The value of an option; none if the kernel does not tell it.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Every hugetlbfs of this mount namespace.
#[must_use]
pub fn read(host: &Host) -> Vec<HugeMount> {
    lines(host).into_iter().filter_map(|line| line.huge()).collect()
}

/// What is mounted on a folder, and how: the type and the options.
#[must_use]
pub fn on(host: &Host, target: &Path) -> Option<(String, String)> {
    // The last one lies on top.
    let line = lines(host).into_iter().rfind(|line| line.target == target)?;
    Some((line.kind, line.options))
}

struct Line {
    target: PathBuf,
    kind: String,
    options: String,
}

impl Line {
    fn huge(self) -> Option<HugeMount> {
        (self.kind == "hugetlbfs").then(|| HugeMount {
            page_kib: self
                .options
                .split(',')
                .find_map(|o| o.strip_prefix("pagesize="))
                .and_then(bytes)
                .map(|bytes| bytes >> 10),
            target: self.target,
            options: self.options,
        })
    }
}

fn lines(host: &Host) -> Vec<Line> {
    let text = soft(&host.procfs.join("self/mounts")).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let target = PathBuf::from(unescaped(words.next()?));
        Some(Line { target, kind: words.next()?.to_owned(), options: words.next()?.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

/// The kernel writes blanks in paths as `\040`.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hugetlbfs_is_found_among_all_mounts() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("self")).unwrap();
        std::fs::write(
            root.path().join("self/mounts"),
            "proc /proc proc rw 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n\
             none /mnt/a\\040b hugetlbfs rw,pagesize=1024M,size=4G 0 0\nshort\n",
        )
        .unwrap();
        let host = Host { procfs: root.path().into(), ..Host::default() };
        let mounts = read(&host);
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[0].page_kib, mounts[1].page_kib), (Some(2048), Some(1 << 20)));
        assert_eq!(mounts[1].target, Path::new("/mnt/a b"));
        assert_eq!(on(&host, Path::new("/proc")).unwrap().0, "proc");
        assert!(on(&host, Path::new("/nowhere")).is_none());
    }
}
