//! `add_worker_group` and `delete_worker_group`.

use serde::Deserialize;

use super::inside;

#[derive(Debug, Deserialize)]
struct Groups {
    first: Vec<String>,
    second: Vec<String>,
    third: Vec<String>,
    roles: Vec<String>,
    last: Vec<String>,
}

#[tokio::test]
async fn a_second_group_comes_scales_and_goes_beside_the_first() {
    let script = include_str!("../../../python/kubecluster/groups.py");
    inside("groups", script, async |_, groups: Groups| {
        assert!(groups.second.iter().all(|name| name.starts_with("groups-extra-worker-")), "{groups:?}");
        assert_eq!((groups.second.len(), groups.third.len()), (1, 3), "{groups:?}");
        assert!(groups.third.contains(&groups.first[0]) && groups.third.contains(&groups.second[0]));
        assert_eq!(groups.roles, ["extra", "extra", "none"]);
        assert_eq!(groups.last, groups.first, "only the second group went");
    })
    .await;
}
