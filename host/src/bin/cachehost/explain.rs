//! An environment's manifest in words.

use std::net::IpAddr;
use std::path::Path;

use elasticache_host::engine::kube::KubeOptions;
use elasticache_host::{Backend, Grants, Limits, Manifest, PolicyInfo};

/// A topic and what is to be said of it, in each row.
pub(crate) fn environment(path: &Path, manifest: &Manifest, policy: &PolicyInfo) -> Vec<Vec<String>> {
    let Manifest { backend, grants, limits, config, policy: source, .. } = manifest;
    let mut rows = vec![("environment", path.display().to_string())];
    let pinned = if source.sha256.is_some() { "pinned by its SHA-256" } else { "whatever it holds" };
    rows.push(("policy", format!("the file {}, {pinned}", policy.path.display())));
    if let Some(description) = &policy.description {
        rows.push(("", format!("{} {}: {}", description.name, description.version, description.summary)));
        rows.push(("promises", list(&description.promises).unwrap_or_else(|| "nothing".to_owned())));
        // Docker's interface is what drives Podman, too.
        let interface = if *backend == Backend::Kube { "kube" } else { "docker" };
        if !description.backends.contains(&interface) {
            rows.push((
                "warning",
                format!("this policy does not say that it can drive {}", backend.as_str()),
            ));
        }
    }
    rows.push(("backend", format!("caches run on {}", backend.as_str())));
    if *backend == Backend::Kube {
        rows.extend(cluster_in_words(&manifest.kube));
    }
    rows.extend(grants_in_words(grants));
    rows.extend(limits_in_words(limits));
    let names: Vec<&str> = config.0.keys().map(String::as_str).collect();
    rows.push(("settings", list(&names).unwrap_or_else(|| "none".to_owned())));
    rows.into_iter().map(|(topic, words)| vec![topic.to_owned(), words]).collect()
}

fn cluster_in_words(kube: &KubeOptions) -> Vec<(&'static str, String)> {
    let file = kube.kubeconfig.as_ref().map(|path| path.display().to_string());
    let context = kube.context.as_ref().map_or_else(|| "its current context".to_owned(), Clone::clone);
    let storage = match &kube.storage_class {
        Some(class) => format!("data lies on claims of the storage class {class}"),
        None => "data lies in its pod, and goes with it".to_owned(),
    };
    vec![
        (
            "cluster",
            match file {
                Some(file) => format!("the one of {context} in {file}"),
                None => format!("the one around it, else the one of {context} in the user's kubeconfig"),
            },
        ),
        ("", format!("pods are in the namespace {}, {storage}", kube.namespace())),
    ]
}

fn grants_in_words(grants: &Grants) -> Vec<(&'static str, String)> {
    let capabilities: Vec<&str> = grants.capabilities.iter().map(|capability| capability.as_str()).collect();
    let programs: Vec<&String> = grants.exec.iter().collect();
    let namespaces: Vec<_> = grants.namespaces.iter().collect();
    vec![
        (
            "interfaces",
            match list(&capabilities) {
                Some(names) => format!("may use {names}; every other one is denied"),
                None => "may use none, so that it can start nothing".to_owned(),
            },
        ),
        (
            "images",
            match list(&grants.images) {
                Some(patterns) => format!("may use and fetch those that fit {patterns}"),
                None => "may use none".to_owned(),
            },
        ),
        ("volumes", if grants.volumes { "may keep data on them" } else { "may have none" }.to_owned()),
        (
            "programs",
            match list(&programs) {
                Some(names) => format!("may run {names} inside of containers"),
                None => "may run none inside of containers".to_owned(),
            },
        ),
        (
            "ports",
            match list(&grants.publish) {
                Some(addresses) if grants.publish.iter().all(IpAddr::is_loopback) => {
                    format!("may be published at {addresses}, which only this machine reaches")
                }
                Some(addresses) => {
                    format!(
                        "may be published at {addresses}: other machines may reach caches, which have no password"
                    )
                }
                None => "may not be published".to_owned(),
            },
        ),
        (
            "namespaces",
            match list(&namespaces) {
                Some(names) => format!("may have pods in {names}"),
                None => "may have pods in none".to_owned(),
            },
        ),
        (
            "labels",
            match list(&grants.labels) {
                Some(patterns) => format!("may set those that fit {patterns}"),
                None => "may set none".to_owned(),
            },
        ),
    ]
}

fn limits_in_words(limits: &Limits) -> Vec<(&'static str, String)> {
    let size = |bytes: usize| bytesize::ByteSize::b(bytes as u64).display().iec().to_string();
    let time = |time| humantime::format_duration(time).to_string();
    vec![
        (
            "limits",
            format!(
                "an operation may take {}, fetching an image {}, cleaning up {}",
                time(limits.wall_time),
                time(limits.pull),
                time(limits.cleanup)
            ),
        ),
        (
            "",
            format!(
                "its policy may compute for {} in {} of memory, {} elements of tables and {} core instances",
                time(limits.guest_time),
                size(limits.memory),
                limits.tables,
                limits.instances
            ),
        ),
        (
            "",
            format!(
                "it may make {} calls, hand over {} in each and {} in all, hold {} objects, and log {}",
                limits.host_calls,
                size(limits.bytes_per_call),
                size(limits.bytes_total),
                limits.handles,
                size(limits.log_bytes)
            ),
        ),
    ]
}

/// `None` for an empty list.
fn list(items: &[impl ToString]) -> Option<String> {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    (!items.is_empty()).then(|| items.join(", "))
}
