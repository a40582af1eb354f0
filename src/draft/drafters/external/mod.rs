//! External drafter: a child process, in any language, that answers with trees. Requests and
//! answers are lines of JSON (docs/external.md).

pub(crate) mod answer;
mod process;

pub use process::end_processes;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::draft::{
    Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind, Limits,
};
use crate::tree::{TokenId, TokenTree};
use process::{NoAnswer, Process};

/// Maximum number of late answers to earlier steps that are skipped in one step.
const MOST_LATE: usize = 64;

#[derive(Serialize)]
struct Request<'a> {
    step: usize,
    from: usize,
    tokens: &'a [TokenId],
    budget: usize,
    depth: usize,
    stop: &'a [TokenId],
}

/// Drafter that asks a child process once per step.
///
/// If an answer is invalid or late, the step has no draft, and the reason becomes the step's
/// notice.
#[derive(Debug)]
pub struct External {
    words: Vec<String>,
    limit: Duration,
    process: Option<Process>,
    /// True once the process has ended or could not be started.
    gone: bool,
    /// Number of the last request.
    step: usize,
    /// Number of the text's tokens that the process has received.
    sent: usize,
    /// Answered trees of this text, by its number of tokens, for [`Drafter::fork_at`].
    trees: HashMap<usize, TokenTree>,
    /// Answered tree of this step. `places` maps each node of the growing tree to its node in it.
    tree: Option<TokenTree>,
    places: HashMap<usize, Option<usize>>,
    notice: Option<String>,
}

impl External {
    /// Creates a drafter for the process `command`, with a time limit for each answer.
    ///
    /// The command is split at spaces, and quotes are respected; no shell is involved. The process
    /// is started on the first request.
    ///
    /// # Errors
    /// If the command is empty or a quote is not closed.
    pub fn new(command: &str, limit: Duration) -> Result<Self, DraftError> {
        let words = words(command).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| {
            DraftError::Unfit(format!(
                "the external drafter {command:?}: give a command, its quotes closed"
            ))
        })?;
        Ok(Self::with(words, limit))
    }

    fn with(words: Vec<String>, limit: Duration) -> Self {
        Self {
            words,
            limit,
            process: None,
            gone: false,
            step: 0,
            sent: 0,
            trees: HashMap::new(),
            tree: None,
            places: HashMap::new(),
            notice: None,
        }
    }

    /// Requests the tree of this step; returns the reason if there is none.
    fn request_tree(&mut self, request: &DraftRequest) -> Result<TokenTree, String> {
        let root = request.tokens.last().copied().unwrap_or_default();
        if self.gone {
            return Err("the external drafter has ended: nothing is drafted".into());
        }
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start(&self.words).inspect_err(|_| self.gone = true)?),
        };
        self.step += 1;
        let new = request.tokens.get(self.sent..).unwrap_or_default();
        let Limits { budget, depth } = request.limits;
        let line = Request {
            step: self.step,
            from: self.sent,
            tokens: new,
            budget,
            depth,
            stop: request.stop,
        };
        let line = serde_json::to_string(&line).map_err(|why| why.to_string())?;
        let answer = process.send_line(line).and_then(|()| {
            self.sent = request.tokens.len();
            let (began, mut late) = (Instant::now(), 0);
            loop {
                // The limit covers all lines of this step, even if they arrive faster than they are
                // read.
                let remaining =
                    self.limit.checked_sub(began.elapsed()).ok_or(NoAnswer::TimedOut)?;
                let line = process.receive_line(remaining)?;
                match answer::parse_answer(
                    &line,
                    root,
                    request.limits,
                    request.target.config().vocab,
                    request.stop,
                ) {
                    // Late answer to an earlier step.
                    Ok((step, _)) if step < self.step && late < MOST_LATE => late += 1,
                    Ok((step, _)) if step < self.step => {
                        break Ok(Err(format!(
                            "it answers step {step} again and again, and was asked for {}",
                            self.step
                        )));
                    }
                    Ok((step, _)) if step > self.step => {
                        break Ok(Err(format!(
                            "it answers step {step}, and was asked for {}",
                            self.step
                        )));
                    }
                    Ok((_, tree)) => break Ok(tree),
                    Err(why) => break Ok(Err(why)),
                }
            }
        });
        match answer {
            Ok(tree) => tree.map_err(|why| format!("external drafter: {why}")),
            Err(NoAnswer::TimedOut) => Err(format!(
                "external drafter: no answer within its time limit of {} s",
                self.limit.as_secs_f64()
            )),
            Err(NoAnswer::NotReading) => {
                Err("external drafter: it does not read what it is told".into())
            }
            Err(NoAnswer::NotText) => {
                Err("external drafter: it answers with bytes that are not UTF-8 text".into())
            }
            Err(NoAnswer::Exited) => {
                (self.gone, self.process) = (true, None);
                Err(format!(
                    "external drafter: {} has ended: nothing is drafted any more",
                    self.words[0]
                ))
            }
        }
    }
}

