//! Comparison of the same text by position: accepted by one setting, missed by the other.

use serde::Serialize;

use super::contexts::EXCERPT_CHARS;
use super::{TextPair, TextTrace, TokenOrigin};
use crate::telemetry::{MissCause, MissSummary, Misses, TokenClass};

/// Number of most missed tokens to list.
const MOST_MISSED_TOKENS: usize = 10;

/// Counts of positions by outcome under one setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutcomeCounts {
    /// Positions with a drafted and accepted token.
    pub taken: usize,
    /// Positions for which the tree had only other tokens.
    pub refused: usize,
    /// Positions at which the tree had ended, all nodes on the path accepted.
    pub bonus: usize,
}

impl OutcomeCounts {
    fn add(&mut self, place: &TokenOrigin) {
        match place {
            TokenOrigin::Taken(_) => self.taken += 1,
            TokenOrigin::Refused(_) => self.refused += 1,
            TokenOrigin::Bonus(_) => self.bonus += 1,
        }
    }
}

/// Counts of common positions, by outcome under the first setting, then the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Number of common positions.
    pub positions: usize,
    /// Positions that the first setting accepted, by outcome under the second.
    pub taken: OutcomeCounts,
    /// Positions that the first setting rejected, by outcome under the second.
    pub refused: OutcomeCounts,
    /// Bonus tokens of the first setting, by outcome under the second.
    pub bonus: OutcomeCounts,
}

/// Counts the positions that both texts of each couple have.
pub fn outcomes(couples: &[TextPair]) -> Outcomes {
    let mut all = Outcomes::default();
    for (a, b) in couples {
        for (a, b) in a.origins.iter().zip(&b.origins) {
            all.positions += 1;
            let row = match a {
                TokenOrigin::Taken(_) => &mut all.taken,
                TokenOrigin::Refused(_) => &mut all.refused,
                TokenOrigin::Bonus(_) => &mut all.bonus,
            };
            row.add(b);
        }
    }
    all
}

/// Position that one setting accepted and the other missed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExclusiveAccept {
    /// Index of the prompt.
    pub prompt: usize,
    /// Position in the output, from 0.
    pub position: usize,
    /// End of the output before the token.
    pub before: String,
    /// Text of the token.
    pub token: String,
    /// Output after the token.
    pub after: String,
    /// Depth at which the accepting setting had the token, from 1.
    pub depth: usize,
    /// Length of the run of accepted tokens from this one on.
    pub run: usize,
    /// Class of the token by its text.
    pub class: TokenClass,
    /// Cause of the miss; `None` if the other setting intentionally drafted nothing.
    pub cause: Option<MissCause>,
    /// Depth at which the other setting missed the token.
    pub missed_depth: Option<usize>,
    /// Probability of the token in the sampled distribution.
    pub p: Option<f64>,
}

/// Results over all such positions in one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ExclusiveAccepts {
    /// Number of such positions.
    pub positions: usize,
    /// Positions where the other setting intentionally drafted nothing, or its text ended.
    pub not_drafted: usize,
    /// Misses of the other setting by cause, depth and token.
    pub misses: MissSummary,
    /// Most costly misses: by the length of the accepted run, then by p.
    pub worst: Vec<ExclusiveAccept>,
}

/// Collects positions that the first text of a couple accepted and the second missed.
///
/// `couples` are (taker, misser); at most `most` examples are kept.
pub fn takes(couples: &[TextPair], most: usize) -> ExclusiveAccepts {
    let (mut all, mut misses) = (ExclusiveAccepts::default(), Misses::default());
    let mut found: Vec<(usize, f64, &TextTrace, usize, &TokenOrigin, usize)> = Vec::new();
    for &(taker, misser) in couples {
        for (at, (here, there)) in taker.origins.iter().zip(&misser.origins).enumerate() {
            let Some(depth) = here.accepted_depth().filter(|_| there.accepted_depth().is_none())
            else {
                continue;
            };
            all.positions += 1;
            match there.miss() {
                Some(miss) => misses.add(miss, None),
                None => all.not_drafted += 1,
            }
            found.push((
                taker.accepted_run(at),
                there.miss().map_or(0.0, |miss| miss.p),
                taker,
                at,
                there,
                depth,
            ));
        }
    }
    found.sort_by(|x, y| y.0.cmp(&x.0).then(y.1.total_cmp(&x.1)));
    found.truncate(most);
    all.misses = MissSummary::from_misses(&misses, MOST_MISSED_TOKENS);
    all.worst = found
        .into_iter()
        .map(|(run, _, course, at, there, depth)| taken(course, at, depth, run, there))
        .collect();
    all
}

