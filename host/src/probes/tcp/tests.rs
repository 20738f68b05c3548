#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::*;

/// A server that treats one connection as it is told.
async fn server<F, T>(treat: F) -> Endpoint
where
    F: FnOnce(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        treat(stream).await;
    });
    Endpoint { address: "127.0.0.1".to_owned(), port }
}

/// Reads a request, sends this, and keeps the connection open.
async fn replies(reply: impl Into<Vec<u8>>) -> Endpoint {
    let reply = reply.into();
    server(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(&reply).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
    })
    .await
}

/// The same, but closes the connection.
async fn replies_and_closes(reply: &'static [u8]) -> Endpoint {
    server(move |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(reply).await;
    })
    .await
}

async fn in_time<T>(asked: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), asked).await.expect("no answer in time")
}

async fn check(endpoint: &Endpoint, check: Check) -> Result<(), String> {
    in_time(TcpProbes::new().check(endpoint, check)).await.map_err(|error| error.message)
}

async fn command(endpoint: &Endpoint, max_bytes: usize) -> Result<Reply, String> {
    let args = ["GET".to_owned(), "key".to_owned()];
    in_time(TcpProbes::new().command(endpoint, &args, max_bytes)).await.map_err(|error| error.message)
}

fn info(bgsave: u8, rewrite: u8, scheduled: u8) -> Vec<u8> {
    let text = format!(
        "# Persistence\r\nloading:0\r\nrdb_bgsave_in_progress:{bgsave}\r\naof_enabled:0\r\n\
         aof_rewrite_in_progress:{rewrite}\r\naof_rewrite_scheduled:{scheduled}\r\n"
    );
    format!("+PONG\r\n${}\r\n{text}\r\n", text.len()).into_bytes()
}

#[tokio::test]
async fn pong_is_ready() {
    check(&replies("+PONG\r\n").await, Check::RedisPing).await.unwrap();
}

#[tokio::test]
async fn a_demand_for_a_password_is_ready() {
    for error in ["-NOAUTH Authentication required.\r\n", "-WRONGPASS bad\r\n", "-NOPERM no\r\n"] {
        check(&replies(error).await, Check::RedisPing).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_cannot_serve_yet_is_not_ready() {
    for error in ["LOADING Redis is loading the dataset in memory", "BUSY script", "MISCONF", "MASTERDOWN x"]
    {
        let seen = check(&replies(format!("-{error}\r\n")).await, Check::RedisPing).await.unwrap_err();
        assert_eq!(seen, format!("replied to PING with the error \"{error}\""));
    }
}

#[tokio::test]
async fn an_echo_of_the_probes_own_bytes_is_not_ready() {
    for asked in [Check::RedisPing, Check::RedisIdle, Check::MemcachedVersion] {
        let echo = server(|mut stream| async move {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                let _ = stream.write_all(&bytes[..count]).await;
            }
        });
        assert!(check(&echo.await, asked).await.is_err(), "{asked:?}");
    }
}

#[tokio::test]
async fn a_connection_to_itself_is_given_up() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let stream = socket.connect(address).await.unwrap();
    assert!(refuse_itself(&stream).unwrap_err().contains("itself"));
    drop(stream);
    // The port is free for the engine.
    TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_said_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let endpoint = Endpoint { address: "127.0.0.1".to_owned(), port };
    let error = in_time(TcpProbes.check(&endpoint, Check::RedisPing)).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("127.0.0.1:{port}: ")), "{error}");
}

#[tokio::test]
async fn a_proxy_that_accepts_and_closes_is_not_ready() {
    for asked in [Check::RedisPing, Check::MemcachedVersion] {
        let seen = check(&replies_and_closes(b"").await, asked).await.unwrap_err();
        assert!(seen.contains("without a reply") || seen.contains("broke off"), "{seen}");
    }
}

#[tokio::test]
async fn half_a_reply_is_an_error() {
    for half in [&b"+PON"[..], b"+PONG", b"+PONG\r", b"-NOAUTH", b"$4\r\nab", b"$4\r\nabcd", b":1", b"*2"] {
        let endpoint = replies_and_closes(half).await;
        assert!(command(&endpoint, 100).await.is_err(), "{:?}", half.escape_ascii().to_string());
    }
    assert!(check(&replies_and_closes(b"VERSION 1.6").await, Check::MemcachedVersion).await.is_err());
}

#[tokio::test]
async fn what_is_not_the_protocol_is_an_error_at_once() {
    for odd in
        ["HTTP/1.1 400 Bad Request", "\0\0\0", "+PONG\n", "$x\r\n", "$-2\r\n", "$+1\r\na\r\n", ":1x\r\n"]
    {
        let seen = command(&replies(odd).await, 100).await.unwrap_err();
        assert!(seen.contains("not a reply"), "{odd:?}: {seen}");
    }
    let seen = command(&replies("$2\r\nabcdef\r\n").await, 100).await.unwrap_err();
    assert_eq!(seen, "a string of 2 bytes ended with \"cd\"");
}

