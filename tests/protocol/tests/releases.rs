//! One contract for all releases, and for the fake scheduler that stands for them in other tests.

use protocol_tests::{contract, fake::FakeCluster, lab::Lab};
use rstest::rstest;

#[rstest]
#[case::oldest("2022.12.0")]
#[case::middle("2024.12.0")]
#[case::counting("2025.4.0")]
#[case::newest("2026.8.0")]
#[tokio::test(flavor = "multi_thread")]
async fn contract_holds_for_real_schedulers(#[case] release: &str) {
    let mut lab = Lab::start(release, 3, &[]).await;
    contract::holds_for(&mut lab).await;
}

#[rstest]
#[case([2022, 12, 0], false)]
#[case([2024, 12, 0], true)]
#[case([2026, 8, 0], true)]
#[case([2026, 8, 0], false)]
#[tokio::test]
async fn contract_holds_for_the_fake_scheduler(#[case] release: [u64; 3], #[case] has_module: bool) {
    let mut cluster = FakeCluster::start(release, has_module).await;
    contract::holds_for(&mut cluster).await;
}
