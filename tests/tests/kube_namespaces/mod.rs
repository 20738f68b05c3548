//! What the tests of caches on a real cluster share: a namespace of its own each, removed at its end.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use elasticache_host::engine::kube::KubeOptions;
use elasticache_host::{Backend, CacheKey, CacheSpec, Engine, Runtime, RuntimeBuilder};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::{BOUND, Ran, cachehost, policy, ran};

pub mod recorder;

/// The one Secret that stays: owners of the namespace share it.
pub const OWNER_SECRET: &str = "fakecloud-elasticache-owner";
/// Who may do nothing but what a test allows.
const RESTRICTED: &str = "cachehost-test";
const ROLE: &str = "test";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: these tests need a cluster; name a kubeconfig in KUBE_TEST_KUBECONFIG and one of its \
             contexts in KUBE_TEST_CONTEXT"
        )
    })
}

/// How a host gets to the cluster, and as whom.
#[derive(Debug, Clone)]
pub struct Login {
    pub kubeconfig: PathBuf,
    pub context: String,
}

impl Login {
    pub fn admin() -> Login {
        Login { kubeconfig: variable("KUBE_TEST_KUBECONFIG").into(), context: variable("KUBE_TEST_CONTEXT") }
    }

    pub fn file(&self) -> Kubeconfig {
        Kubeconfig::read_from(&self.kubeconfig).expect("a kubeconfig")
    }

    pub async fn config(&self) -> Config {
        let chosen =
            KubeConfigOptions { context: Some(self.context.clone()), ..KubeConfigOptions::default() };
        let mut config =
            Config::from_custom_kubeconfig(self.file(), &chosen).await.expect("a usable context");
        config.proxy_url = None;
        config
    }
}

/// One test's namespace, instance and folders. Dropping it removes all of them, however the test ended.
pub struct World {
    pub namespace: String,
    pub instance: String,
    pub client: Client,
    folder: tempfile::TempDir,
}

