//! Holding a server back while files are moved: an init container of the same image, with the same data.
//!
//! It opens a FIFO and reads: that ends when somebody has opened the other end and closed it again. Nothing polls,
//! and whoever comes first waits for the other. The FIFO lies on a volume of its own, so nothing of it is left on a
//! claim, and a pod that takes over the claim does not meet it.

/// The init container, and the volume on which its FIFO lies.
pub(super) const NAME: &str = "stage";
/// Where that volume is.
pub(super) const FOLDER: &str = "/fakecloud-stage";

const FIFO: &str = "/fakecloud-stage/release";

/// A shell that reads blockingly would not hear a signal until the kubelet kills it; one that waits does.
const HELD_BACK: &str = r#"trap 'exit 143' TERM INT
mkfifo "$1" 2>/dev/null
cat "$1" >/dev/null &
wait $!"#;
/// The other end is closed when this shell is gone, so that its end is known before its container ends.
const RELEASE: &str = r#"[ -p "$1" ] || mkfifo "$1" 2>/dev/null
exec 3>"$1""#;

/// What the init container runs.
pub(super) fn held_back() -> Vec<String> {
    ["sh", "-c", HELD_BACK, NAME, FIFO].map(str::to_owned).to_vec()
}

/// What lets the server go, run in the init container.
pub(super) fn release() -> Vec<String> {
    ["sh", "-c", RELEASE, NAME, FIFO].map(str::to_owned).to_vec()
}
