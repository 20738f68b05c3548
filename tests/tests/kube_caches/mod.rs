//! Caches of 100,000 keys in a namespace of one test's own, beside pods that are nobody's business, and the real
//! `cachehost`, to which something happens in the middle of an operation.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use elasticache_host::engine::cluster::{Cluster as _, ObjectId, Pod, PodData, PodSpec};
use elasticache_host::probes::{Probes, Reply};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{self as k8s, PersistentVolumeClaim, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::kube_support::{self, World};
use crate::support::{Ran, cachehost, policy, ran};

pub const KEYS: u32 = 100_000;
/// Keys that are written at once: a script that writes all of them would be a single write.
const BATCH: u32 = 10_000;
/// By which pods and claims of every runtime are found.
const MANAGED: (&str, &str) = ("fakecloud-managed-by", "fakecloud");
const INSTANCE: &str = "fakecloud-instance";
const ID: &str = "fakecloud-elasticache";
/// What a pod carries that takes over from another one.
const FOLLOWS: &str = "fakecloud-policy-follows";
const OWN: &str = "kills";
const OTHER: &str = "another";
/// A line for each operation that begins, each request that does, and each call of the policy that ends.
const LOG: &str = "elasticache_host=debug,kube_client=debug";
const BEGINS: &str = "operation begins";
const EVENTS: [&str; 2] = ["builder: requesting", "capabilities: host call"];

const FILL: &str =
    "for n = ARGV[1], ARGV[2] - 1 do redis.call('SET', 'key-' .. n, 'value-' .. n) end return 'OK'";
/// Has the engine itself count the keys that have their values: one question instead of one for each.
const COUNT_KEPT: &str = "\
    local kept = 0 \
    for n = 0, tonumber(ARGV[1]) - 1 do \
        if redis.call('GET', 'key-' .. n) == 'value-' .. n then kept = kept + 1 end \
    end \
    return kept";

/// Where a dataset lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    OnClaim,
    InPod,
}

/// How an operation went to which something happened.
#[derive(Debug)]
pub struct Disturbed {
    /// All that it came to; its last is the one at which it happened if it was killed there.
    pub events: Vec<String>,
    pub code: Option<i32>,
    pub stderr: String,
}

pub struct Place {
    pub world: World,
    pub data: Data,
    probes: Arc<dyn Probes>,
    pods: Api<k8s::Pod>,
    claims: Api<PersistentVolumeClaim>,
    folder: tempfile::TempDir,
    foreign: Mutex<Vec<ObjectId>>,
}

