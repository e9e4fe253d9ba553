use super::*;

fn seconds(seconds: f32) -> Duration {
    Duration::from_secs_f32(seconds)
}

fn shrinking(executions: usize) -> Shrinking {
    Shrinking {
        workers: [4, 2],
        tasks: 80,
        unfinished: 30,
        executions,
        on_gone: 31,
        removed: 2,
        lost: 0,
        right: true,
    }
}

fn seen() -> Summary {
    Summary {
        cluster: "demo".to_owned(),
        notebook: "demo-notebook".to_owned(),
        workers: vec![2, 4, 2],
        total: 8e9,
        shrinking: shrinking(80),
        table: "NAME   PHASE     READY   AGE\ndemo   Running   2/2     14s   \n".to_owned(),
    }
}

#[test]
fn lines_are_columns() {
    let text = [
        done(Style::Plain, "Kubernetes", "v1.36.3 with the nodes node1 and node2", seconds(6.64)),
        done(Style::Plain, "Images", "are there", seconds(0.0)),
        done(Style::Plain, "Operator", &"a long story ".repeat(6), seconds(123.4)),
        failed(Style::Plain, "DaskCluster", "failed to see it"),
    ];
    insta::assert_snapshot!(text.concat(), @r"
      ✓ Kubernetes  v1.36.3 with the nodes node1 and node2                             6.6 s
      ✓ Images      are there                                                          0.0 s
      ✓ Operator    a long story a long story a long story a long story a long story a long story  123.4 s
      ✗ DaskCluster failed to see it
    ");
}

#[test]
fn a_terminal_sees_work_going_on_and_its_outcome_in_the_same_line() {
    let work = running(Style::Terminal, "Images", "the first time takes minutes");
    assert!(work.contains("minutes") && !work.ends_with('\n'), "{work:?}");
    assert!(done(Style::Terminal, "Images", "", seconds(1.0)).starts_with("\r\x1b[K"));
    assert!(failed(Style::Terminal, "Images", "").starts_with("\r\x1b[K"));
    assert_eq!(running(Style::Plain, "Images", "the first time takes minutes"), "");
}

#[test]
fn the_end_on_the_local_kubernetes() {
    let surroundings = Surroundings {
        kubeconfig: "/src/target/testbed/clusters/demo/kubeconfig".into(),
        kubectl: Some("/src/target/testbed/bin/1/kubectl".into()),
        local: true,
    };
    insta::assert_snapshot!(summary(&seen(), &surroundings, seconds(23.45)), @r#"

    Workers 2 → 4 → 2, the result 8,000,000,000 each time, 23.5 s in all.
    While 2 workers went, 80 tasks ran 80 times (31 of them on these workers): nothing computed again, 0 results lost.

    $ kubectl get daskcluster
    NAME   PHASE     READY   AGE
    demo   Running   2/2     14s

    The dashboard, at http://localhost:8787/status:
      export KUBECONFIG=/src/target/testbed/clusters/demo/kubeconfig
      alias kubectl=/src/target/testbed/bin/1/kubectl
      kubectl port-forward service/demo-scheduler 8787

    Try next:
      kubectl scale daskcluster demo --replicas=3
      kubectl describe daskcluster demo
      kubectl exec -it demo-notebook -- python
        >>> from dask_kubernetes.operator import KubeCluster
        >>> cluster = KubeCluster.from_name("demo"); cluster.scale(5)
        >>> cluster.get_client().submit(sum, range(1000)).result()
      make down    # ends the local Kubernetes and everything on it
    "#);
}

#[test]
fn on_somebodys_kubernetes_it_says_how_to_remove_what_was_made() {
    let surroundings = Surroundings { kubeconfig: "/k".into(), kubectl: None, local: false };
    let text = summary(&seen(), &surroundings, seconds(1.0));
    assert!(
        text.contains("helm uninstall dask-operator") && text.contains("kubectl delete daskcluster/demo")
    );
    assert!(!text.contains("make down") && !text.contains("alias"), "{text}");
}

#[test]
fn what_was_computed_again_is_told() {
    let summary_of = |executions| Summary { shrinking: shrinking(executions), ..seen() };
    let surroundings = Surroundings { kubeconfig: "/k".into(), kubectl: None, local: true };
    let text = summary(&summary_of(83), &surroundings, seconds(1.0));
    assert!(text.contains("80 tasks ran 83 times") && text.contains("3 tasks computed again"), "{text}");
}

#[rstest::rstest]
#[case(8e9, "8,000,000,000")]
#[case(0.0, "0")]
#[case(999.0, "999")]
#[case(1000.0, "1,000")]
#[case(-12345.0, "-12,345")]
fn numbers_are_grouped(#[case] number: f64, #[case] text: &str) {
    assert_eq!(grouped(number), text);
}

#[test]
fn words_follow_numbers() {
    assert_eq!(counted(1, "worker"), "1 worker");
    assert_eq!(counted(2, "worker"), "2 workers");
    let words = |words: &[&str]| listed(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    assert_eq!([words(&[]), words(&["a"]), words(&["a", "b", "c"])], ["none", "a", "a, b and c"]);
}
