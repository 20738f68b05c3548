//! The world that policies act on, simulated: container engines, clusters, and the servers that run in them.
//!
//! - [`docker`]: containers, volumes, images and ports of one Docker Engine
//! - [`kube`]: pods, claims, leases and secrets of one namespace of a cluster
//! - `server`, `options`, `aof`, [`rdb`]: one redis, valkey or memcached, with the files that it leaves
//! - `client`: what asks it
//! - `disk`: what a server sees as its file system
//! - `moves`, `errors`: what calls hand over, and how they fail

mod aof;
mod client;
mod disk;
pub mod docker;
mod errors;
pub mod kube;
mod moves;
mod options;
pub mod rdb;
mod server;

/// The images that are there from the start.
pub const DEFAULT_IMAGES: [&str; 3] = ["redis:7-alpine", "valkey/valkey:8-alpine", "memcached:1.6-alpine"];

/// What a clock says at the start, in seconds since the Unix epoch: 2026-01-01, midnight UTC.
pub const EPOCH: u64 = 1_767_225_600;

/// The image of what is somebody else's.
const FOREIGN_IMAGE: &str = "foreign:latest";
