//! Test helpers: records built by hand, and invalid JSON values for schema tests.

use serde_json::Value;

use super::{
    Ceilings, Miss, MissCause, StageTimes, StepRecord, StepSettings, TokenClass, TreeRecord,
};
use crate::draft::Shape;

/// Builds a tree from (parent, p) of each drafted node.
pub fn tree(nodes: &[(usize, f64)]) -> TreeRecord {
    let mut tree = TreeRecord {
        tokens: vec![0],
        text: vec!["".into()],
        parents: vec![None],
        depth: vec![0],
        p: vec![1.0],
        accept: Vec::new(),
        p_plain: vec![1.0],
        q: vec![1.0],
        calibrated: vec![1.0],
        origin: vec![None],
        members: vec!["ngram".into()],
        rank: vec![0],
        cut: vec![],
    };
    for (i, &(parent, p)) in nodes.iter().enumerate() {
        tree.tokens.push(i as u32 + 1);
        tree.text.push(format!(" {i}"));
        tree.parents.push(Some(parent));
        tree.depth.push(tree.depth[parent] + 1);
        tree.p.push(p);
        tree.p_plain.push(p);
        tree.q.push(p);
        tree.calibrated.push(p);
        tree.origin.push(Some(0));
        tree.rank.push(0);
    }
    tree
}

/// Builds a chain whose nodes have these p.
pub fn chain(p: &[f64]) -> TreeRecord {
    tree(&p.iter().copied().enumerate().collect::<Vec<_>>())
}

/// Builds a record of a step at temperature 1 and `budget` that accepted `path`.
pub fn record(tree: TreeRecord, path: &[usize], budget: usize) -> StepRecord {
    let mut pi = vec![1.0];
    for i in 1..tree.p.len() {
        pi.push(pi[tree.parents[i].unwrap_or(0)] * tree.p[i]);
    }
    StepRecord {
        prompt_id: "0".into(),
        step: 0,
        repeated: false,
        position: 1,
        settings: StepSettings::new("ngram", Shape::Chain, budget, 1.0),
        choice: None,
        path: path.to_vec(),
        accepted: path.len(),
        bonus: 0,
        bonus_text: String::new(),
        bonus_rank: 0,
        bonus_q: None,
        overlap: vec![],
        rule_ceiling: None,
        emitted: vec![0; path.len() + 1],
        emitted_text: vec![String::new(); path.len() + 1],
        expected_accepted: pi[1..].iter().sum::<f64>() + 0.0,
        capacity: None,
        notice: None,
        miss: None,
        entropy: vec![],
        time: StageTimes::default(),
        mu: 0.0,
        mu2: 0.0,
        ceilings: Ceilings { batch: budget as f64 - 1.0, ..Ceilings::default() },
        reached: None,
        tree,
    }
}

/// Builds a miss of `token` at `depth` with this cause.
pub fn miss(token: u32, depth: usize, cause: MissCause) -> Miss {
    Miss {
        depth,
        token,
        text: format!(" t{token}"),
        class: TokenClass::WordStart,
        p: 0.2,
        p_plain: Some(0.2),
        pi: 0.1,
        rank: 1,
        q: None,
        draft_rank: None,
        asked: matches!(cause, MissCause::Knowledge | MissCause::Vocabulary),
        outside_vocabulary: Some(cause == MissCause::Vocabulary),
        target_best: Vec::new(),
        draft_best: Vec::new(),
        cause,
    }
}

/// Returns copies of `value` with one error each.
///
/// A key is missing, renamed, or added, or a leaf has another type.
pub fn invalid_variants(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    match value {
        Value::Object(map) => {
            let mut more = map.clone();
            more.insert("surplus".into(), Value::Null);
            all.push(("surplus".to_owned(), Value::Object(more)));
            for (key, inner) in map {
                let mut less = map.clone();
                less.remove(key);
                all.push((format!("no {key}"), Value::Object(less.clone())));
                less.insert(format!("{key}s"), inner.clone());
                all.push((format!("{key}s"), Value::Object(less)));
                for (how, wrong) in invalid_variants(inner) {
                    let mut map = map.clone();
                    map.insert(key.clone(), wrong);
                    all.push((format!("{key}: {how}"), Value::Object(map)));
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (how, wrong) in invalid_variants(&list[list.len() - 1]) {
                let mut list = list.clone();
                *list.last_mut().unwrap() = wrong;
                all.push((format!("last: {how}"), Value::Array(list)));
            }
        }
        Value::Array(_) => all.push(("number".into(), Value::from(1))),
        _ => all.push(("list".into(), Value::Array(Vec::new()))),
    }
    all
}
