//! Data that lies in the server's memory only. A file with a dataset exists for as long as it takes to be read:
//! before a start that is to load it, and after a save.
//!
//! The file lies in the container's own layer, where the container engine can put and get it, and not below
//! [`TMPFS`], where it cannot: that is there because the images declare a volume at it, which would be made
//! for each container and would stay. Of pods that does not hold: there it lies on the volume that goes with them.

use crate::bindings::fakecloud::elasticache::docker::{Content, File};
use crate::bindings::fakecloud::elasticache::types::{Error, Promise};
use crate::cache::{self, DATA, DUMP, Place};
use crate::pods;
use crate::server::Server;
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

/// What a policy promises that keeps data so, with what becomes of it in a reboot.
pub fn promises(place: Place, reboot: Promise) -> Vec<Promise> {
    let mut promises = vec![reboot, Promise::NothingSurvivesStop, Promise::Snapshots];
    // A pod's address goes with the pod.
    if place == Place::Docker {
        promises.push(Promise::EndpointSurvivesReboot);
    }
    promises
}

/// Whether a container or pod keeps its data so, whichever policy made it.
pub fn is_volatile(server: Server) -> bool {
    match server {
        Server::Container(_) => cache::dump(&server.about()).starts_with(PLAIN),
        Server::Pod(_) => !pods::is_on_claim(&server.about()),
    }
}

/// Put the snapshot where the server will look for it.
pub fn put_snapshot(staging: &Staging) -> Result<(), Error> {
    match staging.restored {
        Some(restored) => put(staging.server, Content::Snapshot(restored.snapshot)),
        None => Ok(()),
    }
}

/// Have the next start find an empty dataset.
pub fn put_empty(server: Server) -> Result<(), Error> {
    put(server, Content::Bytes(EMPTY.to_vec()))
}

fn put(server: Server, content: Content) -> Result<(), Error> {
    match server {
        Server::Container(_) => server.put(PLAIN, &[File { path: format!("cache/{DUMP}"), content }]),
        // Of a pod, only this folder is there before its server is.
        Server::Pod(_) => server.put(DATA, &[File { path: DUMP.to_owned(), content }]),
    }
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
