//! Roles: the kinds of screen elements that a theme styles.

macro_rules! roles {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// Kind of screen element with its own style.
        ///
        /// Its name is dotted. A role that a theme does not style takes the style of its name up to
        /// the last dot, and so on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Role { $(#[doc = $doc] $variant,)* }

        impl Role {
            /// All roles, in the order of their discriminants.
            pub const ALL: &'static [Role] = &[$(Role::$variant,)*];

            /// Returns the dotted name used in theme files.
            pub const fn name(self) -> &'static str {
                match self { $(Role::$variant => $name,)* }
            }
        }
    };
}

roles! {
    Base = "base", "Background and default text.";
    Frame = "frame", "Lines between panes.";
    FrameFocus = "frame.focus", "Line above the focused pane.";
    Title = "title", "Title of a pane.";
    TitleFocus = "title.focus", "Title of the focused pane.";
    Label = "label", "Labels beside numbers.";
    Value = "value", "Emphasized numbers.";
    Header = "header", "Model and settings in the header.";
    HeaderPending = "header.pending", "Setting that was requested but is not in force yet.";
    StateLive = "state.live", "Indicator that the engine is running.";
    StatePaused = "state.paused", "Indicator that the engine is paused, loading, or finished.";
    FooterKey = "footer.key", "Key in the footer.";
    FooterText = "footer.text", "Label of a key in the footer.";
    TokenPrompt = "token.prompt", "Text of the prompt.";
    TokenPlain = "token.plain", "Text emitted while nothing was drafted.";
    TokenBonus = "token.bonus", "Bonus token in the text.";
    Accepted1 = "token.accepted.1", "Text drafted and accepted at depth 1.";
    Accepted2 = "token.accepted.2", "Text accepted at depth 2.";
    Accepted3 = "token.accepted.3", "Text accepted at depth 3.";
    Accepted4 = "token.accepted.4", "Text accepted at depth 4.";
    Accepted5 = "token.accepted.5", "Text accepted at depth 5.";
    Accepted6 = "token.accepted.6", "Text accepted at depth 6 or deeper.";
    Invisible = "token.invisible", "Symbol for a control character or line break.";
    NodeRoot = "node.root", "Root of a token tree.";
    NodeAccepted = "node.accepted", "Accepted node of a tree.";
    NodeBonus = "node.bonus", "Bonus token of a tree.";
    NodeRefused = "node.refused", "Rejected node: its parent was reached, but the target chose another token.";
    NodeUnreached = "node.unreached", "Node whose parent was not reached.";
    NodeOracle = "node.oracle", "Node of the oracle tree that was not drafted.";
    BlockAccepted = "block.accepted", "Block of an accepted node in the icicle.";
    BlockRejected = "block.rejected", "Block of a rejected node.";
    BlockUnreached = "block.unreached", "Block of a node whose parent was not reached.";
    BlockBonus = "block.bonus", "Block of the missed token.";
    BlockOracle = "block.oracle", "Outline of a node of the oracle tree that was not drafted.";
    Origin1 = "origin.1", "Node proposed by the first drafter of a mix.";
    Origin2 = "origin.2", "Node proposed by the second drafter of a mix.";
    Origin3 = "origin.3", "Node proposed by the third drafter of a mix.";
    Origin4 = "origin.4", "Node proposed by the fourth drafter of a mix.";
    Branch = "branch", "Lines between tree nodes.";
    Plot = "plot", "Curve or bars of a plot.";
    PlotMean = "plot.mean", "Mean in a plot.";
    PlotBand = "plot.band", "Confidence interval of a mean.";
    PlotAxis = "plot.axis", "Axes and their numbers.";
    PlotChange = "plot.change", "Marker of changed settings.";
    Gauge = "gauge", "Ruler of the gauge.";
    GaugeAccepted = "gauge.accepted", "Accepted length.";
    GaugeExpected = "gauge.expected", "Expected accepted length of the trees.";
    GaugeCeiling = "gauge.ceiling", "Ceiling on the accepted length.";
    GaugeFluid = "gauge.fluid", "Fluid bound, the main ceiling.";
    GaugeOracle = "gauge.oracle", "Expected accepted length of the oracle tree.";
    GaugeBest = "gauge.best", "Expected accepted length of the drafter's best tree.";
    GaugeUnknown = "gauge.unknown", "Ceiling with an unknown constant.";
    LossBudget = "loss.budget", "Loss from B - 1 to the fluid bound.";
    LossContext = "loss.context", "Loss from the fluid bound to the oracle tree.";
    LossKnowledge = "loss.knowledge", "Loss from the oracle tree to the drafter's best tree.";
    LossShape = "loss.shape", "Loss from the drafter's best tree to the expected accepted length.";
    LossLuck = "loss.luck", "Loss from the expected to the actual accepted length.";
    TimeDraft = "time.draft", "Time spent drafting.";
    TimeVerify = "time.verify", "Time spent verifying.";
    TimeOther = "time.other", "Rest of the time of a step.";
    Light = "light", "Speed of light: the ceiling in tokens per second.";
    LightReached = "light.reached", "Part of the speed of light that is reached.";
    LightDrafting = "light.drafting", "Part lost to the drafter's time.";
    LightOverhead = "light.overhead", "Part lost to sampling, records, and other work.";
    LightKnowledge = "light.knowledge", "Part lost to the drafter's imperfect knowledge of the target.";
    LightShape = "light.shape", "Part lost to the shape of the tree.";
    LightBudget = "light.budget", "Part lost to the budget of each pass.";
    LightLuck = "light.luck", "Part lost to sampling luck.";
    LightTrack = "light.track", "Bar beyond the known parts.";
    Tab = "tab", "Name of a view.";
    TabActive = "tab.active", "Name of the view shown.";
    Advice = "advice", "Line of advice.";
    Notice = "notice", "Message in the footer.";
    Selection = "selection", "Selected step.";
    Overlay = "overlay", "Background and text of help and editor.";
}

impl Role {
    /// Returns the role of a token accepted at `depth`, counted from 1.
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

    /// Returns the role of nodes proposed by drafter `member` of a mix, from 0.
    pub fn origin(member: usize) -> Role {
        [Role::Origin1, Role::Origin2, Role::Origin3, Role::Origin4][member % 4]
    }

    /// Returns whether `name` is a role or a prefix that roles fall back to.
    pub fn known(name: &str) -> bool {
        Role::ALL.iter().any(|r| {
            r.name() == name
                || r.name().strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
        })
    }
}
