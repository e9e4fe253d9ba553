//! The pages of a list, which are kept small however large the objects are.

use futures::{AsyncRead, AsyncReadExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most objects of a page: 10,000 pods of 8 kB come in 40 pages of 2 MB.
const MOST_OBJECTS: u32 = 250;
/// Most bytes of a page with more than one object. Seven lists run at a time, and each has a page in memory; an object
/// has 1.5 MB at most as etcd stores it.
const MOST_BYTES: u64 = 4 << 20;

/// One page, whose objects are decoded one by one.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

/// How many objects to ask for: fewer where they are large.
#[derive(Debug)]
pub(super) struct PageSize(u32);

impl Default for PageSize {
    fn default() -> Self {
        Self(MOST_OBJECTS)
    }
}

impl PageSize {
    /// The `limit` of the next page.
    pub(super) fn objects(&self) -> u32 {
        self.0
    }

    /// Reads a page; `None` if it is too large, and smaller ones must be asked for. A single object is read in any case.
    pub(super) async fn read(
        &mut self,
        body: impl AsyncRead + Unpin,
    ) -> Result<Option<Vec<u8>>, std::io::Error> {
        let mut bytes = Vec::new();
        let most = if self.0 > 1 { MOST_BYTES } else { u64::MAX - 1 };
        let read = body.take(most + 1).read_to_end(&mut bytes).await? as u64;
        if read > most {
            self.0 /= 2;
            return Ok(None);
        }
        if read < MOST_BYTES / 4 {
            self.0 = (2 * self.0).min(MOST_OBJECTS);
        }
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(size: &mut PageSize, each: usize, objects: usize) -> (Option<usize>, u32) {
        let body = vec![b' '; each * objects.min(size.objects() as usize)];
        let bytes = size.read(&body[..]).await.unwrap();
        (bytes.map(|bytes| bytes.len()), size.objects())
    }

    #[tokio::test]
    async fn large_objects_come_in_small_pages() {
        let (mut size, mut seen) = (PageSize::default(), Vec::new());
        let each = 1_350_000;
        loop {
            let (bytes, next) = read(&mut size, each, 1000).await;
            seen.push(next);
            if let Some(bytes) = bytes {
                assert!(bytes <= 4 << 20, "{bytes}");
                break;
            }
        }
        assert_eq!(seen, [125, 62, 31, 15, 7, 3, 3]);
        // One object is taken as large as it is.
        let mut one = PageSize(1);
        assert_eq!(read(&mut one, 12 << 20, 1).await, (Some(12 << 20), 1));
    }

    #[tokio::test]
    async fn pages_grow_again_where_objects_are_small() {
        let mut size = PageSize(3);
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push(read(&mut size, 8_000, 1000).await.1);
        }
        assert_eq!(seen, [6, 12, 24, 48, 96, 192, 192, 192]);
        let mut size = PageSize(192);
        assert_eq!(read(&mut size, 1_000, 1000).await.1, MOST_OBJECTS);
    }

    #[test]
    fn a_page_may_hold_nothing() {
        for text in [r#"{"metadata": {}, "items": null}"#, r#"{"items": []}"#, "{}"] {
            let page: Page = serde_json::from_str(text).unwrap();
            assert!(page.items.unwrap_or_default().is_empty());
        }
    }
}
