//! The world that policies act on, simulated: container engines, clusters, and the servers that run in them.
//!
//! - [`docker`]: containers, volumes, images and ports of one Docker Engine
//! - `server`, `options`, `aof`, [`rdb`]: one redis, valkey or memcached, with the files that it leaves
//! - `disk`: what a server sees as its file system

mod aof;
mod disk;
pub mod docker;
mod options;
pub mod rdb;
mod server;