fn taken(
    course: &TextTrace,
    at: usize,
    depth: usize,
    run: usize,
    there: &TokenOrigin,
) -> ExclusiveAccept {
    let token = course.names.get(at).cloned().unwrap_or_default();
    let miss = there.miss();
    ExclusiveAccept {
        prompt: course.prompt,
        position: at,
        before: course.text_before(at, EXCERPT_CHARS),
        after: course.text_after(at, EXCERPT_CHARS),
        depth,
        run,
        class: TokenClass::from_text(&token),
        cause: miss.map(|miss| miss.cause),
        missed_depth: miss.map(|miss| miss.depth),
        p: miss.map(|miss| miss.p),
        token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::miss;

    fn course(places: Vec<TokenOrigin>) -> TextTrace {
        let names: Vec<String> = (0..places.len()).map(|i| format!(" {i}")).collect();
        TextTrace {
            tokens: (0..places.len() as u32).collect(),
            texts: names.clone(),
            names,
            origins: places,
            ..TextTrace::new(1)
        }
    }

    #[test]
    fn outcomes_count_positions_and_list_exclusive_accepts() {
        let (know, rank) = (|| miss(4, 1, MissCause::Knowledge), || miss(5, 2, MissCause::Ranking));
        let a = course(vec![
            TokenOrigin::Taken(1),
            TokenOrigin::Taken(2),
            TokenOrigin::Refused(rank()),
            TokenOrigin::Taken(1),
            TokenOrigin::Bonus(None),
            TokenOrigin::Taken(1),
        ]);
        let b = course(vec![
            TokenOrigin::Refused(know()),
            TokenOrigin::Taken(1),
            TokenOrigin::Taken(2),
            TokenOrigin::Bonus(Some(rank())),
            TokenOrigin::Bonus(None),
        ]);
        let counts = outcomes(&[(&a, &b)]);
        assert_eq!(counts.positions, 5);
        assert_eq!(counts.taken, OutcomeCounts { taken: 1, refused: 1, bonus: 1 });
        assert_eq!(
            (counts.refused, counts.bonus),
            (
                OutcomeCounts { taken: 1, ..OutcomeCounts::default() },
                OutcomeCounts { bonus: 1, ..OutcomeCounts::default() }
            )
        );
        let of_a = takes(&[(&a, &b)], 9);
        assert_eq!((of_a.positions, of_a.not_drafted), (2, 0));
        assert_eq!(
            (
                of_a.misses.causes.count_of(MissCause::Knowledge),
                of_a.misses.causes.count_of(MissCause::Ranking)
            ),
            (1, 1)
        );
        // The first miss cost two tokens, the other one.
        let worst: Vec<_> =
            of_a.worst.iter().map(|t| (t.position, t.run, t.depth, t.cause)).collect();
        assert_eq!(
            worst,
            [(0, 2, 1, Some(MissCause::Knowledge)), (3, 1, 1, Some(MissCause::Ranking))]
        );
        assert_eq!((of_a.worst[1].before.as_str(), of_a.worst[1].token.as_str()), (" 0 1 2", " 3"));
        let of_b = takes(&[(&b, &a)], 9);
        assert_eq!((of_b.positions, of_b.worst[0].position), (1, 2));
        assert_eq!(takes(&[(&a, &b)], 1).worst.len(), 1);
    }
}