impl Place {
    pub async fn new(data: Data) -> Place {
        let world = World::new().await;
        let namespace = world.kube.options().namespace().to_owned();
        let client: Client = kube_support::client().await;
        Place {
            probes: world.kube.probes(),
            pods: Api::namespaced(client.clone(), &namespace),
            claims: Api::namespaced(client, &namespace),
            folder: tempfile::Builder::new().prefix("cachehost-test-").tempdir().unwrap(),
            foreign: Mutex::default(),
            world,
            data,
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command line without its arguments, of this instance.
    fn command(&self, data: Data, instance: &str, data_folder: &str) -> Command {
        let options = self.world.kube.options();
        let mut command = Command::new(cachehost());
        command
            .env("FAKECLOUD_ELASTICACHE_DATA_DIR", self.file(data_folder))
            .env("FAKECLOUD_ELASTICACHE_CACHE_DIR", self.file("cache"))
            .env("FAKECLOUD_ELASTICACHE_POLICY", policy())
            .env_remove("CACHEHOST_LOG")
            .env_remove("FAKECLOUD_ELASTICACHE_ENV")
            .env_remove("FAKECLOUD_K8S_STORAGE_CLASS")
            .stdin(Stdio::null())
            .args(["--json", "--backend", "kube", "--instance", instance, "--namespace", options.namespace()])
            .arg("--kubeconfig")
            .arg(options.kubeconfig.as_ref().unwrap())
            .args(["--context", options.context.as_ref().unwrap()]);
        if data == Data::OnClaim {
            command.args(["--storage-class", &self.world.storage_class]);
        }
        command
    }

    /// Runs the command line to its end.
    pub fn cli(&self, args: &[&str]) -> Ran {
        ran(self.command(self.data, OWN, "data").args(args))
    }

    /// As `cli`, and it has to succeed; returns what it printed. Said with it: when this was.
    pub fn done(&self, args: &[&str], when: &str) -> Value {
        let ran = self.cli(args);
        assert_eq!(ran.code(), 0, "{args:?} {when}: {ran:?}");
        ran.json()
    }

    /// A process of the same instance on another machine: it shares no folder with the others.
    pub fn elsewhere(&self, args: &[&str]) -> Child {
        let mut command = self.command(self.data, OWN, "data-elsewhere");
        command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Another process on this machine.
    pub fn beside(&self, args: &[&str]) -> Child {
        let mut command = self.command(self.data, OWN, "data");
        command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the command line, and has something happen at its event number `at`, if it comes so far.
    pub fn disturbed(&self, args: &[&str], at: usize, disturb: impl FnOnce(&mut Child)) -> Disturbed {
        let mut command = self.command(self.data, OWN, "data");
        command.args(args).env("CACHEHOST_LOG", LOG).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut begun, mut events, mut stderr) = (false, Vec::new(), String::new());
        let mut disturb = Some(disturb);
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            begun |= line.contains(BEGINS);
            if begun && EVENTS.iter().any(|event| line.contains(event)) {
                if events.len() == at
                    && let Some(disturb) = disturb.take()
                {
                    disturb(&mut child);
                }
                events.push(line);
            } else if line.starts_with('{') {
                stderr = line;
            }
        }
        Disturbed { events, code: child.wait().unwrap().code(), stderr }
    }

    /// Kills it at this event; false if it did not come so far.
    pub fn killed_at(&self, args: &[&str], at: usize) -> bool {
        let done = self.disturbed(args, at, |child| child.kill().unwrap());
        assert!(matches!(done.code, None | Some(0)), "{args:?} at {at}: {done:?}");
        done.code.is_none()
    }

    /// How many events there are if nothing happens.
    pub fn events(&self, args: &[&str]) -> usize {
        let done = self.disturbed(args, usize::MAX, |_| ());
        assert_eq!(done.code, Some(0), "{args:?}: {done:?}");
        done.events.len()
    }

    pub async fn ask(&self, pod: &Pod, args: &[&str]) -> Reply {
        let at = self.world.kube.probed_at(pod, 6379).unwrap();
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        self.probes.command(&at, &args, 1 << 20).await.unwrap()
    }

    /// Writes all keys, each acknowledged.
    async fn fill(&self, id: &str) {
        let pod = self.only_pod(id, "before").await;
        for first in (0..KEYS).step_by(BATCH as usize) {
            let (first, last) = (first.to_string(), (first + BATCH).min(KEYS).to_string());
            assert_eq!(self.ask(&pod, &["EVAL", FILL, "0", &first, &last]).await, ok_bulk());
        }
    }

    pub async fn size(&self, pod: &Pod) -> i64 {
        match self.ask(pod, &["DBSIZE"]).await {
            Reply::Integer(count) => count,
            other => panic!("{other:?}"),
        }
    }

    pub async fn kept(&self, pod: &Pod) -> Reply {
        self.ask(pod, &["EVAL", COUNT_KEPT, "0", &KEYS.to_string()]).await
    }

    /// Pods of a cache of this instance, whoever made them look so left out.
    pub async fn pods_of(&self, id: &str) -> Vec<Pod> {
        let mut pods = self.world.kube.list_pods(&[MANAGED]).await.unwrap();
        let foreign = self.foreign.lock().unwrap().clone();
        pods.retain(|pod| {
            let says = |name: &str, value: &str| pod.annotations.get(name).is_some_and(|of| of == value);
            says(INSTANCE, OWN) && says(ID, id) && !foreign.contains(&pod.id)
        });
        pods
    }

    pub async fn only_pod(&self, id: &str, when: &str) -> Pod {
        let mut pods = self.pods_of(id).await;
        assert!(pods.len() == 1 && !pods[0].terminating, "{id} {when}: {pods:#?}");
        pods.remove(0)
    }

    async fn claims_of(&self, id: &str) -> usize {
        let wanted = ListParams::default().labels(&format!("{}={},{ID}={id}", MANAGED.0, MANAGED.1));
        self.claims.list(&wanted).await.unwrap().items.len()
    }

    /// Another hand deletes what pods a cache has, and waits for nothing.
    pub async fn delete_pods(&self, id: &str) {
        for pod in self.pods_of(id).await {
            // It may have gone by itself.
            let _ = self.pods.delete(&pod.id.name, &DeleteParams::default()).await;
        }
    }

    /// Ends the pod that takes over from another one which is there, and is not about to go; whether there are two.
    pub async fn end_successor(&self, id: &str) -> bool {
        let pods = self.pods_of(id).await;
        let [a, b] = &pods[..] else { return false };
        if a.terminating || b.terminating {
            return false;
        }
        // The first may have followed one that is long gone.
        let follows = |pod: &Pod, other: &Pod| pod.annotations.get(FOLLOWS) == Some(&other.id.uid);
        let successor = if follows(a, b) { a } else { b };
        assert!(follows(a, b) || follows(b, a), "{pods:#?}");
        let now = DeleteParams::default().grace_period(0);
        self.pods.delete(&successor.id.name, &now).await.unwrap();
        true
    }

    /// Makes a cache with all keys, and beside it what no operation on it may touch: a cache of another instance with
    /// the same name, and a pod that says of itself all that the cache's own says.
    pub async fn begin(&self, id: &str) {
        // Its data on no claim, and before there is one: that would be one with the cache's own.
        let up = ran(self.command(Data::InPod, OTHER, "data").args(["up", id]));
        assert_eq!(up.code(), 0, "{up:?}");
        let other = self.world.kube.find_pod(up.json()["handle"].as_str().unwrap()).await.unwrap().unwrap();
        self.foreign.lock().unwrap().push(other.id);
        self.done(&["up", id], "before");
        self.fill(id).await;
        let pod = self.only_pod(id, "before").await;
        let spec = PodSpec {
            name: format!("{id}-look-alike"),
            image: pod.image,
            args: Vec::new(),
            labels: pod.labels,
            annotations: pod.annotations,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            port: 6379,
            stop_grace: 1,
            staged: false,
            data: PodData::EmptyDir,
        };
        let look_alike = self.world.kube.create_pod(&spec).await.unwrap().id;
        self.foreign.lock().unwrap().push(look_alike);
    }

    /// That all those are as they were.
    pub async fn foreign_is_untouched(&self, when: &str) {
        let foreign = self.foreign.lock().unwrap().clone();
        for id in foreign {
            let pod = self.world.kube.find_pod(&id.name).await.unwrap();
            assert!(
                pod.as_ref().is_some_and(|pod| pod.id == id && !pod.terminating),
                "{when}: {id:?} {pod:?}"
            );
        }
    }

    /// Brings a cache up, which has to be all that it takes: it is one pod, on one claim if on any, its engine takes
    /// writes, what is not its own was left alone, and once more changes nothing.
    pub async fn comes_up(&self, id: &str, when: &str) -> Pod {
        let up = self.done(&["up", id], when);
        let pod = self.only_pod(id, when).await;
        assert_eq!(up["handle"], pod.id.name, "{when}");
        let claims = usize::from(self.data == Data::OnClaim);
        assert_eq!(self.claims_of(id).await, claims, "{id} {when}");
        let written = self.ask(&pod, &["SET", "key-0", "value-0", "XX"]).await;
        assert!(matches!(written, Reply::Status(_) | Reply::Nil), "{when}: {written:?}");
        let again = self.done(&["up", id], when);
        assert_eq!((&again["adopted"], &again["endpoint"]), (&Value::Bool(true), &up["endpoint"]), "{when}");
        assert_eq!(self.only_pod(id, when).await.id, pod.id, "{when}");
        self.foreign_is_untouched(when).await;
        pod
    }

    /// Makes a dataset another one than that of a snapshot that was taken before: one key more, and one changed.
    pub async fn make_old(&self, id: &str) {
        let pod = self.only_pod(id, "before").await;
        for (key, value) in [("old", "data"), ("key-0", "changed")] {
            assert_eq!(self.ask(&pod, &["SET", key, value]).await, Reply::Status("OK".to_owned()));
        }
    }

    /// Of a restore in the place of that: all of what was there, or all of the file.
    pub async fn is_old_or_new(&self, id: &str, when: &str) {
        let pod = self.comes_up(id, when).await;
        let old = matches!(self.ask(&pod, &["GET", "old"]).await, Reply::Bulk(_));
        // Its first key was written again as it came up.
        assert_eq!(self.kept(&pod).await, Reply::Integer(KEYS.into()), "{id} {when}");
        assert_eq!(self.size(&pod).await, i64::from(KEYS) + i64::from(old), "{id} {when}");
    }

    /// That there is nothing but so many caches, all of them up, and what is foreign: no object of an operation that
    /// was cut off, nor of one that mended it.
    pub async fn nothing_is_left_over(&self, caches: usize) {
        let foreign = self.foreign.lock().unwrap().len();
        let all = ListParams::default();
        let pods: Vec<_> = self.pods.list(&all).await.unwrap().items.into_iter().map(named).collect();
        assert_eq!(pods.len(), caches + foreign, "{pods:?}");
        let claims: Vec<_> = self.claims.list(&all).await.unwrap().items.into_iter().map(named).collect();
        let on_claims = if self.data == Data::OnClaim { caches } else { 0 };
        assert_eq!(claims.len(), on_claims, "{claims:?}");
        let leases: Api<Lease> = Api::namespaced(kube_support::client().await, self.world.namespace());
        let leases: Vec<_> = leases.list(&all).await.unwrap().items.into_iter().map(named).collect();
        assert!(leases.is_empty(), "{leases:?}");
        let secrets: Api<Secret> = Api::namespaced(kube_support::client().await, self.world.namespace());
        let mut secrets: Vec<_> = secrets.list(&all).await.unwrap().items.into_iter().map(named).collect();
        secrets.retain(|name| name.starts_with("fakecloud"));
        assert_eq!(secrets, ["fakecloud-elasticache-owner"]);
    }

    /// As `comes_up`, with every key.
    pub async fn comes_up_whole(&self, id: &str, when: &str) {
        let pod = self.comes_up(id, when).await;
        assert_eq!(self.kept(&pod).await, Reply::Integer(KEYS.into()), "{id} {when}");
        assert_eq!(self.size(&pod).await, i64::from(KEYS), "{id} {when}");
    }
}

fn named(object: impl ResourceExt) -> String {
    object.name_any()
}

fn ok_bulk() -> Reply {
    Reply::Bulk(b"OK".to_vec())
}
