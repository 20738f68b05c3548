//! What a container sees as its file system: its own files, and the volumes mounted over them.

use std::collections::BTreeMap;

use elasticache_host::engine::FileInfo;

/// Paths and what they hold. In a container absolute, in a volume relative to its root.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What goes wrong until it is told not to.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) hang_ready: bool,
    pub(super) saving: bool,
    pub(super) loading: bool,
    pub(super) save_error: Option<String>,
    pub(super) write_error: bool,
}

/// What outlives containers and pods: a named volume, or what lies behind a claim.
#[derive(Debug, Default)]
pub(super) struct Volume {
    pub(super) labels: BTreeMap<String, String>,
    /// Whole seconds since the epoch.
    pub(super) created: u64,
    pub(super) files: Files,
}

/// Folders that every image has.
const FOLDERS: [&str; 4] = ["/", "/data", "/tmp", "/etc"];

/// An absolute path without empty, `.` or `..` parts; `None` if it would leave the root.
pub(super) fn normal(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// `path` relative to `folder`; empty for the folder itself, `None` if it is not below it.
pub(super) fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// One container's view, taken for as long as one step lasts. Paths given to it are normal.
pub(super) struct Disk<'a> {
    pub(super) own: &'a mut Files,
    /// Names of volumes, and where they are mounted.
    pub(super) mounts: &'a [(String, String)],
    pub(super) volumes: &'a mut BTreeMap<String, Volume>,
    pub(super) trouble: &'a Trouble,
}

impl Disk<'_> {
    /// The files that a path belongs to, and its name among them: those of the deepest mount above it.
    fn at(&mut self, path: &str) -> (&mut Files, String) {
        let mounted = self
            .mounts
            .iter()
            .filter_map(|(volume, place)| Some((volume, place, below(path, place)?)))
            .max_by_key(|(_, place, _)| place.len());
        if let Some((volume, _, rest)) = mounted
            && let Some(volume) = self.volumes.get_mut(volume)
        {
            return (&mut volume.files, rest.to_owned());
        }
        (self.own, path.to_owned())
    }

    pub(super) fn read(&mut self, path: &str) -> Option<Vec<u8>> {
        let (files, name) = self.at(path);
        files.get(&name).cloned()
    }

    pub(super) fn write(&mut self, path: &str, bytes: Vec<u8>) {
        let (files, name) = self.at(path);
        files.insert(name, bytes);
    }

    pub(super) fn append(&mut self, path: &str, bytes: &[u8]) {
        let (files, name) = self.at(path);
        files.entry(name).or_default().extend_from_slice(bytes);
    }

    pub(super) fn remove(&mut self, path: &str) {
        let (files, name) = self.at(path);
        files.remove(&name);
    }

    /// What is there. A folder is one of the image's, a mount, or above one of these or a file.
    pub(super) fn stat(&mut self, path: &str) -> Option<FileInfo> {
        let folder = FileInfo { size: 0, directory: true };
        let fixed = self.mounts.iter().map(|(_, place)| place.as_str()).chain(FOLDERS);
        if fixed.into_iter().any(|place| below(place, path).is_some()) {
            return Some(folder);
        }
        let (files, name) = self.at(path);
        if let Some(bytes) = files.get(&name) {
            return Some(FileInfo { size: bytes.len() as u64, directory: false });
        }
        files.keys().any(|file| below(file, &name).is_some()).then_some(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normal_and_stay_below_the_root() {
        assert_eq!(normal("/data/./a//b/../c").as_deref(), Some("/data/a/c"));
        assert_eq!(normal("/").as_deref(), Some("/"));
        assert_eq!(normal("/data/../../etc"), None);
    }

    #[test]
    fn a_volume_covers_what_lies_under_its_mount() {
        let (mut own, trouble) = (Files::new(), Trouble::default());
        own.insert("/data/hidden".into(), b"own".to_vec());
        let mut volumes = BTreeMap::from([("v".to_owned(), Volume::default())]);
        let mounts = [("v".to_owned(), "/data".to_owned())];
        let mut disk = Disk { own: &mut own, mounts: &mounts, volumes: &mut volumes, trouble: &trouble };
        assert_eq!(disk.stat("/data/hidden"), None);
        disk.write("/data/sub/file", b"12".to_vec());
        disk.append("/data/sub/file", b"3");
        assert_eq!(disk.stat("/data/sub/file"), Some(FileInfo { size: 3, directory: false }));
        assert_eq!(disk.stat("/data/sub"), Some(FileInfo { size: 0, directory: true }));
        assert_eq!(disk.stat("/data/su"), None);
        assert_eq!(disk.stat("/datafile"), None);
        disk.remove("/data/sub/file");
        assert_eq!(disk.stat("/data/sub"), None);
        assert_eq!(disk.read("/data/sub/file"), None);
        assert!(own.contains_key("/data/hidden"));
    }
}
