//! A namespace of a real cluster that is there for one test.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{self, Seek as _, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use elasticache_host::Endpoint;
use elasticache_host::engine::cluster::{Cluster as _, ObjectId, PodData, PodSpec};
use elasticache_host::engine::kube::{Kube, KubeOptions, Reach};
use elasticache_host::engine::{Content, NewFile};
use elasticache_host::probes::{Check, Probes};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

/// Nothing here takes longer, unless it hangs.
const BOUND: Duration = Duration::from_secs(120);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: these tests need a cluster; name a kubeconfig in KUBE_TEST_KUBECONFIG and one of its \
             contexts in KUBE_TEST_CONTEXT"
        )
    })
}

/// What one test made; removed at its end, however it ends.
pub struct World {
    pub kube: Kube,
    /// Of the cluster, with a provisioner.
    pub storage_class: String,
    namespace: String,
}

impl World {
    pub async fn new() -> World {
        let namespace = World::name();
        let namespaces: Api<Namespace> = Api::all(client().await);
        let mut object = Namespace::default();
        object.metadata.name = Some(namespace.clone());
        namespaces.create(&PostParams::default(), &object).await.expect("a namespace can be made");
        let storage_class =
            std::env::var("KUBE_TEST_STORAGE_CLASS").unwrap_or_else(|_| "hostpath".to_owned());
        let kube = Kube::connect(options(&namespace, None)).await.expect("the cluster can be used");
        World { kube, storage_class, namespace }
    }

    /// Where all of it is.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The same cluster, with pods reached like that.
    pub async fn reaching(&self, reach: Reach) -> Kube {
        Kube::connect(options(&self.namespace, Some(reach))).await.unwrap()
    }

    pub fn name() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("test-engine-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Of a redis, with a name of its own.
    pub fn spec(&self) -> PodSpec {
        let name = World::name();
        PodSpec {
            labels: BTreeMap::from([("test-engine".to_owned(), name.clone())]),
            name,
            image: "redis:7-alpine".to_owned(),
            args: ["redis-server", "--protected-mode", "no"].map(str::to_owned).to_vec(),
            annotations: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            port: 6379,
            stop_grace: 10,
            staged: false,
            data: PodData::EmptyDir,
        }
    }

    /// Until the check holds.
    pub async fn ready(&self, probes: &dyn Probes, endpoint: &Endpoint, check: Check) {
        let ready = async {
            while probes.check(endpoint, check).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(BOUND, ready).await.is_err() {
            panic!("{:?}", probes.check(endpoint, check).await);
        }
    }

    /// Runs a line of shell, which has to end well and say this.
    pub async fn shell_says(&self, pod: &ObjectId, script: &str, words: &str) {
        let output = self.kube.exec(pod, &["sh", "-c", script].map(str::to_owned), 4096).await.unwrap();
        assert_eq!(output.exit_code, 0, "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), words);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let namespace = self.namespace.clone();
        // A runtime of its own: the test's may be on its way out.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let namespaces: Api<Namespace> = Api::all(client().await);
                let _ = namespaces.delete(&namespace, &DeleteParams::default()).await;
            });
        });
        let _ = cleaning.join();
    }
}

fn options(namespace: &str, reach: Option<Reach>) -> KubeOptions {
    let mut options = KubeOptions::default();
    options.kubeconfig = Some(PathBuf::from(variable("KUBE_TEST_KUBECONFIG")));
    options.context = Some(variable("KUBE_TEST_CONTEXT"));
    options.namespace = Some(namespace.to_owned());
    options.reach = reach;
    options
}

/// Of the cluster as a whole: namespaces are none of the supplier's business.
pub async fn client() -> Client {
    let file =
        Kubeconfig::read_from(variable("KUBE_TEST_KUBECONFIG")).expect("KUBE_TEST_KUBECONFIG can be read");
    let chosen =
        KubeConfigOptions { context: Some(variable("KUBE_TEST_CONTEXT")), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(file, &chosen).await.expect("KUBE_TEST_CONTEXT is in it");
    config.proxy_url = None;
    Client::try_from(config).expect("a client")
}

pub fn bytes_file(path: &str, bytes: &[u8]) -> NewFile {
    NewFile { path: path.to_owned(), content: Content::Bytes(bytes.to_vec()) }
}

/// A file of bytes that do not repeat soon.
pub fn big_file(length: u64) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    let mut state = 1u64;
    let mut left = length;
    let mut block = vec![0u8; 64 * 1024];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&state.to_le_bytes());
        }
        let count = left.min(block.len() as u64);
        file.write_all(&block[..count as usize]).unwrap();
        left -= count;
    }
    file.rewind().unwrap();
    file
}

pub fn nothing_moved() -> Box<dyn Fn(u64) + Send> {
    Box::new(|_| ())
}

#[derive(Clone, Default)]
pub struct Shared(pub Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
