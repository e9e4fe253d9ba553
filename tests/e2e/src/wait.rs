//! Waiting for a condition with a deadline, and telling what was seen when it did not come.

use std::time::{Duration, Instant};

use crate::Error;

/// Between two looks: short beside the start of a container, long beside a request.
const INTERVAL: Duration = Duration::from_millis(200);

/// What a look found.
#[derive(Debug)]
pub enum Look<T> {
    /// It is so.
    Done(T),
    /// Not yet; what is seen instead, for the message if it never comes.
    NotYet(String),
}

/// Looks until `look` finds what is awaited.
///
/// # Errors
/// When it was not found within `patience`, with the last thing seen; or at once with an error of `look` itself.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<Look<T>, Error>,
) -> Result<T, Error> {
    let start = Instant::now();
    loop {
        match look().await? {
            Look::Done(found) => return Ok(found),
            Look::NotYet(seen) if start.elapsed() >= patience => {
                return Err(Error::Timeout { what: what.to_owned(), seconds: patience.as_secs(), seen });
            }
            Look::NotYet(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn returns_what_was_found() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_mins(1), async || {
            looks += 1;
            Ok(if looks == 3 { Look::Done(looks) } else { Look::NotYet(format!("{looks} looks")) })
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_tells_what_was_seen_last() {
        let never = until("the end", Duration::ZERO, async || Ok(Look::<()>::NotYet("the beginning".into())));
        let error = never.await.unwrap_err().to_string();
        assert!(error.contains("the end") && error.contains("the beginning"), "{error}");
    }

    #[tokio::test]
    async fn an_error_ends_the_wait() {
        let fails = until("anything", Duration::from_mins(1), async || {
            Err::<Look<()>, _>(Error::Timeout { what: "inner".into(), seconds: 1, seen: String::new() })
        });
        assert!(fails.await.unwrap_err().to_string().contains("inner"));
    }
}
