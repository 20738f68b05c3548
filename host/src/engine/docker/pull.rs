//! Fetching images.

use std::collections::HashMap;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;

use super::errors::engine_error;
use crate::engine::EngineError;
use crate::progress::{Progress, SharedProgress};

/// `POST /images/create`, to its end.
pub(super) async fn pull(
    api: &bollard::Docker,
    image: &str,
    progress: SharedProgress,
) -> Result<(), EngineError> {
    let (name, tag) = split(image);
    let options = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
    let mut events = api.create_image(Some(options), None, None);
    let mut layers = Layers::default();
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| missing(engine_error(image, error)))?;
        let (Some(layer), Some(status)) = (event.id, event.status) else {
            continue;
        };
        let detail = event.progress_detail.unwrap_or_default();
        if layers.note(layer, &status, detail.current, detail.total) {
            let (current, total) = layers.sum();
            progress.report(Progress::Pull { image: image.to_owned(), current, total });
        }
    }
    // Some versions of Podman tell of a failure in a field that bollard does not know.
    api.inspect_image(image).await.map(drop).map_err(|error| engine_error(image, error))
}

/// Name and tag or digest; `latest` where there is neither, as without one every tag would be fetched.
fn split(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        // A tag beside a digest says nothing.
        return (split(name).0, digest);
    }
    match image.rsplit_once(':') {
        // A colon before the last slash is the registry's port.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// The registry's "there is none" reaches us as words in a stream, not as a status.
fn missing(error: EngineError) -> EngineError {
    let EngineError::Failed { object, message } = error else {
        return error;
    };
    let lower = message.to_ascii_lowercase();
    let none = ["manifest unknown", "name unknown", "repository does not exist", "no matching manifest"];
    let not_found = lower.contains("manifest for") && lower.contains("not found");
    if not_found || none.iter().any(|words| lower.contains(words)) {
        return EngineError::NotFound { object, message };
    }
    EngineError::Failed { object, message }
}

/// Bytes fetched and in all, by layer.
#[derive(Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    /// Whether it changed anything.
    fn note(&mut self, layer: String, status: &str, current: Option<i64>, total: Option<i64>) -> bool {
        let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
        match status {
            // `Extracting` counts the same bytes once more.
            "Downloading" => {
                let known = self.0.entry(layer).or_default();
                *known = (bytes(current), known.1.max(bytes(total)));
                true
            }
            "Download complete" | "Pull complete" => match self.0.get_mut(&layer) {
                Some(known) if known.0 < known.1 => {
                    known.0 = known.1;
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn sum(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_means_latest() {
        assert_eq!(split("redis"), ("redis", "latest"));
        assert_eq!(split("redis:7-alpine"), ("redis", "7-alpine"));
        assert_eq!(split("localhost:5000/a/redis"), ("localhost:5000/a/redis", "latest"));
        assert_eq!(split("localhost:5000/redis:7"), ("localhost:5000/redis", "7"));
        assert_eq!(split("redis:7@sha256:00ff"), ("redis", "sha256:00ff"));
    }

    #[test]
    fn layers_add_up_and_extracting_does_not_count() {
        let mut layers = Layers::default();
        assert!(layers.note("a".into(), "Downloading", Some(10), Some(100)));
        assert!(layers.note("b".into(), "Downloading", Some(5), Some(50)));
        assert!(!layers.note("b".into(), "Extracting", Some(1), Some(50)));
        assert_eq!(layers.sum(), (15, 150));
        assert!(layers.note("a".into(), "Download complete", None, None));
        assert!(!layers.note("a".into(), "Pull complete", None, None));
        assert_eq!(layers.sum(), (105, 150));
    }
}
