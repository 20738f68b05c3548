//! What `wit/` generates. Private to the crate; other modules convert from and to native types.

#![allow(missing_docs, clippy::all, clippy::panic, clippy::unwrap_used, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "fakecloud:elasticache/docker.container": crate::capabilities::ContainerHandle,
        "fakecloud:elasticache/docker.volume": crate::capabilities::VolumeHandle,
        "fakecloud:elasticache/kube.pod": crate::capabilities::PodHandle,
        "fakecloud:elasticache/kube.claim": crate::capabilities::ClaimHandle,
        "fakecloud:elasticache/snapshots.snapshot": crate::snapshot::Snapshot,
        "fakecloud:elasticache/exec.output": crate::engine::ExecOutput,
    },
});
