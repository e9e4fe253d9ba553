//! Where a scheduler serves its dashboard, as far as its container says.

use dask_operator_api::address::SchedulerAddress;
use k8s_openapi::api::core::v1::{Container, EnvVar};

use super::invocation;

const PREFIX: &str = "--dashboard-prefix";
/// Dask serves the dashboard by TLS as soon as it has a certificate; only configuration says so.
const CERTIFICATE: &str = "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__TLS__CERT";
/// Longest prefix that is shown, in bytes.
const MAX_PREFIX: usize = 200;

/// URL of the dashboard on this port of the scheduler's Service.
#[must_use]
pub fn url(address: &SchedulerAddress, port: u16, container: Option<&Container>) -> String {
    let prefix = container.and_then(prefix).unwrap_or_default();
    let certified = |variable: &EnvVar| {
        let given =
            variable.value_from.is_some() || variable.value.as_ref().is_some_and(|value| !value.is_empty());
        variable.name.eq_ignore_ascii_case(CERTIFICATE) && given
    };
    let tls = container.is_some_and(|container| container.env.iter().flatten().any(certified));
    address.dashboard(if tls { "https" } else { "http" }, port, &prefix)
}

/// The prefix of all paths, as Dask takes it: with a slash before, and none behind. Looked for in scripts, too.
fn prefix(container: &Container) -> Option<String> {
    let words: Vec<&str> = invocation::words(container).flat_map(str::split_whitespace).collect();
    let at = words.iter().rposition(|word| {
        word.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })?;
    let value = match words[at].strip_prefix(PREFIX)?.strip_prefix('=') {
        Some(value) => value,
        None => words.get(at + 1)?,
    };
    let value = expanded(value.trim_matches(['"', '\'']), container)?;
    let path = value.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/%+@:".contains(c);
    (!path.is_empty() && path.len() <= MAX_PREFIX && path.chars().all(plain)).then(|| format!("/{path}"))
}

/// The value with `$(VARIABLE)` replaced as the kubelet does; `None` where a variable is not written in the container.
fn expanded(value: &str, container: &Container) -> Option<String> {
    let mut result = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("$(") {
        let (name, behind) = after.split_once(')')?;
        let variable = container.env.iter().flatten().rfind(|variable| variable.name == name)?;
        result.push_str(before);
        result.push_str(variable.value.as_deref()?);
        rest = behind;
    }
    Some(result + rest)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn shown(container: Value) -> String {
        let container: Container = serde_json::from_value(container).unwrap();
        let url = url(&SchedulerAddress::new("s", "ns", 8786), 8787, Some(&container));
        url.replace("s.ns.svc.cluster.local:8787", "HOST")
    }

    #[rstest]
    #[case::none(json!(["dask", "scheduler"]), "http://HOST/status")]
    #[case::prefix(json!(["dask-scheduler", "--dashboard-prefix", "/team-a/dask"]), "http://HOST/team-a/dask/status")]
    #[case::without_slash(json!(["dask-scheduler", "--dashboard-prefix=proxy/x/"]), "http://HOST/proxy/x/status")]
    #[case::root(json!(["dask-scheduler", "--dashboard-prefix", "/"]), "http://HOST/status")]
    #[case::last(json!(["s", "--dashboard-prefix", "a", "--dashboard-prefix", "b"]), "http://HOST/b/status")]
    #[case::script(json!(["sh", "-c", "exec dask scheduler --dashboard-prefix '/a' --port 1"]), "http://HOST/a/status")]
    #[case::variable(json!(["dask-scheduler", "--dashboard-prefix", "/user/$(NAME)/x"]), "http://HOST/user/me/x/status")]
    #[case::unknown_variable(json!(["dask-scheduler", "--dashboard-prefix", "/$(OTHER)"]), "http://HOST/status")]
    #[case::nothing_follows(json!(["dask-scheduler", "--dashboard-prefix"]), "http://HOST/status")]
    #[case::no_path(json!(["dask-scheduler", "--dashboard-prefix", "a\u{1b}b"]), "http://HOST/status")]
    #[case::endless(json!(["dask-scheduler", "--dashboard-prefix", "a".repeat(201)]), "http://HOST/status")]
    fn the_prefix_is_the_one_of_the_words(#[case] args: Value, #[case] expected: &str) {
        let env = json!([{"name": "NAME", "value": "me"}, {"name": "OTHER", "valueFrom": {}}]);
        assert_eq!(shown(json!({"name": "s", "args": args, "env": env})), expected);
    }

    #[rstest]
    #[case::certificate(json!([{"name": CERTIFICATE, "value": "/tls/cert.pem"}]), "https://HOST/status")]
    #[case::lower_case(json!([{"name": "DASK_distributed__scheduler__dashboard__tls__cert", "value": "c"}]), "https://HOST/status")]
    #[case::empty(json!([{"name": CERTIFICATE, "value": ""}]), "http://HOST/status")]
    fn a_certificate_means_https(#[case] env: Value, #[case] expected: &str) {
        assert_eq!(shown(json!({"name": "s", "env": env})), expected);
    }
}
