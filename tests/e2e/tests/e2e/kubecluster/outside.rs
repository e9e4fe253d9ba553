//! From the user's machine, by port-forward through the API server.

use e2e_tests::{
    Error,
    notebook::{self, Names, SCALING, Shrinking},
};
use serde::Deserialize;
use testbed::images::DASK;

use super::life;
use crate::harness::shared;

#[derive(Debug, Deserialize)]
struct Seen {
    life: life::Life,
    scaling: Shrinking,
    left: bool,
}

#[tokio::test]
async fn a_machine_outside_creates_scales_and_closes_by_port_forward() {
    shared("outside", async |scenario| {
        let scripts = [life::SCRIPT, SCALING, "play(life, scaling)"];
        let names = Names { namespace: &scenario.namespace, cluster: "outside", image: DASK };
        let seen: Seen = notebook::run_outside(scenario.kubernetes, &scripts, names).await?;
        seen.life.check("outside");
        assert!(seen.life.discovered.contains(&"outside".to_owned()), "{seen:?}");
        assert_eq!(seen.scaling.checked()?.workers, [4, 2]);
        assert!(!seen.left, "close() returned before the cluster was gone");
        Ok::<(), Error>(())
    })
    .await;
}
