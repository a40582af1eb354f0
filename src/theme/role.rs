//! What on the screen has a style of its own.

macro_rules! roles {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// A thing with a style of its own. Its name is dotted: where a theme does not style it, the name up to the
        /// last dot is asked, and so on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Role { $(#[doc = $doc] $variant,)* }

        impl Role {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Role] = &[$(Role::$variant,)*];

            /// The dotted name that theme files use.
            pub const fn name(self) -> &'static str {
                match self { $(Role::$variant => $name,)* }
            }
        }
    };
}

roles! {
    Base = "base", "Ground and plain text.";
    Frame = "frame", "Lines between panes.";
    FrameFocus = "frame.focus", "The line over the focused pane.";
    Title = "title", "The name of a pane.";
    TitleFocus = "title.focus", "The name of the focused pane.";
    Label = "label", "Words beside numbers.";
    Value = "value", "Numbers that matter.";
    Header = "header", "What runs.";
    HeaderPending = "header.pending", "A setting that is wished but does not hold yet.";
    StateLive = "state.live", "It runs.";
    StatePaused = "state.paused", "It waits.";
    FooterKey = "footer.key", "A key.";
    FooterText = "footer.text", "What the key does.";
    TokenPrompt = "token.prompt", "Text of the prompt.";
    TokenPlain = "token.plain", "Text put out with nothing drafted.";
    TokenBonus = "token.bonus", "Text that the target added itself.";
    Accepted1 = "token.accepted.1", "Drafted and accepted at depth 1.";
    Accepted2 = "token.accepted.2", "At depth 2.";
    Accepted3 = "token.accepted.3", "At depth 3.";
    Accepted4 = "token.accepted.4", "At depth 4.";
    Accepted5 = "token.accepted.5", "At depth 5.";
    Accepted6 = "token.accepted.6", "At depth 6 and deeper.";
    Invisible = "token.invisible", "Stands for a character that has no picture.";
    NodeRoot = "node.root", "The root of a tree.";
    NodeAccepted = "node.accepted", "An accepted node.";
    NodeBonus = "node.bonus", "The bonus token.";
    NodeRefused = "node.refused", "A node whose parent was reached while another token came.";
    NodeUnreached = "node.unreached", "A node whose parent was not reached.";
    Origin1 = "origin.1", "A node that the first member of a mix proposed.";
    Origin2 = "origin.2", "The second.";
    Origin3 = "origin.3", "The third.";
    Origin4 = "origin.4", "The fourth.";
    Branch = "branch", "Lines between nodes.";
    Plot = "plot", "The curve or the bars of a plot.";
    PlotMean = "plot.mean", "A mean in a plot.";
    PlotBand = "plot.band", "The interval of a mean.";
    PlotAxis = "plot.axis", "Axes and their numbers.";
    PlotChange = "plot.change", "Where settings changed.";
    Gauge = "gauge", "The ruler.";
    GaugeAccepted = "gauge.accepted", "What was accepted.";
    GaugeExpected = "gauge.expected", "What was to be expected from the trees.";
    GaugeCeiling = "gauge.ceiling", "A ceiling.";
    GaugeFluid = "gauge.fluid", "The fluid bound, the main ceiling.";
    GaugeOracle = "gauge.oracle", "What the oracle tree reaches after this context.";
    GaugeBest = "gauge.best", "The best tree of the drafter.";
    GaugeUnknown = "gauge.unknown", "A ceiling with an unknown constant.";
    LossBudget = "loss.budget", "From B - 1 down to the fluid bound.";
    LossContext = "loss.context", "From the fluid bound down to the oracle tree.";
    LossKnowledge = "loss.knowledge", "From the oracle tree down to the drafter's best.";
    LossShape = "loss.shape", "From the drafter's best down to E[X|T].";
    LossLuck = "loss.luck", "From E[X|T] down to accepted.";
    TimeDraft = "time.draft", "Time spent drafting.";
    TimeVerify = "time.verify", "Time spent verifying.";
    TimeOther = "time.other", "The rest of the time.";
    Light = "light", "The speed of light.";
    LightReached = "light.reached", "The part of it that is reached.";
    LightDrafting = "light.drafting", "The part lost to the drafter's time.";
    LightOverhead = "light.overhead", "The part lost to the rest of the time.";
    LightKnowledge = "light.knowledge", "The part lost to what the drafter does not know.";
    LightShape = "light.shape", "The part lost to the shape of the tree.";
    LightBudget = "light.budget", "The part lost to the size of the passes.";
    LightLuck = "light.luck", "The part lost to the draw.";
    LightTrack = "light.track", "The bar beyond what is known.";
    Notice = "notice", "A message in one line.";
    Selection = "selection", "What is selected.";
    Overlay = "overlay", "Ground and text of help and editor.";
}

impl Role {
    /// The role of a token accepted at `depth` (from 1).
    pub fn accepted(depth: usize) -> Role {
        match depth {
            0 | 1 => Role::Accepted1,
            2 => Role::Accepted2,
            3 => Role::Accepted3,
            4 => Role::Accepted4,
            5 => Role::Accepted5,
            _ => Role::Accepted6,
        }
    }

    /// The role of a node that the `member`-th member of a mix proposed, from 0.
    pub fn origin(member: usize) -> Role {
        [Role::Origin1, Role::Origin2, Role::Origin3, Role::Origin4][member % 4]
    }

    /// Whether `name` is a role or what roles fall back to.
    pub fn known(name: &str) -> bool {
        Role::ALL.iter().any(|r| r.name() == name || r.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }
}
