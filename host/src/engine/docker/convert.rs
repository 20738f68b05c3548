//! Bollard's types to and from this crate's.

use std::collections::HashMap;
use std::time::SystemTime;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, HostConfig,
    Mount, MountType, PortBinding, PortMap, PortSummary, PortSummaryTypeEnum,
    RestartPolicy as ApiRestartPolicy, RestartPolicyNameEnum, Volume as ApiVolume,
};

use crate::engine::{
    Container, ContainerSpec, ContainerState, EngineError, Published, RestartPolicy, Volume,
};

/// The request body of a create.
pub(super) fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    let mut body = ContainerCreateBody {
        image: Some(spec.image.clone()),
        cmd: (!spec.command.is_empty()).then(|| spec.command.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        stop_timeout: Some(i64::from(spec.stop_grace)),
        ..ContainerCreateBody::default()
    };
    let mut host = HostConfig {
        restart_policy: Some(ApiRestartPolicy {
            name: Some(match spec.restart {
                RestartPolicy::Never => RestartPolicyNameEnum::NO,
                RestartPolicy::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
            }),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    };
    if let Some((address, publish)) = spec.publish {
        let inside = format!("{}/tcp", publish.container_port);
        let binding = PortBinding {
            host_ip: Some(address.to_string()),
            host_port: Some(publish.host_port.to_string()),
        };
        body.exposed_ports = Some(vec![inside.clone()]);
        host.port_bindings = Some(HashMap::from([(inside, Some(vec![binding]))]));
    }
    // Not `Binds`: there a source that looks like a path would be taken for a folder of the host.
    let mounts = spec.mounts.iter().map(|(volume, target)| Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.clone()),
        target: Some(target.clone()),
        ..Mount::default()
    });
    let in_memory = spec.tmpfs.iter().map(|target| Mount {
        typ: Some(MountType::TMPFS),
        target: Some(target.clone()),
        ..Mount::default()
    });
    host.mounts = Some(mounts.chain(in_memory).collect());
    body.host_config = Some(host);
    body
}

/// A container of an inspect.
pub(super) fn inspected(answer: ContainerInspectResponse) -> Result<Container, EngineError> {
    let id = answer.id.unwrap_or_default();
    let name = answer.name.map(plain_name).unwrap_or_else(|| id.clone());
    let config = answer.config.unwrap_or_default();
    let observed = answer.state.unwrap_or_default();
    let Some(state) = observed.status.and_then(|status| state(status.as_ref())) else {
        return Err(unreadable(&name, "a state that is not known"));
    };
    let alive = is_alive(state);
    let ports = answer.network_settings.and_then(|network| network.ports);
    // `0001-01-01T00:00:00Z` is Go's zero time. While it runs the code is reset to 0, so nothing is
    // known about the last end.
    let ended = observed.finished_at.is_some_and(|at| !at.is_empty() && !at.starts_with("0001-"));
    Ok(Container {
        id,
        name,
        image: config.image.unwrap_or_default(),
        state,
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        published: ports.filter(|_| alive).as_ref().and_then(published_in_map),
        exit_code: observed.exit_code.filter(|_| ended && !alive).and_then(|code| i32::try_from(code).ok()),
    })
}

/// A container of a list.
pub(super) fn summarized(summary: ContainerSummary) -> Result<Container, EngineError> {
    let id = summary.id.unwrap_or_default();
    let name = own_name(summary.names.unwrap_or_default()).unwrap_or_else(|| id.clone());
    let Some(state) = summary.state.and_then(|status: ContainerSummaryStateEnum| state(status.as_ref()))
    else {
        return Err(unreadable(&name, "a state that is not known"));
    };
    let ports = summary.ports.unwrap_or_default();
    Ok(Container {
        id,
        name,
        image: summary.image.unwrap_or_default(),
        state,
        labels: summary.labels.unwrap_or_default().into_iter().collect(),
        published: is_alive(state).then(|| published_in_list(&ports)).flatten(),
        exit_code: None,
    })
}

/// A volume of an inspect, list or create.
pub(super) fn volume(answer: ApiVolume) -> Volume {
    let created = answer.created_at.as_deref().and_then(parse_time);
    Volume { name: answer.name, labels: answer.labels.into_iter().collect(), created }
}

fn unreadable(object: &str, what: &str) -> EngineError {
    EngineError::Failed { object: object.to_owned(), message: format!("the answer has {what}") }
}

fn plain_name(name: String) -> String {
    name.strip_prefix('/').map(str::to_owned).unwrap_or(name)
}

/// A container that others link to is also listed as `/other/alias`.
fn own_name(names: Vec<String>) -> Option<String> {
    names.into_iter().map(plain_name).find(|name| !name.contains('/'))
}

/// The port is published while the process exists, frozen or not.
fn is_alive(state: ContainerState) -> bool {
    matches!(state, ContainerState::Running | ContainerState::Paused)
}

