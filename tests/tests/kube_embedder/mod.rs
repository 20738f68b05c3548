//! An embedder that serves the files that pods fetch.

use std::sync::{Arc, Mutex};

use elasticache_host::PendingRdb;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// What pods asked for, and with which token.
pub type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// Where pods reach this process: at the node's address.
pub async fn listen(client: Client) -> TcpListener {
    let nodes: Api<Node> = Api::all(client);
    let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0);
    let addresses = node.status.unwrap().addresses.unwrap();
    let address = addresses.into_iter().find(|one| one.type_ == "InternalIP").unwrap().address;
    TcpListener::bind((address.as_str(), 0)).await.unwrap()
}

/// Serves what is pending to whom it is for, as long as the test's runtime lives.
pub async fn serve(
    listener: TcpListener,
    pending: PendingRdb,
    admits: impl Fn(&str, &str) -> bool,
    asked: Asked,
) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap() == 0 {
                break;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let pod = head.lines().next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let pod = pod.strip_prefix("/_fakecloud/elasticache/_internal/rdb/").unwrap_or_default().to_owned();
        let token = head.lines().find_map(|line| line.strip_prefix("Authorization: Bearer "));
        let token = token.unwrap_or_default().trim().to_owned();
        asked.lock().unwrap().push((pod.clone(), token.clone()));
        let body = if admits(&pod, &token) { pending.read().get(&pod).cloned() } else { None };
        let (status, body) = body.map_or(("403 Forbidden", Vec::new()), |body| ("200 OK", body));
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
    }
}
