//! Images that lack `dask-scheduler` and `dask-worker`, so that the next pod of such an image starts right at once.
//!
//! They are kept by namespace: what one tenant's containers report decides nothing for another. After a restart of the
//! operator they are learned again from the annotations of what runs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::form::Image;

/// Images remembered of one namespace; of more, the oldest is forgotten, which costs its next pod one more start.
const MOST_IMAGES: usize = 64;
/// Namespaces of which images are remembered.
const MOST_NAMESPACES: usize = 4_096;

/// Images that lack the commands, of all namespaces.
#[derive(Debug, Default)]
pub struct LackingImages {
    by_namespace: Mutex<HashMap<Arc<str>, VecDeque<Image>>>,
}

impl LackingImages {
    /// Remembers that this image lacks the commands; returns whether that is new.
    pub fn remember(&self, namespace: &Arc<str>, image: Image) -> bool {
        let mut namespaces = self.by_namespace.lock().unwrap_or_else(PoisonError::into_inner);
        if namespaces.get(namespace).is_some_and(|images| images.contains(&image)) {
            return false;
        }
        if namespaces.len() >= MOST_NAMESPACES && !namespaces.contains_key(namespace) {
            // Never reached by a cluster of usual size; what is forgotten is learned again.
            namespaces.clear();
        }
        let images = namespaces.entry(namespace.clone()).or_default();
        if images.len() == MOST_IMAGES {
            images.pop_front();
        }
        images.push_back(image);
        true
    }

    /// Whether this image is known to lack the commands.
    pub fn contains(&self, namespace: &str, image: Image) -> bool {
        let namespaces = self.by_namespace.lock().unwrap_or_else(PoisonError::into_inner);
        namespaces.get(namespace).is_some_and(|images| images.contains(&image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(number: usize) -> Image {
        Image::new(&format!("dask:{number}"))
    }

    #[test]
    fn what_one_namespace_taught_is_its_own() {
        let (images, one) = (LackingImages::default(), Arc::from("one"));
        assert!(images.remember(&one, image(1)));
        assert!(!images.remember(&one, image(1)), "nothing new");
        assert!(images.contains("one", image(1)));
        assert!(!images.contains("two", image(1)) && !images.contains("one", image(2)));
    }

    #[test]
    fn a_tenant_with_many_images_costs_no_more_than_some() {
        let (images, one) = (LackingImages::default(), Arc::from("one"));
        (0..1_000).for_each(|number| {
            images.remember(&one, image(number));
        });
        assert!(!images.contains("one", image(0)) && images.contains("one", image(999)));
        assert_eq!(images.by_namespace.lock().unwrap()["one"].len(), MOST_IMAGES);
        (0..10_000).for_each(|number| {
            images.remember(&Arc::from(format!("ns-{number}")), image(0));
        });
        assert!(images.by_namespace.lock().unwrap().len() <= MOST_NAMESPACES);
    }
}
