//! A firewall of the host between the nodes and the API server, which listens on the host's end of their network.
//!
//! Whether one is in the way is tried, not guessed from rules: a connection is made from inside the cluster's network.
//! If it does not come through, every filter of the host gets a rule for the cluster's own link, which is removed with
//! the link; filters that take none (those of iptables-legacy, those that a firewalld holds for itself) are left to the
//! user, with the commands.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::Path,
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::command::Invocation;

/// On one machine an answer takes microseconds; a rule that drops leaves only silence.
const SILENCE: Duration = Duration::from_millis(1500);

/// With all rules in place, silence may only mean a machine that is busy.
const LONG_SILENCE: Duration = Duration::from_secs(10);

/// Why the nodes would not reach the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be tried.
    #[error("failed to listen on {address} for the nodes")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system answered.
        source: io::Error,
    },
    /// A firewall is in the way and took no rule.
    #[error(
        "a firewall of this machine keeps the nodes from the API server at {address} ({answer}): allow what comes in by \
         the link {link} and start again, with `firewall-cmd --zone=trusted --add-interface={link}`, \
         `ufw allow in on {link}` or `iptables -I INPUT -i {link} -j ACCEPT`{refused}"
    )]
    Closed {
        /// Where the API server will listen.
        address: SocketAddr,
        /// The cluster's link.
        link: String,
        /// What came instead of a connection.
        answer: io::Error,
        /// The rules that were tried, and what was answered.
        refused: String,
    },
}

/// Lets the nodes reach this address of the host, which nobody uses yet. `namespace` is the network namespace of the
/// cluster's bridge, `link` the host's link into it.
pub(crate) fn open(address: SocketAddr, link: &str, namespace: &str) -> Result<(), Error> {
    let listener = TcpListener::bind(address).map_err(|source| Error::Listen { address, source })?;
    if connect(address, namespace, SILENCE).is_ok() {
        return Ok(());
    }
    let refused: Vec<_> = filters(&list("chains")).iter().filter_map(|filter| filter.accept(link)).collect();
    let result = connect(address, namespace, LONG_SILENCE);
    drop(listener);
    match result {
        Ok(()) => {
            tracing::info!(
                "a firewall of this machine has a rule for {link} until the cluster is taken down"
            );
            Ok(())
        }
        Err(answer) => {
            let refused = [vec![String::new()], refused].concat().join("; ");
            Err(Error::Closed { address, link: link.to_owned(), answer, refused })
        }
    }
}

/// Removes the rules for this link. Without nftables there are none.
pub(crate) fn close(link: &str) {
    for rule in rules(&list("ruleset"), link) {
        // A rule that somebody else has just removed needs no second removal.
        let _ = Invocation::new("nft").args(["delete", "rule"]).args(rule).run();
    }
}

/// Connects from inside a network namespace. Only the thread that does it enters.
fn connect(address: SocketAddr, namespace: &str, patience: Duration) -> io::Result<()> {
    let namespace = File::open(Path::new("/run/netns").join(namespace))?;
    let work = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        TcpStream::connect_timeout(&address, patience).map(drop)
    };
    thread::spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What nft lists, as JSON; nothing when it does not answer.
fn list(what: &str) -> Value {
    let text = Invocation::words("nft -j list").args([what]).run().unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// A chain that decides about what comes in or goes out.
#[derive(Debug, PartialEq, Eq)]
struct Filter {
    /// Family, table and name, as on nft's command line.
    place: [String; 3],
    /// Which link of a packet counts: `iifname` or `oifname`.
    link: &'static str,
}

impl Filter {
    /// Puts a rule before all others; returns what was answered when it is refused.
    fn accept(&self, link: &str) -> Option<String> {
        let comment = format!("\"{link}\"");
        let rule = [self.link, link, "accept", "comment", &comment];
        let insertion = Invocation::words("nft insert rule").args(&self.place).args(rule);
        insertion.run().err().map(|error| error.to_string())
    }
}

/// The filters of IPv4 at the host's own door.
fn filters(list: &Value) -> Vec<Filter> {
    let chains = entries(list, "chain").filter(|chain| {
        let is =
            |field: &str, values: &[&str]| chain[field].as_str().is_some_and(|value| values.contains(&value));
        is("type", &["filter"]) && is("family", &["ip", "inet"])
    });
    chains
        .filter_map(|chain| {
            let link = match chain["hook"].as_str()? {
                "input" => "iifname",
                "output" => "oifname",
                _other => return None,
            };
            Some(Filter { place: place(chain, "name")?, link })
        })
        .collect()
}

/// Where the rules of this link are: the words that follow `nft delete rule`.
fn rules(list: &Value, link: &str) -> Vec<Vec<String>> {
    let ours = entries(list, "rule").filter(|rule| rule["comment"].as_str() == Some(link));
    ours.filter_map(|rule| {
        let handle = ["handle".to_owned(), rule["handle"].as_u64()?.to_string()];
        Some([place(rule, "chain")?.as_slice(), &handle].concat())
    })
    .collect()
}

fn entries<'a>(list: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    list["nftables"].as_array().into_iter().flatten().filter_map(move |entry| entry.get(kind))
}

fn place(entry: &Value, name: &str) -> Option<[String; 3]> {
    let word = |field: &str| entry[field].as_str().map(str::to_owned);
    Some([word("family")?, word("table")?, word(name)?])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_go_to_filters_of_what_comes_in_and_goes_out() {
        let chain = |family: &str, table: &str, name: &str, kind: &str, hook: &str| {
            json!({"chain": {"family": family, "table": table, "name": name, "handle": 1,
                "type": kind, "hook": hook, "prio": 0, "policy": "drop"}})
        };
        let list = json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            chain("ip", "filter", "INPUT", "filter", "input"),
            chain("inet", "firewalld", "filter_OUTPUT", "filter", "output"),
            chain("ip6", "filter", "INPUT", "filter", "input"),
            chain("ip", "nat", "INPUT", "nat", "input"),
            chain("ip", "filter", "FORWARD", "filter", "forward"),
            {"chain": {"family": "ip", "table": "filter", "name": "ufw-before-input", "handle": 3}},
        ]});
        let filter = |place: [&str; 3], link| Filter { place: place.map(str::to_owned), link };
        let expected = [
            filter(["ip", "filter", "INPUT"], "iifname"),
            filter(["inet", "firewalld", "filter_OUTPUT"], "oifname"),
        ];
        assert_eq!(filters(&list), expected);
        assert_eq!(filters(&Value::Null), []);
    }

    #[test]
    fn rules_are_found_by_their_comment() {
        let rule = |comment: Option<&str>, handle: u32| {
            json!({"rule": {"family": "ip", "table": "filter", "chain": "INPUT", "handle": handle,
                "comment": comment, "expr": [{"accept": null}]}})
        };
        let list = json!({"nftables": [rule(None, 4), rule(Some("tb1"), 5), rule(Some("tb12"), 6)]});
        assert_eq!(rules(&list, "tb1"), [["ip", "filter", "INPUT", "handle", "5"]]);
    }

    #[test]
    fn user_is_told_the_commands_for_the_link() {
        let error = Error::Closed {
            address: SocketAddr::from(([10, 200, 240, 1], 6443)),
            link: "tb1".into(),
            answer: io::Error::from(io::ErrorKind::TimedOut),
            refused: "; nft said no".into(),
        };
        let text = error.to_string();
        for words in ["10.200.240.1:6443", "--add-interface=tb1", "-i tb1 -j ACCEPT", "ufw", "nft said no"] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
    }
}