impl World {
    pub async fn new(name: &str) -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let namespace =
            format!("test-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let client = Client::try_from(Login::admin().config().await).expect("a client");
        let mut object = Namespace::default();
        object.metadata.name = Some(namespace.clone());
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &object).await.expect("a namespace can be made");
        World {
            instance: format!("of-{namespace}"),
            namespace,
            client,
            folder: tempfile::Builder::new().prefix("cachehost-test-").tempdir().unwrap(),
        }
    }

    /// A folder of this test's own.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn all<K>(&self) -> Vec<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        self.api::<K>().list(&ListParams::default()).await.unwrap().items
    }

    pub async fn pods(&self) -> Vec<Pod> {
        self.all().await
    }

    pub async fn pod(&self, name: &str) -> Pod {
        self.api::<Pod>().get(name).await.unwrap()
    }

    /// All pods, claims and Leases, and Secrets other than the owners' and those of service accounts, as kind and name.
    pub async fn objects(&self) -> Vec<String> {
        fn names<K: Resource<DynamicType = ()>>(all: &[K]) -> Vec<String> {
            all.iter()
                .map(|one| format!("{} {}", K::kind(&()), one.meta().name.as_deref().unwrap()))
                .collect()
        }
        let mut secrets: Vec<Secret> = self.all().await;
        secrets.retain(|secret| secret.type_.as_deref() != Some("kubernetes.io/service-account-token"));
        secrets.retain(|secret| secret.metadata.name.as_deref() != Some(OWNER_SECRET));
        let mut objects = names(&self.pods().await);
        objects.extend(names(&self.all::<PersistentVolumeClaim>().await));
        objects.extend(names(&self.all::<Lease>().await));
        objects.extend(names(&secrets));
        objects
    }

    /// What a pod is, apart from what its kubelet says of it from time to time.
    pub async fn life(&self, name: &str) -> Value {
        let pod = self.pod(name).await;
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        serde_json::json!({
            "uid": pod.metadata.uid,
            "labels": pod.metadata.labels,
            "annotations": pod.metadata.annotations,
            "deleted": pod.metadata.deletion_timestamp,
            "spec": pod.spec,
            "phase": phase,
        })
    }

    /// Polls until there is something. For what a cluster does and tells nobody.
    pub async fn eventually<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(began.elapsed() < BOUND, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A pod of somebody else's, as it runs.
    pub async fn somebody(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> String {
        let pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "cache", "image": "redis:7-alpine", "args": ["redis-server", "--save", ""]}],
            },
        }));
        self.api::<Pod>().create(&PostParams::default(), &pod.unwrap()).await.unwrap();
        self.eventually("somebody's pod runs", async || {
            let status = self.pod(name).await.status?;
            (status.phase.as_deref() == Some("Running")).then_some(())
        })
        .await;
        name.to_owned()
    }

    /// Who may do nothing here but what is allowed from now on: a service account, which every cluster can have.
    pub async fn restricted(&self) -> Login {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some(RESTRICTED.to_owned());
        let accounts = self.api::<ServiceAccount>();
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let asked = TokenRequest::default();
        let token = accounts.create_token_request(RESTRICTED, &PostParams::default(), &asked).await.unwrap();
        self.login(RESTRICTED, &Login::admin(), None, Some(&token.status.unwrap().token))
    }

    /// What the restricted account may do from now on.
    pub async fn allow(&self, rules: Vec<PolicyRule>) {
        let (roles, bindings) = (self.api::<Role>(), self.api::<RoleBinding>());
        let mut role = Role { rules: Some(rules), ..Role::default() };
        role.metadata.name = Some(ROLE.to_owned());
        if let Ok(there) = roles.get(ROLE).await {
            role.metadata.resource_version = there.metadata.resource_version;
            roles.replace(ROLE, &PostParams::default(), &role).await.unwrap();
        } else {
            roles.create(&PostParams::default(), &role).await.unwrap();
            let subject = Subject {
                api_group: None,
                kind: "ServiceAccount".to_owned(),
                name: RESTRICTED.to_owned(),
                namespace: Some(self.namespace.clone()),
            };
            let mut binding = RoleBinding {
                role_ref: RoleRef {
                    api_group: "rbac.authorization.k8s.io".to_owned(),
                    kind: "Role".to_owned(),
                    name: ROLE.to_owned(),
                },
                subjects: Some(vec![subject]),
                ..RoleBinding::default()
            };
            binding.metadata.name = Some(ROLE.to_owned());
            bindings.create(&PostParams::default(), &binding).await.unwrap();
        }
    }

    /// A kubeconfig like the administrator's, with this server and this token where they are given.
    pub fn login(&self, name: &str, like: &Login, server: Option<&str>, token: Option<&str>) -> Login {
        let mut file = like.file();
        if let Some(server) = server {
            for cluster in file.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
                cluster.server = Some(server.to_owned());
            }
        }
        if let Some(token) = token {
            let info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
            file.auth_infos.iter_mut().for_each(|user| user.auth_info = Some(info.clone()));
        }
        let kubeconfig = self.folder("logins").join(name);
        std::fs::write(&kubeconfig, serde_json::to_vec(&file).unwrap()).unwrap();
        Login { kubeconfig, context: like.context.clone() }
    }

    /// The options of a host in this namespace, with claims or without.
    pub fn options(&self, login: &Login, claims: bool) -> KubeOptions {
        let mut options = KubeOptions::default();
        options.kubeconfig = Some(login.kubeconfig.clone());
        options.context = Some(login.context.clone());
        options.namespace = Some(self.namespace.clone());
        options.storage_class = claims.then(storage_class);
        options
    }

    /// A runtime of this instance in this namespace, with a data folder of that name.
    pub fn builder(&self, instance: &str, data: &str, claims: bool) -> RuntimeBuilder {
        Runtime::builder()
            .backend(Backend::Kube)
            .kube(self.options(&Login::admin(), claims))
            .instance(instance)
            .policy_file(policy())
            .data_dir(self.folder(data))
            .cache_dir(self.folder.path().join("cache"))
            .timeout(BOUND)
    }

    pub async fn runtime(&self, claims: bool) -> Runtime {
        self.builder(&self.instance, "data", claims).build().await.unwrap()
    }

    /// The command line in this namespace, without its command.
    pub fn command(&self, login: &Login, claims: bool) -> Command {
        self.command_in(&self.namespace, login, claims)
    }

    pub fn command_in(&self, namespace: &str, login: &Login, claims: bool) -> Command {
        let mut command = Command::new(cachehost());
        command
            .args(["--backend", "kube", "--context", &login.context, "--namespace", namespace])
            .arg("--kubeconfig")
            .arg(&login.kubeconfig)
            .env("FAKECLOUD_ELASTICACHE_DATA_DIR", self.folder("data"))
            .env("FAKECLOUD_ELASTICACHE_CACHE_DIR", self.folder.path().join("cache"))
            .env("FAKECLOUD_ELASTICACHE_POLICY", policy())
            .env("FAKECLOUD_ELASTICACHE_INSTANCE", &self.instance)
            .env_remove("CACHEHOST_LOG")
            .stdin(Stdio::null())
            .current_dir(self.folder.path());
        if claims {
            command.args(["--storage-class", &storage_class()]);
        }
        command
    }

    /// Runs the command line with `--json`, to its end.
    pub fn cli(&self, login: &Login, claims: bool, args: &[&str]) -> Ran {
        let mut command = self.command(login, claims);
        command.arg("--json").args(args);
        run(&mut command)
    }

    /// As `cli`, and it has to succeed; returns what it printed.
    pub fn done(&self, login: &Login, claims: bool, args: &[&str]) -> Value {
        let ran = self.cli(login, claims, args);
        assert_eq!(ran.code(), 0, "{args:?}: {ran:?}");
        ran.json()
    }
}

/// Runs a process to its end while the test's other tasks go on.
pub fn run(command: &mut Command) -> Ran {
    tokio::task::block_in_place(|| ran(command))
}

fn storage_class() -> String {
    std::env::var("KUBE_TEST_STORAGE_CLASS").unwrap_or_else(|_| "hostpath".to_owned())
}

pub fn key(id: &str) -> CacheKey {
    CacheKey::new("", id).unwrap()
}

pub async fn set(runtime: &Runtime, key: &CacheKey, name: &str, value: &str) {
    let done = runtime.exec(key, &["SET", name, value].map(str::to_owned)).await.unwrap();
    assert!(done.success, "{done:?}");
}

pub async fn get(runtime: &Runtime, key: &CacheKey, name: &str) -> String {
    let done = runtime.exec(key, &["GET", name].map(str::to_owned)).await.unwrap();
    assert!(done.success, "{done:?}");
    String::from_utf8_lossy(&done.stdout).trim_end().to_owned()
}

pub fn redis_of(key: &CacheKey) -> CacheSpec {
    CacheSpec::new(key.clone(), Engine::Redis)
}

impl Drop for World {
    fn drop(&mut self) {
        let namespace = self.namespace.clone();
        // A runtime of its own: the test's may be on its way out.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::try_from(Login::admin().config().await).unwrap();
                let namespaces: Api<Namespace> = Api::all(client);
                let _ = namespaces.delete(&namespace, &DeleteParams::default()).await;
            });
        });
        let _ = cleaning.join();
    }
}