impl Drafter for External {
    fn info(&self) -> DrafterInfo {
        let cost = format!("the process {}, asked once a step", self.words.join(" "));
        DrafterInfo::new(DrafterKind::External, cost)
    }

    fn reset(&mut self) {
        self.sent = 0;
        self.trees.clear();
    }

    fn begin(&mut self, request: &mut DraftRequest) -> Result<(), DraftError> {
        self.places.clear();
        self.tree = self.trees.get(&request.tokens.len()).cloned();
        // The budget is 1 while a prompt is read; no tree is requested then.
        if request.limits.budget > 1
            && request.limits.depth > 0
            && self.tree.is_none()
            && !self.words.is_empty()
        {
            match self.request_tree(request) {
                Ok(tree) => {
                    self.trees.insert(request.tokens.len(), tree.clone());
                    self.tree = Some(tree);
                }
                Err(why) => self.notice = Some(why),
            }
        }
        Ok(())
    }

    fn propose(
        &mut self,
        _: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let Some(own) = &self.tree else { return Ok(vec![Vec::new(); nodes.len()]) };
        let mut all = Vec::with_capacity(nodes.len());
        for &node in nodes {
            let place = match tree.parent(node) {
                None => Some(0),
                // The process knows nothing about nodes of other drafters.
                Some(parent) => self
                    .places
                    .get(&parent)
                    .copied()
                    .flatten()
                    .and_then(|above| own.child(above, tree.token(node))),
            };
            self.places.insert(node, place);
            let below = place.into_iter().flat_map(|place| own.children(place));
            let mut best: Vec<Candidate> =
                below.map(|i| Candidate { token: own.token(i), q: own.q(i) }).collect();
            best.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.token.cmp(&b.token)));
            best.truncate(width);
            all.push(best);
        }
        Ok(all)
    }

    fn notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        // Without a command no process is started; the stored answers are all that is needed.
        Ok(Box::new(External {
            trees: self.trees.clone(),
            ..External::with(Vec::new(), self.limit)
        }))
    }
}

