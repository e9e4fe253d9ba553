//! What will happen: a pure function of the seed.

use std::fmt;

/// Most workers of both groups together.
pub const MOST: i32 = 8;
/// Fewest workers of both groups together: one that goes needs another that takes over its data.
pub const FEWEST: i32 = 2;

/// A group of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The default group.
    First,
    /// A group that a user added.
    Second,
}

impl Group {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Workers of each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of [`Group::First`].
    pub first: i32,
    /// Of [`Group::Second`].
    pub second: i32,
}

impl Sizes {
    /// Where every walk begins.
    pub const START: Self = Self { first: 4, second: 4 };

    /// The size of a group.
    #[must_use]
    pub fn of(self, group: Group) -> i32 {
        match group {
            Group::First => self.first,
            Group::Second => self.second,
        }
    }

    /// The same with another size of one group.
    #[must_use]
    pub fn with(self, group: Group, size: i32) -> Self {
        match group {
            Group::First => Self { first: size, ..self },
            Group::Second => Self { second: size, ..self },
        }
    }

    /// Workers of both.
    #[must_use]
    pub fn total(self) -> i32 {
        self.first + self.second
    }

    /// Whether a walk may be here.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        self.first >= 0 && self.second >= 0 && (FEWEST..=MOST).contains(&self.total())
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `kubectl scale` of one group.
    Scale(Group, i32),
    /// `kubectl scale` of both at the same moment.
    ScaleBoth(Sizes),
    /// `kubectl scale` of one group, and SIGKILL for the operator that leads while it acts on it.
    ScaleAndKillOperator(Group, i32),
    /// SIGKILL for the operator that leads.
    KillOperator,
    /// `kubectl delete pod` of a worker; the number chooses among those of the group.
    DeleteWorker(Group, u32),
    /// The user adds a label to a group.
    EditLabels(Group),
    /// The user edits the worker template of a group.
    EditTemplate(Group),
    /// The scheduler's pod is deleted.
    RestartScheduler,
    /// A power cut of the node that the scheduler is not on; it comes back.
    KillNode,
}

impl Step {
    /// The sizes after the step.
    #[must_use]
    pub fn sizes_after(self, before: Sizes) -> Sizes {
        match self {
            Self::Scale(group, size) | Self::ScaleAndKillOperator(group, size) => before.with(group, size),
            Self::ScaleBoth(sizes) => sizes,
            _ => before,
        }
    }

    /// How many workers have to go because of the step.
    #[must_use]
    pub fn shrinks(self, before: Sizes) -> i32 {
        let after = self.sizes_after(before);
        (before.first - after.first).max(0) + (before.second - after.second).max(0)
    }

    /// Whether the scheduler loses its state, by design of Dask: a new round begins.
    #[must_use]
    pub fn resets(self) -> bool {
        self == Self::RestartScheduler
    }

    /// Whether keys that are only on what dies may be computed again.
    #[must_use]
    pub fn is_power_cut(self) -> bool {
        self == Self::KillNode
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "A",
            Self::Second => "B",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale(group, size) => write!(f, "scale {group} to {size}"),
            Self::ScaleBoth(sizes) => write!(f, "scale A to {} and B to {}", sizes.first, sizes.second),
            Self::ScaleAndKillOperator(group, size) => {
                write!(f, "scale {group} to {size} and kill the operator")
            }
            Self::KillOperator => f.write_str("kill the operator"),
            Self::DeleteWorker(group, number) => write!(f, "delete worker {number} of {group}"),
            Self::EditLabels(group) => write!(f, "edit the labels of {group}"),
            Self::EditTemplate(group) => write!(f, "edit the template of {group}"),
            Self::RestartScheduler => f.write_str("restart the scheduler"),
            Self::KillNode => f.write_str("kill a node"),
        }
    }
}

/// Which kinds of steps a walk may have besides scalings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Kinds {
    /// The operator dies.
    pub operator: bool,
    /// Worker pods are deleted.
    pub workers: bool,
    /// Labels and templates are edited.
    pub edits: bool,
    /// The scheduler restarts.
    pub scheduler: bool,
    /// A node dies.
    pub nodes: bool,
}

