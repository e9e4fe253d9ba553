//! From the user's machine, by port-forward through the API server.

use e2e_tests::{Error, notebook::Notebook};

use super::{life, scaling};
use crate::harness::shared;

#[tokio::test]
async fn a_machine_outside_creates_scales_and_closes_by_port_forward() {
    shared("outside", async |scenario| {
        let notebook = Notebook::outside(scenario.kubernetes).await?;
        let life: life::Life = notebook.run(life::SCRIPT, &scenario.namespace, "outside").await?;
        life.check("outside");
        assert!(life.discovered.contains(&"outside".to_owned()), "{life:?}");
        let scaling: scaling::Scaling = notebook.run(scaling::SCRIPT, &scenario.namespace, "outside").await?;
        scaling.check();
        Ok::<(), Error>(())
    })
    .await;
}
