//! Data that lies in the server's memory only. A file with a dataset exists for as long as it takes to be read:
//! before a start that is to load it, and after a save.
//!
//! The file lies in the container's own layer, where the container engine can put and get it, and not below
//! [`TMPFS`], where it cannot: that is there because the images declare a volume at it, which would be made
//! for each container and would stay.

use crate::bindings::fakecloud::elasticache::docker::{Container, ContainerInfo, Content, File};
use crate::bindings::fakecloud::elasticache::types::Error;
use crate::cache::{self, DUMP};
use crate::storage::Staging;

/// In memory instead of on the volume that images declare.
pub const TMPFS: &[&str] = &["/data"];
/// Neither an append-only file nor save points.
pub const OPTIONS: &[&str] = &["--appendonly", "no", "--save", ""];
/// A folder that every image has, and that every user may write to.
pub const PLAIN: &str = "/tmp";
/// A folder that comes with the file that is put into it. In [`PLAIN`] itself the server, which need not be root,
/// could not put another file in the place of that one.
pub const PREPARED: &str = "/tmp/cache";

/// An RDB file without a key: magic and version, end marker, CRC-64.
const EMPTY: [u8; 18] = *b"REDIS0009\xff\x9a\xac\x7a\xbc\xfb\x0f\xad\x74";

/// Whether a container keeps its data so, whichever policy made it.
pub fn is_volatile(info: &ContainerInfo) -> bool {
    cache::dump(info).starts_with(PLAIN)
}

/// Put the snapshot where the server will look for it.
pub fn put_snapshot(staging: &Staging) -> Result<(), Error> {
    match staging.restored {
        Some(restored) => put(staging.container, Content::Snapshot(restored.snapshot)),
        None => Ok(()),
    }
}

/// Have the next start find an empty dataset.
pub fn put_empty(container: &Container) -> Result<(), Error> {
    put(container, Content::Bytes(EMPTY.to_vec()))
}

fn put(container: &Container, content: Content) -> Result<(), Error> {
    container.put(PLAIN, &[File { path: format!("cache/{DUMP}"), content }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prepared_folder_is_where_files_are_put() {
        assert_eq!(PREPARED, format!("{PLAIN}/cache"));
        assert_eq!((EMPTY[..9].as_ref(), EMPTY[9]), (b"REDIS0009".as_ref(), 0xff));
    }
}