#[tokio::test]
async fn a_reply_byte_by_byte_is_understood() {
    let endpoint = server(|mut stream| async move {
        for byte in info(0, 0, 0) {
            let _ = stream.write_all(&[byte]).await;
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
    });
    check(&endpoint.await, Check::RedisIdle).await.unwrap();
}

#[tokio::test]
async fn each_kind_of_reply_is_understood() {
    for (sent, understood) in [
        ("+OK\r\n", Reply::Status("OK".to_owned())),
        ("-ERR no such key\r\n", Reply::Error("ERR no such key".to_owned())),
        (":-12\r\n", Reply::Integer(-12)),
        ("$5\r\na\r\nbc\r\n", Reply::Bulk(b"a\r\nbc".to_vec())),
        ("$0\r\n\r\n", Reply::Bulk(Vec::new())),
        ("$-1\r\n", Reply::Nil),
        ("*-1\r\n", Reply::Nil),
        ("*3\r\n:1\r\n:2\r\n:3\r\n", Reply::Aggregate(3)),
    ] {
        assert_eq!(command(&replies(sent).await, 100).await.unwrap(), understood, "{sent:?}");
    }
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let endpoint = server(|mut stream| async move {
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        bytes.truncate(count);
        let _ = sender.send(bytes);
        let _ = stream.write_all(b"+OK\r\n").await;
    })
    .await;
    let args = ["SET".to_owned(), "a\r\n\0b".to_owned(), "ü".to_owned(), String::new()];
    in_time(TcpProbes.command(&endpoint, &args, 10)).await.unwrap();
    let expected = "*4\r\n$3\r\nSET\r\n$5\r\na\r\n\0b\r\n$2\r\nü\r\n$0\r\n\r\n";
    assert_eq!(receiver.await.unwrap(), expected.as_bytes());

    let error = in_time(TcpProbes.command(&endpoint, &[], 10)).await.unwrap_err();
    assert!(error.message.contains("no command"), "{error}");
}

#[tokio::test]
async fn a_huge_string_announced_is_cut_and_not_waited_for() {
    for announced in ["524288000", "18446744073709551615"] {
        let mut reply = format!("${announced}\r\n").into_bytes();
        reply.extend_from_slice(&[b'x'; 64]);
        let Reply::Bulk(bytes) = command(&replies(reply).await, 64).await.unwrap() else {
            panic!("not a string");
        };
        // What was set aside follows what came.
        assert!(bytes.len() == 64 && bytes.capacity() <= 64 * 1024);
    }
    let closed = replies_and_closes(b"$524288000\r\nabc").await;
    let seen = command(&closed, usize::MAX).await.unwrap_err();
    assert_eq!(seen, "closed the connection after 3 of 524288000 bytes");
}

#[tokio::test]
async fn arrays_nested_deep_do_no_harm() {
    let deep = "*1\r\n".repeat(200_000);
    assert_eq!(command(&replies(deep).await, 100).await.unwrap(), Reply::Aggregate(1));
    assert!(command(&replies("*4294967296\r\n").await, 100).await.is_err());
}

#[tokio::test]
async fn an_endless_error_is_cut() {
    let endless = [b"-ERR ", "ü".repeat(1_000_000).as_bytes()].concat();
    let Reply::Error(error) = command(&replies(endless).await, 100).await.unwrap() else {
        panic!("not an error");
    };
    assert!(error.starts_with("ERR üü") && error.len() <= 4096);
    assert!(command(&replies("+".repeat(100_000)).await, 100).await.is_err());
}

#[tokio::test]
async fn idle_is_when_nothing_is_under_way_or_scheduled() {
    check(&replies(info(0, 0, 0)).await, Check::RedisIdle).await.unwrap();
    for (busy, field) in [
        (info(1, 0, 0), "rdb_bgsave_in_progress"),
        (info(0, 1, 0), "aof_rewrite_in_progress"),
        (info(0, 0, 1), "aof_rewrite_scheduled"),
    ] {
        let seen = check(&replies(busy).await, Check::RedisIdle).await.unwrap_err();
        assert_eq!(seen, format!("{field} is \"1\""));
    }
}

#[tokio::test]
async fn a_server_that_does_not_say_whether_it_is_idle_is_not() {
    for reply in [
        "+PONG\r\n$3\r\na:0\r\n",
        "+PONG\r\n-ERR unknown command\r\n",
        "+PONG\r\n$-1\r\n",
        "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n",
        "-LOADING x\r\n-LOADING x\r\n",
    ] {
        assert!(check(&replies(reply).await, Check::RedisIdle).await.is_err(), "{reply:?}");
    }
}

#[tokio::test]
async fn memcached_is_ready_when_it_says_its_version() {
    check(&replies("VERSION 1.6.38\r\n").await, Check::MemcachedVersion).await.unwrap();
    for reply in ["ERROR\r\n", "VERSION \r\n", "VERSION 1\n", "version\r\n", "-ERR unknown command\r\n"] {
        assert!(check(&replies(reply).await, Check::MemcachedVersion).await.is_err(), "{reply:?}");
    }
}