/// By the API's word, so that one table serves both of bollard's enums.
fn state(word: &str) -> Option<ContainerState> {
    Some(match word {
        // Podman's `initialized` and `configured` come out of its Docker API as `created`.
        "created" => ContainerState::Created,
        // Its process still runs while it is being stopped.
        "running" | "stopping" => ContainerState::Running,
        "paused" => ContainerState::Paused,
        "restarting" => ContainerState::Restarting,
        "exited" => ContainerState::Exited,
        "removing" => ContainerState::Removing,
        "dead" => ContainerState::Dead,
        _ => return None,
    })
}

/// One line per address: with a wildcard there is one for IPv4 and one for IPv6, and the two need not
/// have the same port. IPv4 first, whatever the order.
fn published_in_list(ports: &[PortSummary]) -> Option<Published> {
    ports
        .iter()
        .filter(|port| matches!(port.typ, Some(PortSummaryTypeEnum::TCP)))
        .filter_map(|port| {
            let host_port = port.public_port.filter(|public| *public != 0)?;
            Some((is_ipv6(port.ip.as_deref()), port.private_port, host_port))
        })
        .min()
        .map(|(_, container_port, host_port)| Published { container_port, host_port })
}

fn published_in_map(ports: &PortMap) -> Option<Published> {
    ports
        .iter()
        .filter_map(|(inside, bindings)| {
            let container_port: u16 = inside.strip_suffix("/tcp")?.parse().ok()?;
            Some((container_port, bindings.as_ref()?))
        })
        .flat_map(|(container_port, bindings)| {
            bindings.iter().filter_map(move |binding| {
                let host_port: u16 = binding.host_port.as_ref()?.parse().ok()?;
                (host_port != 0).then_some((is_ipv6(binding.host_ip.as_deref()), container_port, host_port))
            })
        })
        .min()
        .map(|(_, container_port, host_port)| Published { container_port, host_port })
}

/// Podman leaves the address empty for the wildcard.
fn is_ipv6(address: Option<&str>) -> bool {
    address.is_some_and(|address| address.contains(':'))
}

/// The port that a container asks for, running or not.
pub(super) fn wanted_port(answer: ContainerInspectResponse) -> Option<u16> {
    let bindings = answer.host_config?.port_bindings?;
    bindings.into_values().flatten().flatten().find_map(|binding| binding.host_port?.parse().ok())
}

/// Docker writes `2026-01-02T03:04:05Z` or the daemon's offset, Podman adds a fraction. Go's zero time stands for
/// one that is not known: of a volume whose folder is gone already, say.
fn parse_time(text: &str) -> Option<SystemTime> {
    let time: SystemTime = text.parse::<jiff::Timestamp>().ok()?.into();
    (time > SystemTime::UNIX_EPOCH).then_some(time)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn line(ip: &str, inside: u16, outside: Option<u16>, typ: PortSummaryTypeEnum) -> PortSummary {
        PortSummary { ip: Some(ip.into()), private_port: inside, public_port: outside, typ: Some(typ) }
    }

    #[test]
    fn ipv4_is_taken_in_whatever_order_the_lines_come() {
        let v4 = line("0.0.0.0", 6379, Some(32768), PortSummaryTypeEnum::TCP);
        let v6 = line("::", 6379, Some(32769), PortSummaryTypeEnum::TCP);
        let udp = line("0.0.0.0", 53, Some(53), PortSummaryTypeEnum::UDP);
        let bare = line("0.0.0.0", 80, None, PortSummaryTypeEnum::TCP);
        let expected = Some(Published { container_port: 6379, host_port: 32768 });
        for lines in [
            vec![v4.clone(), v6.clone(), udp.clone(), bare.clone()],
            vec![bare, udp.clone(), v6.clone(), v4.clone()],
        ] {
            assert_eq!(published_in_list(&lines), expected);
        }
        assert_eq!(published_in_list(&[v6]).unwrap().host_port, 32769);
        assert_eq!(published_in_list(&[udp]), None);
    }

    #[test]
    fn ipv4_is_taken_out_of_an_inspect() {
        let binding =
            |ip: &str, port: &str| PortBinding { host_ip: Some(ip.into()), host_port: Some(port.into()) };
        let ports = HashMap::from([
            ("6379/tcp".to_owned(), Some(vec![binding("::", "32769"), binding("0.0.0.0", "32768")])),
            ("7000/tcp".to_owned(), None),
            ("53/udp".to_owned(), Some(vec![binding("0.0.0.0", "53")])),
        ]);
        assert_eq!(published_in_map(&ports), Some(Published { container_port: 6379, host_port: 32768 }));
    }

    #[test]
    fn times_are_read_with_offset_and_fraction() {
        let seconds = |text: &str| {
            parse_time(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        assert_eq!(seconds("2026-11-23T21:22:16Z"), Some(1_795_468_936));
        assert_eq!(seconds("2026-11-23T22:22:16.123456789+01:00"), Some(1_795_468_936));
        assert_eq!(seconds("2026-11-23T15:52:16-05:30"), Some(1_795_468_936));
        for unknown in ["", "0001-01-01T00:00:00Z", "2026-11-23", "2026-13-23T00:00:00Z", "yesterday"] {
            assert_eq!(seconds(unknown), None, "{unknown}");
        }
    }
}
