//! What the readiness probe answers, line by line.

use std::fmt::Write;

use crate::cluster_cache::WatchHealth;
use crate::preflight::Preflight;

/// The lines for a replica that is ready, or those that say what is missing and how to mend it. `watches` are those
/// that have not delivered their first list. A replica that follows is ready too.
pub(super) fn report(
    preflight: &Preflight,
    watches: &[WatchHealth],
    leads: bool,
    notice: Option<&str>,
) -> Result<String, String> {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if !preflight.is_fine() {
        for missing in &preflight.missing {
            let _ = writeln!(text, "{}: {}", missing.what, missing.cure);
        }
        return Err(text);
    }
    if watches.iter().any(|watch| !watch.ready) || !watches.is_empty() {
        for watch in watches.iter().filter(|watch| !watch.ready) {
            let why = watch.last_error.as_deref().unwrap_or("no answer yet");
            let _ = writeln!(text, "the list of {} objects has not come: {why}", watch.kind);
        }
        if text.is_empty() {
            text.push_str("the caches are being filled\n");
        }
        return Err(text);
    }
    let _ = writeln!(text, "ok, {}", if leads { "this replica leads" } else { "another replica leads" });
    for advice in &preflight.advice {
        let _ = writeln!(text, "{}: {}", advice.what, advice.cure);
    }
    if let Some(notice) = notice {
        let _ = writeln!(text, "{notice}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Missing;

    fn missing() -> Missing {
        Missing { what: "CustomResourceDefinition x is missing".into(), cure: "install the chart".into() }
    }

    fn watch(error: Option<&str>) -> WatchHealth {
        WatchHealth {
            kind: "Pod",
            namespace: None,
            ready: false,
            seconds_since_activity: 1.0,
            seconds_failing: None,
            last_error: error.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_missing_is_told_with_its_cure() {
        let preflight = Preflight { missing: vec![missing()], advice: vec![] };
        let told = report(&preflight, &[watch(None)], true, None).unwrap_err();
        assert_eq!(told, "CustomResourceDefinition x is missing: install the chart\n");
    }

    #[test]
    fn empty_caches_are_not_ready() {
        let fine = Preflight { missing: vec![], advice: vec![] };
        let told = report(&fine, &[watch(Some("forbidden")), watch(None)], true, None).unwrap_err();
        assert_eq!(
            told,
            "the list of Pod objects has not come: forbidden\nthe list of Pod objects has not come: no answer yet\n"
        );
        let filled = WatchHealth { ready: true, ..watch(None) };
        assert_eq!(report(&fine, &[filled], true, None).unwrap_err(), "the caches are being filled\n");
    }

    #[test]
    fn followers_are_ready_and_advice_is_no_obstacle() {
        let preflight = Preflight { missing: vec![], advice: vec![missing()] };
        let told = report(&preflight, &[], false, Some("no right to use Leases")).unwrap();
        assert_eq!(
            told,
            "ok, another replica leads\nCustomResourceDefinition x is missing: install the chart\nno right to use Leases\n"
        );
    }
}
