//! Who may do what: keys, certificates, tokens, and the files that hand them to clients.
//!
//! The API server and etcd listen on this machine only, but so may any of its users connect; hence nothing is
//! anonymous, and all files are for their owner alone.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::layout::{Layout, NAME, api_url};
use super::network::Subnet;
use crate::process;

const OPENSSL: Duration = Duration::from_secs(60);

/// How long certificates are good for. A cluster is made for a day's work.
const DAYS: &str = "3650";

/// A user with a token.
struct User {
    name: &'static str,
    group: Option<&'static str>,
    kubeconfig: &'static str,
}

/// Kubernetes knows the rights of its own parts by their names.
const USERS: [User; 4] = [
    User { name: "admin", group: Some("system:masters"), kubeconfig: "kubeconfig" },
    User { name: "system:kube-controller-manager", group: None, kubeconfig: "controller-manager.kubeconfig" },
    User { name: "system:kube-scheduler", group: None, kubeconfig: "scheduler.kubeconfig" },
    User {
        name: "system:node:fakecloud-elasticache",
        group: Some("system:nodes"),
        kubeconfig: "kubelet.kubeconfig",
    },
];

/// Makes what is missing.
pub(super) fn set_up(layout: &Layout, subnet: Subnet) -> Result<()> {
    if !layout.pki("complete").exists() {
        certificates(layout, subnet).context("cannot make certificates")?;
        write(&layout.pki("complete"), "")?;
    }
    if !layout.tokens().exists() {
        tokens(layout)?;
    }
    Ok(())
}

/// Creates a folder for its owner alone.
pub(super) fn private_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Writes a file for its owner alone.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// curl's option with the administrator's token: as a file, for command lines are public.
pub(super) fn header(layout: &Layout) -> PathBuf {
    layout.file("admin.header")
}

fn tokens(layout: &Layout) -> Result<()> {
    let mut lines = String::new();
    for user in &USERS {
        let token = random_token()?;
        let group = user.group.map_or(String::new(), |group| format!(",\"{group}\""));
        lines.push_str(&format!("{token},{name},{name}{group}\n", name = user.name));
        write(&layout.file(user.kubeconfig), &kubeconfig(layout, user.name, &token))?;
        if user.name == "admin" {
            write(&header(layout), &format!("Authorization: Bearer {token}\n"))?;
        }
    }
    // Last: what is there makes all of it done.
    write(&layout.tokens(), &lines)
}

/// JSON, which is YAML as well.
fn kubeconfig(layout: &Layout, user: &str, token: &str) -> String {
    let value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [{
            "name": NAME,
            "cluster": { "server": api_url(), "certificate-authority": layout.pki("ca.crt") },
        }],
        "users": [{ "name": user, "user": { "token": token } }],
        "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": user, "namespace": "default" } }],
    });
    format!("{value:#}\n")
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 24];
    let mut random = fs::File::open("/dev/urandom").context("cannot open /dev/urandom")?;
    random.read_exact(&mut bytes).context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn certificates(layout: &Layout, subnet: Subnet) -> Result<()> {
    private_folder(&layout.pki(""))?;
    key(layout, "ca")?;
    let mut authority = openssl(layout, &["req", "-x509", "-new", "-key", "ca.key", "-out", "ca.crt"]);
    authority.args(["-days", DAYS, "-subj", "/CN=fakecloud-elasticache-cluster"]);
    authority.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
    process::output(&mut authority, OPENSSL)?;

    let local = "IP:127.0.0.1,DNS:localhost";
    // The API server is etcd's client, and the kubelet's, which asks back what this group may do.
    certificate(layout, "apiserver", "/O=system:masters/CN=kube-apiserver", local)?;
    certificate(layout, "etcd", "/CN=etcd", local)?;
    certificate(layout, "kubelet", "/CN=kubelet", &format!("IP:{}", subnet.node()))?;

    // What service accounts' tokens are signed with. The API server reads no public key out of a private one.
    key(layout, "service-account")?;
    let arguments = ["pkey", "-in", "service-account.key", "-pubout", "-out", "service-account.pub"];
    process::output(&mut openssl(layout, &arguments), OPENSSL).map(drop)
}

fn certificate(layout: &Layout, name: &str, subject: &str, addresses: &str) -> Result<()> {
    key(layout, name)?;
    let [own_key, request, extensions, result] =
        ["key", "csr", "ext", "crt"].map(|kind| format!("{name}.{kind}"));
    let mut ask = openssl(layout, &["req", "-new", "-key", &own_key, "-subj", subject, "-out", &request]);
    process::output(&mut ask, OPENSSL)?;
    let text = format!(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
         extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName={addresses}\n"
    );
    write(&layout.pki(&extensions), &text)?;
    let mut sign = openssl(layout, &["x509", "-req", "-in", &request, "-CA", "ca.crt", "-CAkey", "ca.key"]);
    sign.args(["-CAcreateserial", "-days", DAYS, "-extfile", &extensions, "-out", &result]);
    process::output(&mut sign, OPENSSL).map(drop)
}

fn key(layout: &Layout, name: &str) -> Result<()> {
    let file = format!("{name}.key");
    let mut make = openssl(layout, &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    process::output(make.args(["-out", &file]), OPENSSL).map(drop)
}

fn openssl(layout: &Layout, arguments: &[&str]) -> std::process::Command {
    let mut command = process::command("openssl");
    command.args(arguments).current_dir(layout.pki(""));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_user_is_named_after_the_node() {
        assert!(USERS.iter().any(|user| user.name == format!("system:node:{NAME}")));
    }

    #[test]
    fn two_tokens_differ() -> Result<()> {
        assert_ne!(random_token()?, random_token()?);
        Ok(())
    }
}
