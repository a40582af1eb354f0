//! Positions of the same text where one setting's draft was taken and the other's was not.

use serde::Serialize;

use super::contexts::AROUND;
use super::{Couple, Course, Place};
use crate::telemetry::{Cause, MissSummary, Misses, TokenClass};

/// Tokens of the list of those missed most.
const WORST: usize = 10;

/// Positions by what one setting made of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Drafted and accepted.
    pub taken: usize,
    /// The tree held other tokens there alone.
    pub refused: usize,
    /// The tree ended before it.
    pub bonus: usize,
}

impl Row {
    fn add(&mut self, place: &Place) {
        match place {
            Place::Taken(_) => self.taken += 1,
            Place::Refused(_) => self.refused += 1,
            Place::Bonus(_) => self.bonus += 1,
        }
    }
}

/// The common positions, by what the first setting made of them and then by what the second did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// All of them.
    pub positions: usize,
    /// Taken by the first.
    pub taken: Row,
    /// Refused by it.
    pub refused: Row,
    /// Its bonus.
    pub bonus: Row,
}

/// Counts the positions that both texts of each couple have.
pub fn outcomes(couples: &[Couple]) -> Outcomes {
    let mut all = Outcomes::default();
    for (a, b) in couples {
        for (a, b) in a.places.iter().zip(&b.places) {
            all.positions += 1;
            let row = match a {
                Place::Taken(_) => &mut all.taken,
                Place::Refused(_) => &mut all.refused,
                Place::Bonus(_) => &mut all.bonus,
            };
            row.add(b);
        }
    }
    all
}

/// A position that one setting took and the other missed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Taken {
    /// The prompt's number.
    pub prompt: usize,
    /// The output's position, from 0.
    pub position: usize,
    /// The end of the output before it.
    pub before: String,
    /// The token.
    pub token: String,
    /// What came behind it.
    pub after: String,
    /// Depth at which the one took it, from 1.
    pub depth: usize,
    /// Tokens that the one took in a row from there on.
    pub run: usize,
    /// What the token looks like.
    pub class: TokenClass,
    /// Why the other missed it. None where it drafted nothing on purpose.
    pub cause: Option<Cause>,
    /// Depth at which the other missed it.
    pub missed_depth: Option<usize>,
    /// The token's probability in the law that is sampled from.
    pub p: Option<f64>,
}

/// All such positions of one direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Takes {
    /// How many.
    pub positions: usize,
    /// Of them, those where the other drafted nothing on purpose, or its text ended.
    pub not_drafted: usize,
    /// Why the other missed them, at which depth, on which tokens.
    pub misses: MissSummary,
    /// Those that cost the other most, by the tokens that the one took in a row from there on, then by p.
    pub worst: Vec<Taken>,
}

/// The positions that the `taker`s took and the `misser`s did not, of these couples (taker, misser), with at most `most` examples.
pub fn takes(couples: &[Couple], most: usize) -> Takes {
    let (mut all, mut misses) = (Takes::default(), Misses::default());
    let mut found: Vec<(usize, f64, &Course, usize, &Place, usize)> = Vec::new();
    for &(taker, misser) in couples {
        for (at, (here, there)) in taker.places.iter().zip(&misser.places).enumerate() {
            let Some(depth) = here.taken().filter(|_| there.taken().is_none()) else { continue };
            all.positions += 1;
            match there.miss() {
                Some(miss) => misses.add(miss, None),
                None => all.not_drafted += 1,
            }
            found.push((taker.run(at), there.miss().map_or(0.0, |miss| miss.p), taker, at, there, depth));
        }
    }
    found.sort_by(|x, y| y.0.cmp(&x.0).then(y.1.total_cmp(&x.1)));
    found.truncate(most);
    all.misses = MissSummary::of(&misses, WORST);
    all.worst = found.into_iter().map(|(run, _, course, at, there, depth)| taken(course, at, depth, run, there)).collect();
    all
}

fn taken(course: &Course, at: usize, depth: usize, run: usize, there: &Place) -> Taken {
    let token = course.names.get(at).cloned().unwrap_or_default();
    let miss = there.miss();
    Taken {
        prompt: course.prompt,
        position: at,
        before: course.before(at, AROUND),
        after: course.after(at, AROUND),
        depth,
        run,
        class: TokenClass::of(&token),
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

    fn course(places: Vec<Place>) -> Course {
        let names: Vec<String> = (0..places.len()).map(|i| format!(" {i}")).collect();
        Course { tokens: (0..places.len() as u32).collect(), texts: names.clone(), names, places, ..Course::new(1) }
    }

    #[test]
    fn positions_by_what_became_of_them() {
        let (know, rank) = (|| miss(4, 1, Cause::Knowledge), || miss(5, 2, Cause::Ranking));
        let a = course(vec![
            Place::Taken(1),
            Place::Taken(2),
            Place::Refused(rank()),
            Place::Taken(1),
            Place::Bonus(None),
            Place::Taken(1),
        ]);
        let b = course(vec![
            Place::Refused(know()),
            Place::Taken(1),
            Place::Taken(2),
            Place::Bonus(Some(rank())),
            Place::Bonus(None),
        ]);
        let counts = outcomes(&[(&a, &b)]);
        assert_eq!(counts.positions, 5);
        assert_eq!(counts.taken, Row { taken: 1, refused: 1, bonus: 1 });
        assert_eq!((counts.refused, counts.bonus), (Row { taken: 1, ..Row::default() }, Row { bonus: 1, ..Row::default() }));
        let of_a = takes(&[(&a, &b)], 9);
        assert_eq!((of_a.positions, of_a.not_drafted), (2, 0));
        assert_eq!((of_a.misses.causes.of(Cause::Knowledge), of_a.misses.causes.of(Cause::Ranking)), (1, 1));
        // The first cost two tokens, the other one.
        let worst: Vec<_> = of_a.worst.iter().map(|t| (t.position, t.run, t.depth, t.cause)).collect();
        assert_eq!(worst, [(0, 2, 1, Some(Cause::Knowledge)), (3, 1, 1, Some(Cause::Ranking))]);
        assert_eq!((of_a.worst[1].before.as_str(), of_a.worst[1].token.as_str()), (" 0 1 2", " 3"));
        let of_b = takes(&[(&b, &a)], 9);
        assert_eq!((of_b.positions, of_b.worst[0].position), (1, 2));
        assert_eq!(takes(&[(&a, &b)], 1).worst.len(), 1);
    }
}
