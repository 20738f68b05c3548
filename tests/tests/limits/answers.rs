//! Answering something that cannot be.

use elasticache_host::Error;

use super::survived;

async fn is_no_answer(guest: &str) {
    let error = survived(guest).await;
    assert!(
        matches!(&error, Error::Other { message } if message.contains("the policy returned")),
        "{error:?}"
    );
}

#[tokio::test]
pub async fn bad_key() {
    is_no_answer("bad_key").await;
}

#[tokio::test]
pub async fn other_key() {
    is_no_answer("other_key").await;
}
