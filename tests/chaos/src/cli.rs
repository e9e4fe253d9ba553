//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::plan::Kinds;

/// Walks at random over a real cluster and audits that no work is lost.
#[derive(Clone, Debug, Parser)]
#[command(name = "chaos-drain")]
pub struct Arguments {
    /// Chooses the walk: the same seed gives the same steps
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many steps
    #[arg(long, default_value_t = 200)]
    pub steps: usize,
    /// What may happen
    #[arg(long, value_enum, default_value_t = Events::All)]
    pub events: Events,
    /// Only print the steps
    #[arg(long)]
    pub print: bool,
    /// The operator as a static program [default: build it]
    #[arg(long, value_name = "PATH")]
    pub operator: Option<PathBuf>,
    /// Leave the cluster running at the end
    #[arg(long)]
    pub keep: bool,
}

/// What may happen besides scalings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Events {
    /// Nothing
    Scaling,
    /// The operator is killed
    Quick,
    /// Everything but edits
    NoEdits,
    /// Everything
    All,
}

impl Events {
    /// As the plan takes it.
    #[must_use]
    pub fn kinds(self) -> Kinds {
        match self {
            Self::Scaling => Kinds::SCALING,
            Self::Quick => Kinds::QUICK,
            Self::NoEdits => Kinds { edits: false, ..Kinds::ALL },
            Self::All => Kinds::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_long_walk() {
        let arguments = Arguments::parse_from(["chaos-drain"]);
        assert_eq!((arguments.seed, arguments.steps), (1, 200));
        assert_eq!(arguments.events.kinds(), Kinds::ALL);
    }

    #[test]
    fn a_smoke_run_kills_neither_nodes_nor_schedulers() {
        let arguments = Arguments::parse_from(["chaos-drain", "--steps=8", "--seed=3", "--events=quick"]);
        assert_eq!((arguments.seed, arguments.steps), (3, 8));
        assert!(!arguments.events.kinds().nodes && !arguments.events.kinds().scheduler);
    }
}
