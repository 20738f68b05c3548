#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::UNIX_EPOCH;

use elasticache_host::Endpoint;
use elasticache_host::engine::cluster::{Cluster, Pod, PodGoal, PodPhase};
use elasticache_host::engine::{Content, NewFile};
use elasticache_host::probes::{Check, ProbeError, Probes, Reply};

use super::*;

mod data;
mod lifecycle;
mod records;
mod replicas;

const AOF: &[&str] = &["redis-server", "--appendonly", "yes", "--save", ""];
const POINTS: &[&str] = &["redis-server", "--save", "60", "1"];
const NEITHER: &[&str] = &["redis-server", "--appendonly", "no", "--save", ""];

/// A namespace, and what tests do in it, in few words.
struct Bench(SimKube);

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Bench {
    fn new() -> Self {
        Bench(SimKube::new())
    }

    fn spec(name: &str, args: &[&str]) -> PodSpec {
        PodSpec {
            name: name.into(),
            image: DEFAULT_IMAGES[0].into(),
            args: args.iter().map(|word| (*word).into()).collect(),
            labels: pairs(&[("a", "1")]),
            annotations: pairs(&[("said", "anything: at all")]),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            port: 6379,
            stop_grace: 10,
            staged: false,
            data: PodData::EmptyDir,
        }
    }

    async fn create(&self, spec: &PodSpec) -> ObjectId {
        self.0.create_pod(spec).await.unwrap().id
    }

    /// Created, and waited for.
    async fn run(&self, spec: &PodSpec) -> Pod {
        let id = self.create(spec).await;
        self.0.wait_for_pod(&id, PodGoal::Running).await.unwrap()
    }

    async fn claim(&self, name: &str) -> ObjectId {
        let spec = ClaimSpec {
            name: name.into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            storage_class: STORAGE_CLASS.into(),
            size: 5,
        };
        self.0.create_claim(&spec).await.unwrap().id
    }

    async fn see(&self, name: &str) -> Pod {
        self.0.find_pod(name).await.unwrap().unwrap()
    }

    async fn ask(&self, pod: &Pod, line: &str) -> Result<Reply, ProbeError> {
        let args: Vec<String> = line.split(' ').map(Into::into).collect();
        self.0.command(&at(pod), &args, 1024).await
    }

    async fn keys(&self, pod: &Pod) -> Reply {
        self.ask(pod, "DBSIZE").await.unwrap()
    }

    async fn put(&self, id: &ObjectId, path: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let file = NewFile { path: path.into(), content: Content::Bytes(bytes.to_vec()) };
        self.0.put_files(id, "/data", vec![file], Box::new(|_| {})).await
    }
}

fn at(pod: &Pod) -> Endpoint {
    Endpoint { address: pod.address.clone().unwrap(), port: 6379 }
}

fn ok() -> Reply {
    Reply::Status("OK".into())
}
