//! The container engine's side: each call noted, done at once, and failed where a test wants it to.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;

use async_trait::async_trait;

use super::world::{World, observed};
use super::{Call, SimDocker, client};
use crate::sim::errors::{conflict, failed, not_found};
use crate::sim::moves::{self, bytes_of, has_all, normal};
use elasticache_host::engine::{
    Container, ContainerEngine, ContainerSpec, ContainerState, EngineError, ExecOutput, FileInfo, NewFile,
    Volume,
};
use elasticache_host::{Progress, SharedProgress};

/// The size that every image is said to have.
const IMAGE_BYTES: u64 = 10_000_000;

impl SimDocker {
    fn call<T>(
        &self,
        call: Call,
        object: &str,
        rest: &str,
        effect: impl FnOnce(&mut World) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let late = self.begin(call, object, rest)?;
        settle(late, effect(&mut self.world.lock()))
    }

    /// The same for a container that is there.
    fn call_on<T>(
        &self,
        call: Call,
        id: &str,
        rest: &str,
        effect: impl FnOnce(&mut World, usize) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.call(call, id, rest, |world| {
            let index = world.index(id)?;
            effect(world, index)
        })
    }
}

/// A reply that is lost is lost, whatever it was.
fn settle<T>(late: Option<EngineError>, result: Result<T, EngineError>) -> Result<T, EngineError> {
    late.map_or(result, Err)
}

fn shown(labels: &[(&str, &str)]) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[async_trait]
impl ContainerEngine for SimDocker {
    fn name(&self) -> &str {
        "sim"
    }

    async fn list_containers(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>, EngineError> {
        self.call(Call::ListContainers, &shown(labels), "", |world| {
            let fits = world.containers.iter().filter(|held| has_all(&held.spec.labels, labels));
            // The newest first, and without exit codes, as Docker lists them.
            Ok(fits.rev().map(|held| Container { exit_code: None, ..held.observed() }).collect())
        })
    }

    async fn inspect_container(&self, name: &str) -> Result<Option<Container>, EngineError> {
        self.call(Call::InspectContainer, name, "", |world| {
            Ok(world.held(name).ok().map(super::world::Held::observed))
        })
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.call(Call::CreateContainer, &spec.name, "", |world| world.create(spec))
    }

    async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        self.call_on(Call::StartContainer, id, "", |world, index| world.start(index))
    }

    async fn stop_container(&self, id: &str, grace: u32) -> Result<(), EngineError> {
        self.call_on(Call::StopContainer, id, "", |world, index| {
            world.stop(index, grace);
            Ok(())
        })
    }

    async fn restart_container(&self, id: &str, grace: u32) -> Result<(), EngineError> {
        self.call_on(Call::RestartContainer, id, "", |world, index| {
            world.stop(index, grace);
            world.start(index)
        })
    }

