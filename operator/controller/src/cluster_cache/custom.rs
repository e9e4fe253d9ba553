//! The custom resources, which kube's controllers read from a store of their own.

use std::fmt::Debug;
use std::sync::Arc;

use kube::Resource;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::Event;

use super::ObjectKey;
use super::records::resource_version;
use super::table::{Change, Delivery, Table, Versioned, WatchNumber};

impl<K: Resource> Versioned for Arc<K> {
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }

    fn resource_version(&self) -> u64 {
        resource_version(self.meta())
    }
}

/// Objects of one custom kind, also in the store from which kube's `Controller` takes them.
#[derive(Debug)]
pub(super) struct Custom<K: Resource<DynamicType = ()> + Clone + 'static> {
    table: Table<Arc<K>>,
    store: Store<K>,
    writer: Writer<K>,
}

impl<K: Resource<DynamicType = ()> + Clone + Debug + 'static> Default for Custom<K> {
    fn default() -> Self {
        let (store, mut writer) = store();
        // The store counts as filled at once; the triggers are held back until everything is.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        Self { table: Table::default(), store, writer }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + Debug + 'static> Custom<K> {
    pub(super) fn add_watch(&mut self, namespace: Option<&str>) -> WatchNumber {
        self.table.add_watch(namespace)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.table.is_ready()
    }

    pub(super) fn store(&self) -> Store<K> {
        self.store.clone()
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.table.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<K>)> {
        self.table.iter()
    }

    pub(super) fn deliver(&mut self, watch: WatchNumber, delivery: Delivery<Arc<K>>) -> Vec<Change<Arc<K>>> {
        let changes = self.table.deliver(watch, delivery);
        for change in &changes {
            self.mirror(change);
        }
        changes
    }

    pub(super) fn written(&mut self, object: &K) -> Option<Change<Arc<K>>> {
        let change = self.table.written(ObjectKey::of(object), Arc::new(object.clone()))?;
        self.mirror(&change);
        Some(change)
    }

    /// Brings a change to the store, and lets the table share the store's copy.
    fn mirror(&mut self, change: &Change<Arc<K>>) {
        match (&change.after, &change.before) {
            (Some(object), _) => {
                self.writer.apply_watcher_event(&Event::Apply(K::clone(object)));
                if let Some(shared) = self.store.get(&change.key.object_ref()) {
                    self.table.amend(&change.key, object.uid(), |own| *own = shared);
                }
            }
            (None, Some(object)) => self.writer.apply_watcher_event(&Event::Delete(K::clone(object))),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use dask_operator_api::{DaskWorkerGroup, DaskWorkerGroupSpec};

    use super::*;

    fn group(version: u64) -> DaskWorkerGroup {
        let mut group = DaskWorkerGroup::new("g", DaskWorkerGroupSpec::default());
        group.metadata.namespace = Some("ns".to_owned());
        group.metadata.uid = Some("u".to_owned());
        group.metadata.resource_version = Some(version.to_string());
        group
    }

    #[test]
    fn the_store_follows_and_shares_its_objects() {
        let mut groups = Custom::<DaskWorkerGroup>::default();
        let (store, key) = (groups.store(), ObjectKey::new("ns", "g"));
        let watch = groups.add_watch(None);
        groups.deliver(watch, Delivery::ListBegins);
        groups.deliver(watch, Delivery::ListEnds(1));
        groups.deliver(watch, Delivery::Applied(key.clone(), Some(Arc::new(group(2))), 2));
        assert!(Arc::ptr_eq(&store.get(&key.object_ref()).unwrap(), groups.get(&key).unwrap()));

        groups.written(&group(5));
        assert_eq!(store.get(&key.object_ref()).unwrap().resource_version(), 5);
        groups.deliver(watch, Delivery::Applied(key.clone(), Some(Arc::new(group(4))), 4));
        assert_eq!(store.get(&key.object_ref()).unwrap().resource_version(), 5);

        groups.deliver(watch, Delivery::Deleted(key.clone(), "u".into(), 6));
        assert!(store.get(&key.object_ref()).is_none() && groups.get(&key).is_none());
    }

    #[tokio::test]
    async fn controllers_do_not_wait_for_the_store() {
        assert!(Custom::<DaskWorkerGroup>::default().store().wait_until_ready().await.is_ok());
    }
}
