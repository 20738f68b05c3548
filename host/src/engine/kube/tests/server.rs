//! The scripted API server.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tower::BoxError;

use super::*;

type Answered = UnsyncBoxBody<Bytes, BoxError>;

/// A request that has to come, and what it gets.
pub(super) struct Step {
    method: Method,
    /// The path, up to a `*` if it has one, and some pairs of the query.
    path: &'static str,
    query: Vec<&'static str>,
    /// What the body has to have, by JSON pointer.
    body: Vec<(&'static str, Value)>,
    answer: Answer,
}

enum Answer {
    Json(u16, Value),
    /// The object that was posted last, as it is after that.
    Posted,
    /// Events, and then the end of the stream, or none.
    Events(Vec<Value>, bool),
    /// The connection breaks.
    Reset(io::ErrorKind),
}

impl Step {
    fn new(method: Method, path: &'static str, answer: Answer) -> Step {
        Step { method, path, query: Vec::new(), body: Vec::new(), answer }
    }

    pub(super) fn json(method: Method, path: &'static str, code: u16, answer: Value) -> Step {
        Step::new(method, path, Answer::Json(code, answer))
    }

    pub(super) fn reset(method: Method, path: &'static str, kind: io::ErrorKind) -> Step {
        Step::new(method, path, Answer::Reset(kind))
    }

    /// Tells of the object that was posted last.
    pub(super) fn posted(method: Method, path: &'static str) -> Step {
        Step::new(method, path, Answer::Posted)
    }

    /// A list of the one pod, as a watch begins with.
    pub(super) fn listed(items: &[Value]) -> Step {
        Step::json(Method::GET, PODS, 200, list(items)).query(&["fieldSelector=metadata.name%3Dp"])
    }

    /// A watch that sends these and ends.
    pub(super) fn watched(events: Vec<Value>) -> Step {
        Step::new(Method::GET, PODS, Answer::Events(events, true)).query(&["watch=true"])
    }

    /// A watch that sends these and goes on.
    pub(super) fn watching(events: Vec<Value>) -> Step {
        Step::new(Method::GET, PODS, Answer::Events(events, false)).query(&["watch=true"])
    }

    pub(super) fn query(mut self, pairs: &[&'static str]) -> Step {
        self.query.extend(pairs);
        self
    }

    pub(super) fn body(mut self, pointer: &'static str, value: impl Into<Value>) -> Step {
        self.body.push((pointer, value.into()));
        self
    }
}

pub(super) const PODS: &str = "/api/v1/namespaces/ns/pods";
pub(super) const POD: &str = "/api/v1/namespaces/ns/pods/p";

pub(super) fn event(kind: &str, object: Value) -> Value {
    json!({ "type": kind, "object": object })
}

/// Answers step by step; what comes unexpected is kept for the end of the test.
#[derive(Clone)]
pub(super) struct Script {
    steps: Arc<Mutex<VecDeque<Step>>>,
    posted: Arc<Mutex<Value>>,
    sent: Arc<Mutex<Vec<String>>>,
    unexpected: Arc<Mutex<Vec<String>>>,
}

/// A supplier that talks to such a server.
pub(super) fn cluster(steps: impl IntoIterator<Item = Step>) -> (Kube, Script) {
    let steps = Arc::new(Mutex::new(steps.into_iter().collect()));
    let (posted, sent) = (Arc::default(), Arc::default());
    let script = Script { steps, posted, sent, unexpected: Arc::default() };
    let answering = script.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let script = answering.clone();
        async move { script.answer(request).await }
    });
    let client = Client::new(service, "ns");
    let options = KubeOptions { namespace: Some("ns".to_owned()), ..KubeOptions::default() };
    (Kube { client, options, reach: Reach::Direct, pull: None }, script)
}

impl Script {
    async fn answer(&self, request: Request<Body>) -> Result<Response<Answered>, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let said = format!("{} {} {body}", head.method, head.uri);
        self.sent.lock().push(format!("{} {}", head.method, head.uri.path()));
        let Some(step) = self.steps.lock().pop_front() else {
            self.unexpected.lock().push(said.clone());
            panic!("nothing more was expected: {said}");
        };
        let query = head.uri.query().unwrap_or_default();
        let fits = head.method == step.method
            && match step.path.strip_suffix('*') {
                Some(start) => head.uri.path().starts_with(start),
                None => head.uri.path() == step.path,
            }
            && step.query.iter().all(|pair| query.split('&').any(|one| one == *pair))
            && step.body.iter().all(|(pointer, value)| body.pointer(pointer) == Some(value));
        if !fits {
            let wanted = format!("{} {} {:?} {:?}", step.method, step.path, step.query, step.body);
            self.unexpected.lock().push(format!("{said}, not {wanted}"));
            panic!("{said} came where {wanted} was expected");
        }
        if head.method == Method::POST {
            let mut posted = body;
            posted["metadata"]["uid"] = "u".into();
            *self.posted.lock() = posted;
        }
        let json = |code: u16, answer: &Value| {
            let answered = Response::builder().status(code).header("date", "Wed, 25 Nov 2026 21:19:00 GMT");
            answered.body(Full::from(answer.to_string()).map_err(BoxError::from).boxed_unsync())
        };
        match step.answer {
            Answer::Json(code, answer) => Ok(json(code, &answer)?),
            Answer::Posted => Ok(json(200, &self.posted.lock())?),
            Answer::Reset(kind) => Err(Box::new(io::Error::from(kind))),
            Answer::Events(events, ends) => {
                let lines = events.into_iter().map(|event| {
                    Ok::<_, BoxError>(http_body::Frame::data(Bytes::from(format!("{event}\n"))))
                });
                let rest =
                    if ends { stream::empty().left_stream() } else { stream::pending().right_stream() };
                let body = StreamBody::new(stream::iter(lines.collect::<Vec<_>>()).chain(rest));
                Ok(Response::new(body.boxed_unsync()))
            }
        }
    }

    /// The object that was posted last.
    pub(super) fn last_posted(&self) -> Value {
        self.posted.lock().clone()
    }

    /// Methods and paths so far.
    pub(super) fn sent(&self) -> Vec<String> {
        self.sent.lock().clone()
    }

    /// What has to come next.
    pub(super) fn expect(&self, steps: impl IntoIterator<Item = Step>) {
        self.steps.lock().extend(steps);
    }

    /// That all came, and nothing else.
    #[track_caller]
    pub(super) fn done(&self) {
        assert_eq!(*self.unexpected.lock(), Vec::<String>::new());
        let left: Vec<String> =
            self.steps.lock().iter().map(|step| format!("{} {}", step.method, step.path)).collect();
        assert_eq!(left, Vec::<String>::new(), "did not come");
    }
}