/// Splits a command at spaces, except inside single or double quotes. Returns `None` if a quote is
/// not closed.
fn words(command: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote): (Vec<String>, Option<String>, Option<char>) =
        (Vec::new(), None, None);
    for c in command.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::draft::shape::grow;
    use crate::draft::{Plan, Shape};
    use crate::engine::testing::TableDecoder;

    /// Runs a process with this script for two steps. Returns the number of drafted nodes and the
    /// notice of each step.
    fn drafted(script: &str) -> Vec<(usize, Option<String>)> {
        let mut external = External::with(
            ["sh", "-c", script].map(String::from).to_vec(),
            Duration::from_secs(20),
        );
        let mut target = TableDecoder::new(8, 0);
        let texts: [&[TokenId]; 2] = [&[1, 2], &[1, 2, 3]];
        texts
            .map(|tokens| {
                let mut request = DraftRequest {
                    stop: &[0],
                    limits: Limits { budget: 4, depth: 3 },
                    ..DraftRequest::new(tokens, &mut target)
                };
                let draft =
                    grow(Shape::BestFirst, &mut external, &mut request, &Plan::default()).unwrap();
                (draft.tree.drafted(), external.notice())
            })
            .to_vec()
    }

    #[test]
    fn commands_are_split_into_words() {
        assert_eq!(words("a  'b c' \"d'\"e ''").unwrap(), ["a", "b c", "d'e", ""]);
        assert_eq!((words(" ").unwrap().len(), words("a 'b")), (0, None));
        assert!(
            External::new("", Duration::from_secs(1)).is_err()
                && External::new("'", Duration::from_secs(1)).is_err()
        );
    }

    #[test]
    fn invalid_answer_or_exit_costs_only_the_draft() {
        let good =
            r#"read a; echo '{"step":1,"tree":{"parents":[0,1],"tokens":[3,4],"q":[0.5,0.5]}}'"#;
        // In step 2, the late answer to step 1 is skipped.
        let late = r#"; read a; echo '{"step":1,"tree":{"parents":[],"tokens":[],"q":[]}}'; echo '{"step":2,"tree":{"parents":[0],"tokens":[5],"q":[1]}}'; read a"#;
        assert_eq!(drafted(&format!("{good}{late}")), [(2, None), (1, None)]);
        let said = drafted(&format!("{good}; read a; echo nonsense; read a"));
        assert!(
            said[0] == (2, None)
                && said[1].0 == 0
                && said[1].1.as_ref().unwrap().contains("docs/external.md"),
            "{said:?}"
        );
        let said = drafted("exit 3");
        assert!(
            said.iter().all(
                |(drafted, notice)| *drafted == 0 && notice.as_ref().unwrap().contains("ended")
            ),
            "{said:?}"
        );
    }

    #[test]
    fn unasked_answers_end_the_step() {
        let answer = r#"{"step":0,"tree":{"parents":[],"tokens":[],"q":[]}}"#;
        for (script, says) in [
            (format!("yes '{answer}'"), "answers step 0 again and again"),
            ("yes".to_owned(), "docs/external.md"),
        ] {
            let said = drafted(&script);
            assert!(
                said.iter()
                    .all(|(drafted, notice)| *drafted == 0
                        && notice.as_ref().unwrap().contains(says)),
                "{said:?}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named_and_the_process_lives_on() {
        let script = r#"read a; printf '\377\n'; read a; echo '{"step":2,"tree":{"parents":[0],"tokens":[5],"q":[1]}}'; read a"#;
        let said = drafted(script);
        assert!(said[0].1.as_ref().is_some_and(|notice| notice.contains("not UTF-8")), "{said:?}");
        assert_eq!(said[1], (1, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_the_process_has_started_ends_with_it() {
        let marker = format!("77.{}", std::process::id());
        // Both before an answer and while the process lives on.
        drafted(&format!("sleep {marker} & sleep {marker}; true & exit 0"));
        let running = || {
            let all = std::fs::read_dir("/proc").unwrap().flatten();
            let line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
            let named = |line: &Vec<u8>| {
                String::from_utf8_lossy(line).split('\0').any(|word| word == marker)
            };
            all.filter_map(line).filter(named).count()
        };
        // Processes that were killed vanish once their new parent has waited for them.
        for _ in 0..500 {
            if running() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} processes are left", running());
    }

    #[test]
    fn missing_program_is_reported() {
        let mut external = External::new("/no/such/program", Duration::from_secs(1)).unwrap();
        let mut target = TableDecoder::new(8, 0);
        let mut request = DraftRequest::new(&[1], &mut target);
        request.limits = Limits { budget: 4, depth: 3 };
        external.begin(&mut request).unwrap();
        assert!(external.notice().unwrap().contains("/no/such/program can't be started"));
    }
}