    async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        self.call_on(Call::RemoveContainer, id, "", |world, index| world.remove(index))
    }

    async fn wait_exit(&self, id: &str) -> Result<i32, EngineError> {
        let late = self.begin(Call::WaitExit, id, "")?;
        let ends = {
            let world = self.world.lock();
            let held = world.held(id)?;
            if held.is_up() { Ok(held.ends.subscribe()) } else { Err(held.exit_code().unwrap_or(0)) }
        };
        let code = match ends {
            // An end counts even if it was started again since: that is why ends are numbered.
            Ok(mut ends) => match ends.changed().await {
                Ok(()) => Ok(ends.borrow().1),
                Err(_) => Err(not_found(id, "it was removed")),
            },
            Err(code) => Ok(code),
        };
        settle(late, code)
    }

    async fn log_tail(&self, id: &str, lines: u32) -> Result<String, EngineError> {
        self.call_on(Call::LogTail, id, "", |world, index| {
            Ok(moves::tail(&world.containers[index].log, lines))
        })
    }

    async fn exec(&self, id: &str, argv: &[String], max_output: usize) -> Result<ExecOutput, EngineError> {
        self.call_on(Call::Exec, id, &argv.join(" "), |world, index| {
            let held = &world.containers[index];
            if held.state != ContainerState::Running {
                return Err(conflict(&held.spec.name, format!("Container {} is not running", held.id)));
            }
            let output = client::exec(world, index, argv);
            if output.stdout.len() > max_output || output.stderr.len() > max_output {
                return Err(failed(id, format!("the program wrote more than {max_output} bytes")));
            }
            Ok(output)
        })
    }

    async fn put_files(
        &self,
        id: &str,
        folder: &str,
        files: Vec<NewFile>,
        moved: Box<dyn Fn(u64) + Send>,
    ) -> Result<(), EngineError> {
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let late = self.begin(Call::PutFiles, id, &format!("{folder} {}", paths.join(" ")))?;
        let folder = normal(folder)?;
        {
            let mut world = self.world.lock();
            let index = world.index(id)?;
            if !world.parts(index).1.stat(&folder).is_some_and(|info| info.directory) {
                return Err(not_found(&folder, "Could not find the file in container"));
            }
        }
        for file in files {
            let path = format!("{}{}", folder.trim_end_matches('/'), normal(&file.path)?);
            let bytes = bytes_of(file, &*moved)?;
            let mut world = self.world.lock();
            let index = world.index(id)?;
            world.parts(index).1.write(&path, bytes);
        }
        settle(late, Ok(()))
    }

    async fn get_file(&self, id: &str, path: &str, sink: Box<dyn Write + Send>) -> Result<u64, EngineError> {
        let late = self.begin(Call::GetFile, id, path)?;
        let path = normal(path)?;
        let bytes = {
            let mut world = self.world.lock();
            let index = world.index(id)?;
            moves::read(&mut world.parts(index).1, &path)?
        };
        settle(late, moves::send(&path, &bytes, sink))
    }

    async fn stat_file(&self, id: &str, path: &str) -> Result<Option<FileInfo>, EngineError> {
        self.call_on(Call::StatFile, id, path, |world, index| Ok(world.parts(index).1.stat(&normal(path)?)))
    }

    async fn list_volumes(&self, labels: &[(&str, &str)]) -> Result<Vec<Volume>, EngineError> {
        self.call(Call::ListVolumes, &shown(labels), "", |world| {
            let fits = world.volumes.iter().filter(|(_, volume)| has_all(&volume.labels, labels));
            Ok(fits.map(|(name, volume)| observed(name, volume)).collect())
        })
    }

    async fn inspect_volume(&self, name: &str) -> Result<Option<Volume>, EngineError> {
        self.call(Call::InspectVolume, name, "", |world| {
            Ok(world.volumes.get(name).map(|volume| observed(name, volume)))
        })
    }

    async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume, EngineError> {
        self.call(Call::CreateVolume, name, "", |world| world.create_volume(name, labels))
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.call(Call::RemoveVolume, name, "", |world| world.remove_volume(name))
    }

    async fn pull_image(&self, image: &str, progress: SharedProgress) -> Result<(), EngineError> {
        let late = self.begin(Call::PullImage, image, "")?;
        if !self.world.lock().pullable.contains(image) {
            return Err(not_found(image, "manifest unknown"));
        }
        // Reported while nothing is locked: a sink may look at the engine.
        for current in [0, IMAGE_BYTES / 2, IMAGE_BYTES] {
            let image = image.to_owned();
            progress.report(Progress::Pull { image, current, total: IMAGE_BYTES });
        }
        self.add_image(image);
        settle(late, Ok(()))
    }

    async fn port_is_free(&self, _: IpAddr, port: u16) -> bool {
        self.call(Call::PortIsFree, &port.to_string(), "", |world| Ok(world.port_is_free(port)))
            .unwrap_or(false)
    }
}