impl Kinds {
    /// Everything.
    pub const ALL: Self = Self { operator: true, workers: true, edits: true, scheduler: true, nodes: true };
    /// Only scalings.
    pub const SCALING: Self =
        Self { operator: false, workers: false, edits: false, scheduler: false, nodes: false };
    /// What takes seconds.
    pub const QUICK: Self = Self { operator: true, ..Self::SCALING };

    /// The weights of the kinds of steps, in the order in which [`plan`] draws them.
    fn weights(self) -> [(u32, Kind); 9] {
        let only = |allowed: bool, weight: u32| if allowed { weight } else { 0 };
        [
            (40, Kind::Scale),
            (20, Kind::ScaleBoth),
            (only(self.operator, 12), Kind::ScaleAndKillOperator),
            (only(self.operator, 6), Kind::KillOperator),
            (only(self.workers, 8), Kind::DeleteWorker),
            (only(self.edits, 4), Kind::EditLabels),
            (only(self.edits, 4), Kind::EditTemplate),
            (only(self.scheduler, 3), Kind::RestartScheduler),
            (only(self.nodes, 3), Kind::KillNode),
        ]
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Scale,
    ScaleBoth,
    ScaleAndKillOperator,
    KillOperator,
    DeleteWorker,
    EditLabels,
    EditTemplate,
    RestartScheduler,
    KillNode,
}

/// The steps of a walk. The same arguments always give the same steps, and a longer walk begins as the shorter one.
#[must_use]
pub fn plan(seed: u64, steps: usize, kinds: Kinds) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sizes = Sizes::START;
    let mut walk = Vec::with_capacity(steps);
    for _ in 0..steps {
        let step = draw(&mut random, sizes, kinds);
        sizes = step.sizes_after(sizes);
        walk.push(step);
    }
    walk
}

fn draw(random: &mut fastrand::Rng, sizes: Sizes, kinds: Kinds) -> Step {
    let weights = kinds.weights();
    let mut ticket = random.u32(0..weights.iter().map(|(weight, _)| weight).sum());
    let mut drawn = Kind::Scale;
    for (weight, kind) in weights {
        if ticket < weight {
            drawn = kind;
            break;
        }
        ticket -= weight;
    }
    // Every step draws everything, whatever its kind: one rule less to keep in mind.
    let (group, number) = (any_group(random), random.u32(0..1000));
    let ((scaled, other_size), both) = (another_size(random, sizes, group), another_place(random, sizes));
    match drawn {
        Kind::Scale => Step::Scale(scaled, other_size),
        Kind::ScaleBoth => Step::ScaleBoth(both),
        Kind::ScaleAndKillOperator => Step::ScaleAndKillOperator(scaled, other_size),
        Kind::KillOperator => Step::KillOperator,
        Kind::DeleteWorker => Step::DeleteWorker(populated(sizes, group), number),
        Kind::EditLabels => Step::EditLabels(group),
        Kind::EditTemplate => Step::EditTemplate(populated(sizes, group)),
        Kind::RestartScheduler => Step::RestartScheduler,
        Kind::KillNode => Step::KillNode,
    }
}

fn any_group(random: &mut fastrand::Rng) -> Group {
    if random.bool() { Group::First } else { Group::Second }
}

/// This group, or the other one if it has no workers.
fn populated(sizes: Sizes, group: Group) -> Group {
    if sizes.of(group) > 0 { group } else { group.other() }
}

/// Another size with which the walk may go on: of this group, or of the other one if this one is empty beside a full
/// one.
fn another_size(random: &mut fastrand::Rng, sizes: Sizes, group: Group) -> (Group, i32) {
    let sizes_of = |group: Group| -> Vec<i32> {
        let other = |size: &i32| *size != sizes.of(group) && sizes.with(group, *size).is_allowed();
        (0..=MOST).filter(other).collect()
    };
    let allowed = sizes_of(group);
    if let Some(size) = random.choice(allowed) {
        return (group, size);
    }
    let other = group.other();
    // The full one can always shrink.
    (other, random.choice(sizes_of(other)).unwrap_or(FEWEST))
}

fn another_place(random: &mut fastrand::Rng, sizes: Sizes) -> Sizes {
    let all = (0..=MOST).flat_map(|first| (0..=MOST).map(move |second| Sizes { first, second }));
    let allowed: Vec<Sizes> = all
        .filter(|place| place.is_allowed() && place.first != sizes.first && place.second != sizes.second)
        .collect();
    allowed[random.usize(0..allowed.len())]
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
